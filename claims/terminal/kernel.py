"""Which kernel the flows of this run use, in a line."""

from __future__ import annotations

from flows.compiled import why_unavailable


def kernel_line() -> str:
    """Says which, and for the plain path why it is taken and what to do about it."""
    reason = why_unavailable()
    if reason is None:
        return "Flows: the compiled kernel where it applies."
    return f"Flows: the plain path, about three times slower; {reason}"
