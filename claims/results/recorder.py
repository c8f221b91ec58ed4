"""Writing results as they come, and reading them back.

``results.json`` holds everything that is said of a run, ``evidence/<kind>/<claim id>.npz`` the
arrays. Both are written atomically, claim by claim, and never read half.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from claims.registry import Verdict
from claims.results.evidence_file import evidence_name, labelled_arrays, write_arrays
from claims.results.provenance import kind
from claims.results.recorded import Earlier, Outcome, Recorded, Results, recorded
from claims.results.schema import SCHEMA, decode, decode_run, encode
from claims.results.strict_json import ResultsError, read_json, write_json

FILE = "results.json"
# The last results of a kind, a tier mostly, that were followed by a run of another one.
ASIDE = "results-{}.json"


class NotRecorded(Exception):
    """What came of a claim cannot be written, for the reason given; what was written stands."""


@contextmanager
def sole_recorder(out: Path) -> Iterator[None]:
    """Nobody else records into ``out``, which is made where it is missing, meanwhile.

    Raises ResultsError where somebody does. Where there are no locks on folders nobody is known.
    """
    out.mkdir(parents=True, exist_ok=True)
    with ExitStack() as held:
        with suppress(ImportError, OSError):
            import fcntl

            # Of the folder, so that nothing is left in it; it ends with this process at the latest.
            folder = os.open(out, os.O_RDONLY)
            held.callback(os.close, folder)
            try:
                fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ResultsError(
                    f"another run records into {str(out)!r}; wait for its end, or give each a "
                    "folder of its own"
                ) from None
        yield


class Recorder:
    """Writes outcomes as they come.

    ``order`` gives the ids in the registry's order, in which they stand in the file whatever the
    order they are recorded in; ``kept`` are claims of an earlier run that this one goes on with.
    A results file that is there already is replaced, or set aside where it is of another kind, when
    the first claim is recorded.
    """

    def __init__(
        self,
        out: Path,
        run: Mapping[str, Any],
        order: Sequence[str] = (),
        kept: Sequence[Recorded] = (),
    ) -> None:
        self._out = out
        self._run = {"finished": None, "seconds": 0.0, **run}
        self._order = {identifier: place for place, identifier in enumerate(order)}
        self._recorded = {claim.id: claim for claim in kept}
        self._kind = kind(self._run)
        self._begun = False
        self._seconds_before = float(self._run["seconds"])
        self._start = time.perf_counter()

    def record(self, outcome: Outcome) -> Recorded:
        """Write the evidence and then the results. What was recorded before is never lost.

        Raises NotRecorded where they cannot be written.
        """
        arrays = labelled_arrays(outcome.evidence, outcome.controls)
        name = evidence_name(outcome.claim.id, self._kind)
        written = recorded(outcome, self._out, name if arrays else None)
        with self._writing():
            self._begin()
            if arrays:
                write_arrays(self._out / name, arrays)
            else:
                (self._out / name).unlink(missing_ok=True)
            self._write(self._recorded | {written.id: written})
        return written

    def finish(self) -> Results:
        """Note that the run came to its end. Raises NotRecorded as ``record`` does."""
        self._run["finished"] = datetime.now(UTC).isoformat(timespec="seconds")
        with self._writing():
            self._begin()
            self._write(self._recorded)
        return self.results

    @property
    def results(self) -> Results:
        """What was recorded up to now."""
        return Results(dict(self._run), tuple(self._recorded.values()))

    def _begin(self) -> None:
        if not self._begun:
            set_aside(self._out, self._kind, goes_on=bool(self._recorded))
            self._begun = True

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            self._out.mkdir(parents=True, exist_ok=True)
            yield
        except OSError as error:
            raise NotRecorded(f"{self._out} cannot be written: {error.strerror}") from error

    def _write(self, claims: Mapping[str, Recorded]) -> None:
        """What is on the disk is what counts as recorded."""
        self._run["seconds"] = self._seconds_before + time.perf_counter() - self._start
        last = len(self._order)
        ordered = sorted(claims.values(), key=lambda claim: self._order.get(claim.id, last))
        content = {"schema": SCHEMA, "run": self._run, "claims": [*map(encode, ordered)]}
        write_json(self._out / FILE, content)
        # Of one kind the newest results are there, once.
        (self._out / ASIDE.format(self._kind)).unlink(missing_ok=True)
        self._recorded = {claim.id: claim for claim in ordered}


def read_results(out: Path) -> Results:
    """The results in the folder ``out``, with what skipped claims came to in runs of other kinds.

    Raises ResultsError, naming the file and what is wrong with it, where it is missing, damaged
    or of another schema.
    """
    results = _read(out / FILE)
    skipped = {claim.id for claim in results if claim.verdict is Verdict.SKIPPED}
    earlier: dict[str, Earlier] = {}
    if skipped:
        runs = [_read(path) for path in sorted(out.glob(ASIDE.format("*")))]
        for run in sorted(runs, key=lambda run: str(run.run["started"])):
            earlier.update(
                (claim.id, Earlier(run.run, claim))
                for claim in run
                if claim.id in skipped and claim.verdict not in (Verdict.SKIPPED, Verdict.ERROR)
            )
    return Results(results.run, results.claims, earlier)


def previous_seconds(out: Path, run: Mapping[str, Any]) -> dict[str, float]:
    """How long claims took, by id, in the last run in ``out``, where it was of the kind of ``run``.

    To start the longest first: as only the order hangs on it, damaged results say nothing.
    """
    try:
        previous = _last_of(out, kind(run))
    except ResultsError:
        return {}
    return {claim.id: claim.seconds for claim in previous or ()}


def resumable(out: Path, run: Mapping[str, Any]) -> Results | None:
    """What a run with this header may go on with: the last results of its kind.

    Where there are none those of another kind, which it may not; None where there are none at all.

    Raises ResultsError as :func:`read_results` does.
    """
    own = _last_of(out, kind(run))
    return own if own is not None or not (out / FILE).exists() else _read(out / FILE)


def _last_of(out: Path, wanted: str) -> Results | None:
    """The last results of a kind, which those of another may have followed."""
    for path in (out / FILE, out / ASIDE.format(wanted)):
        if path.exists() and kind((results := _read(path)).run) == wanted:
            return results
    return None


def set_aside(out: Path, coming: str, goes_on: bool) -> None:
    """Make room for the results of a run of a kind: those of another kind get a name of theirs.

    So what a tier or a device can run and another skips is not lost, and an interrupted run can be
    gone on with after one of another kind. Old results of the same kind, but for those that a run
    goes on with, must not be left to point at the new evidence. Damaged results are removed.
    """
    path = out / FILE
    try:
        before = kind(_read(path).run)
    except ResultsError:
        path.unlink(missing_ok=True)
        return
    if before != coming:
        path.replace(out / ASIDE.format(before))
    elif not goes_on:
        path.unlink()


def _read(path: Path) -> Results:
    content = read_json(path)
    schema = content["schema"].integer()
    if schema != SCHEMA:
        raise ResultsError(f"{path} has schema {schema}; this version reads schema {SCHEMA}")
    run = decode_run(content["run"])
    claims: dict[str, Recorded] = {}
    for node in content["claims"]:
        claim = decode(node, path.parent, kind(run))
        if claim.id in claims:
            raise node["id"].damaged("an id that no other claim has")
        claims[claim.id] = claim
    return Results(run, tuple(claims.values()))
