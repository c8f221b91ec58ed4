"""The arrays behind a claim, in one .npz file per claim."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from claims.registry import Evidence
from claims.requirements import require_id
from claims.results.strict_json import ResultsError
from simulate.atomic import write_atomically

Arrays = dict[str, NDArray[Any]]


def evidence_name(identifier: str, kind: str) -> str:
    """Where the evidence of a claim lies, from the output folder on.

    Runs of another kind, a tier mostly, have theirs elsewhere: none takes another's away.
    """
    require_id(identifier)
    return f"evidence/{kind}/{identifier}.npz"


def labelled_arrays(evidence: Evidence | None, controls: Mapping[str, Evidence]) -> Arrays:
    """Every array under its key: ``check/<array>`` and ``control/<control name>/<array>``."""
    labelled: Arrays = {}
    parts = {f"control/{name}": control for name, control in controls.items()}
    for prefix, part in (({"check": evidence} if evidence else {}) | parts).items():
        labelled.update({f"{prefix}/{name}": array for name, array in part.arrays.items()})
    return labelled


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write ``arrays`` atomically."""
    write_atomically(path, lambda stream: np.savez(stream, **dict(arrays)))  # type: ignore[arg-type]


def read_arrays(path: Path) -> Arrays:
    """Every array of ``path``. Raises ResultsError where the file is missing or damaged."""
    try:
        # numpy leaves a file that it opened itself open when it proves to be damaged.
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files}
    except FileNotFoundError:
        raise ResultsError(f"{path} does not exist, though the results refer to it") from None
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise ResultsError(f"{path} is damaged: {error}") from error
