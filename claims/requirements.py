"""What is handed over where a claim is declared or measures: it is as expected, or is told."""

from __future__ import annotations

import re
from typing import Any

import numpy as np


def require_id(identifier: str) -> None:
    """Raise ValueError unless it can be a file's name, which must not lead out of its folder."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", identifier):
        raise ValueError(
            f"claim id {identifier!r}: letters, digits, '.', '_' and '-' were expected, 100 at most"
        )


def real_number(what: str, given: Any) -> float:
    """A float of anything that is one real number; complex ones would lose a part."""
    try:
        if isinstance(given, str | bytes | complex | np.complexfloating):
            raise TypeError
        return float(given)
    except (TypeError, ValueError, RuntimeError):
        kind = type(given).__name__
        raise TypeError(
            f"{what}: one real number is expected; given {given!r:.80}, of type {kind}"
        ) from None


def require_function(what: str, given: Any) -> None:
    """Raise TypeError unless it can be called."""
    if not callable(given):
        raise TypeError(f"{what} is to be a function of a Setting; given {given!r:.80}")
