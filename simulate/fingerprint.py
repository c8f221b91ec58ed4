"""What the numbers of a run hang on beside its arguments: our code and torch's version."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Iterable, Mapping
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


def file_digest(make: Callable[..., Any]) -> str | None:
    """SHA-256 of the file that a class or function is in; None where the fingerprint has it.

    What that file imports is not looked at.

    Raises:
        ValueError: a lambda, a function within another, anything else that its module does not
            have by its name, or a module without a file: the name would not stand for it.
    """
    name = getattr(make, "__qualname__", None)
    module = sys.modules.get(getattr(make, "__module__", None) or "")
    file = getattr(module, "__file__", None)
    if name is None or file is None or getattr(module, name, None) is not make:
        raise ValueError(
            f"a class or function that a file has by its name is expected, got {make!r}; put it "
            "into a module, and what it closes over into its arguments"
        )
    if make.__module__.split(".")[0] in ROOMS:
        return None
    return hashlib.sha256(Path(file).read_bytes()).hexdigest()


def name_of(made_by: Mapping[str, Any]) -> str:
    """32 hexadecimal digits that stand for plain values by name: of a file that keeps results."""
    return hashlib.sha256(json.dumps(made_by, sort_keys=True).encode()).hexdigest()[:32]


def forget(folder: Path) -> None:
    """Remove the files of a folder that are kept under such a name, of whatever ending."""
    for file in folder.glob(f"{32 * '[0-9a-f]'}.*"):
        file.unlink()
