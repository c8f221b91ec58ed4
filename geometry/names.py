"""Names that are not in a table: what was given, what there is, what is nearest. Needs no torch."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

# More are not read.
LISTED = 20


def unknown_name(kind: str, given: str, known: Iterable[str]) -> ValueError:
    """Return (not raise) the error for a name that is not in a table.

    Args:
        kind: what the name should name, in the singular, such as "method".
        given: the name that was given.
        known: the names that exist.
    """
    names = sorted(known)
    by_nearness = difflib.get_close_matches(str(given), names, n=4, cutoff=0.0)
    told, shown = "", names
    if len(names) > LISTED:
        told, shown = f"{len(names)}, such as ", by_nearness
    message = f"unknown {kind} {given!r}; expected one of {told}{', '.join(map(repr, shown))}"
    nearest = difflib.get_close_matches(str(given), names, n=1, cutoff=0.4)
    if nearest:
        message += f"; did you mean {nearest[0]!r}?"
    return ValueError(message)
