"""What the numbers of a run hang on beside its arguments: our code and torch's version."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOMS = ("geometry", "simulate")


@cache
def fingerprint() -> str:
    """SHA-256 of the source of `geometry` and `simulate`, torch's and numpy's versions.

    What was computed under another fingerprint is not gone on with: a mended optimiser has other
    numbers under the same name.
    """
    made = f"torch {version('torch')} numpy {version('numpy')} {source_digest(ROOMS)}"
    return hashlib.sha256(made.encode()).hexdigest()


def source_digest(rooms: Iterable[str]) -> str:
    """SHA-256 of the source of rooms of this house, as it lies on the disk now."""
    root, digest = Path(__file__).parent.parent, hashlib.sha256()
    for room in rooms:
        for path in sorted((root / room).rglob("*.py")):
            digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def name_of(made_by: Mapping[str, Any]) -> str:
    """32 hexadecimal digits that stand for plain values by name: of a file that keeps results."""
    return hashlib.sha256(json.dumps(made_by, sort_keys=True).encode()).hexdigest()[:32]


def forget(folder: Path) -> None:
    """Remove the files of a folder that are kept under such a name, of whatever ending."""
    for file in folder.glob(f"{32 * '[0-9a-f]'}.*"):
        file.unlink()
