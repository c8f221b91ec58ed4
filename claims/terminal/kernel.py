"""Which kernel the flows of this run use, in a line."""

from __future__ import annotations

from importlib.util import find_spec


def kernel_line() -> str:
    """Says which, and for the plain path why it is taken and what to do about it."""
    # Looked for, not imported: the workers do that.
    if find_spec("numba") is not None:
        return "Flows: the compiled kernel where it applies."
    return (
        "Flows: the plain path, about three times slower, for numba is not installed "
        "(pip install 'paper-checks[fast]')."
    )
