"""What an optimiser raises where a step cannot be made, and how it finds out by whose fault."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, TypeVar

import torch
from torch import Tensor

from geometry.errors import NotFiniteInputError, RankError

Result = TypeVar("Result")

# What geometry and LAPACK raise for a whole batch because of some of its matrices.
OF_MATRICES: tuple[type[Exception], ...] = (torch.linalg.LinAlgError, NotFiniteInputError)  # type: ignore[attr-defined]

# What is recorded of a member, by what of it is not finite.
NOT_FINITE: Mapping[str, str] = MappingProxyType(
    {
        "gradient": "the gradient has NaN or infinite entries",
        # Gradients are looked at before.
        "new value": "the update overflows",
    }
)


class FailedStepError(ValueError):
    """A step that cannot be made; nothing was updated.

    Attributes:
        reasons: by member, an index into the first dimension of the parameter, why; empty for a
            parameter that is one matrix.
    """

    def __init__(self, message: str, reasons: Mapping[int, str] = MappingProxyType({})) -> None:
        super().__init__(message)
        self.reasons = dict(sorted(reasons.items()))

    @property
    def members(self) -> tuple[int, ...]:
        """Those that cannot make the step, ascending."""
        return tuple(self.reasons)


class NotFiniteError(FailedStepError):
    """A gradient, a new value or something on the way to it that is not finite."""


class FactorizationError(FailedStepError):
    """A factorisation that has no answer: it does not converge, or a factor has lost its rank."""


def naming_members(
    whole: Callable[[], Result],
    alone: Callable[[int], object],
    members: int | None,
    what: str,
    failures: tuple[type[Exception], ...] = OF_MATRICES,
) -> Result:
    """The update of a stack; where it fails, the error names the members that fail alone too.

    A batched factorisation raises for its whole batch where one matrix does not converge. An update
    that succeeds costs nothing more; after one that failed, that of every member is computed once
    more, alone.

    Args:
        whole: computes the update; it must change nothing.
        alone: computes that of one member.
        members: how many there are; None for parameters that are one matrix.
        what: is being updated, for the message.
        failures: of matrices; everything else is raised as it is.

    Raises:
        NotFiniteError, FactorizationError: as said. What ``whole`` raised, where no member fails
            alone.
    """
    try:
        return whole()
    except failures as error:
        reasons: dict[int, str] = {}
        of_one: tuple[type[Exception], ...] = (*failures, FailedStepError)
        for member in range(members or 0):
            try:
                alone(member)
            except of_one as its:
                reasons[member] = _in_words(its)
        if members is not None and not reasons:
            raise
        found = f" in members {[*reasons]}" if reasons else ""
        message = f"{what}: {_in_words(error)}{found}; nothing was updated"
        kind = NotFiniteError if isinstance(error, NotFiniteInputError) else FactorizationError
        raise kind(message, reasons) from error


def of_member(options: Mapping[str, Any], batch: tuple[int, ...], member: int) -> dict[str, Any]:
    """Options as one member has them: of tensors its part, all else as it is.

    Args:
        batch: the leading dimensions of a parameter, to which tensors of a group broadcast.
    """
    return {
        name: value.expand(batch)[member : member + 1]
        if isinstance(value, Tensor) and value.ndim
        else value
        for name, value in options.items()
    }


def _in_words(error: Exception) -> str:
    """What is recorded of a member."""
    if isinstance(error, FailedStepError):
        return next(iter(error.reasons.values()), str(error))
    if isinstance(error, NotFiniteInputError):
        return NOT_FINITE["new value"]
    if isinstance(error, RankError):
        return "a factor has lost its rank"
    # LAPACK counts from 0 in every batch.
    said = re.sub(r"\(Batch element \d+\): ", "", str(error)).splitlines()[0]
    return f"a factorisation failed: {said.rstrip('.')}"
