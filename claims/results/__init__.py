"""Results on disk: the one room that writes them and reads them back."""

from claims.results.provenance import OWN, kind_of, place_of
from claims.results.recorded import Earlier, Outcome, Recorded, RecordedControl, Results
from claims.results.recorder import (
    NotRecorded,
    Recorder,
    previous_seconds,
    read_results,
    resumable,
    sole_recorder,
)
from claims.results.strict_json import ResultsError
from simulate.atomic import write_atomically
from simulate.fingerprint import forget

__all__ = [
    "OWN",
    "Earlier",
    "NotRecorded",
    "Outcome",
    "Recorded",
    "RecordedControl",
    "Recorder",
    "Results",
    "ResultsError",
    "forget",
    "kind_of",
    "place_of",
    "previous_seconds",
    "read_results",
    "resumable",
    "sole_recorder",
    "write_atomically",
]
