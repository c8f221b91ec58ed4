"""What an optimiser raises where NaN or infinity comes in or would come out."""

from __future__ import annotations


class NotFiniteError(ValueError):
    """A gradient or a new value that is not finite; nothing was updated.

    Attributes:
        members: whose they are, indices into the first dimension of the parameter; empty for a
            parameter that is one matrix.
    """

    def __init__(self, message: str, members: list[int]) -> None:
        super().__init__(message)
        self.members = tuple(sorted(set(members)))
