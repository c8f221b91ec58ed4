"""Parameters of one group that are alike, stacked so that one batched call serves them all."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from simulate.optimizers.failed_step import NOT_FINITE, NotFiniteError, of_member


@dataclass(frozen=True)
class ParameterStack:
    """k parameters that agree in shape, dtype, device and memory order, with their gradients.

    Attributes:
        options: of their parameter group.
        group: the index of that group.
        indices: where in the group they are.
        parameters: k tensors (..., m, n), or (..., n_1, ..., n_d).
        order: d, of how many last dimensions a member is made.
    """

    options: Mapping[str, Any]
    group: int
    indices: tuple[int, ...]
    parameters: tuple[Tensor, ...]
    order: int = 2

    @cached_property
    def weights(self) -> Tensor:
        """(k, ..., m, n); to be read only, for the stack of one is the parameter itself."""
        return stacked(self.parameters)

    @cached_property
    def gradients(self) -> Tensor:
        """(k, ..., m, n); to be read only."""
        return stacked([p.grad for p in self.parameters if p.grad is not None])

    def require_finite(self, what: str, values: Tensor, steps: Sequence[int]) -> None:
        """Raise NotFiniteError for NaN or infinity, saying where (waits for the device).

        Args:
            what: what the values are, a name in ``NOT_FINITE``.
            values: (k, ..., m, n).
            steps: k numbers, the step that each parameter is about to take.
        """
        # One pass: a sum is finite only if every entry is. It may overflow, hence the closer look.
        if math.isfinite(values.sum()):
            return
        finite = torch.isfinite(values)
        if bool(finite.all()):
            return
        first = int((~finite).flatten(1).any(1).nonzero()[0])
        bad = ~finite[first]
        message = (
            f"the {what} of parameter {self.indices[first]} of group {self.group}, "
            f"shape {tuple(bad.shape)}, must be finite, got {int(bad.sum())} NaN or infinite "
            f"entries of {bad.numel()}"
        )
        ensemble = bad.ndim > self.order
        if ensemble:
            member = tuple(bad.flatten(-self.order).any(-1).nonzero()[0].tolist())
            message += f", the first of them in ensemble member {member}"
        members = bad.flatten(1).any(1).nonzero().flatten().tolist() if ensemble else []
        raise NotFiniteError(
            f"{message}, at step {steps[first]}; nothing was updated",
            dict.fromkeys(members, NOT_FINITE[what]),
        )

    @property
    def members(self) -> int | None:
        """Of an ensemble, the first dimension of a parameter; None where it is one matrix."""
        p = self.parameters[0]
        return len(p) if p.ndim > self.order else None

    def of_member(self, member: int) -> ParameterStack:
        """The stack as it would be of one member alone, without gradients."""
        options = of_member(self.options, self.parameters[0].shape[: -self.order], member)
        parameters = tuple(p.detach()[member : member + 1] for p in self.parameters)
        return replace(self, options=options, parameters=parameters)


def require_dense(gradient: Tensor, name: str) -> None:
    """Raise ValueError for the sparse gradient of a parameter, called by its name."""
    if gradient.layout is not torch.strided:
        raise ValueError(f"the gradient of {name} must be dense, got {gradient.layout}")


def stacked(tensors: Sequence[Tensor]) -> Tensor:
    """torch.stack that keeps the memory order of the matrices, along which sums are taken."""
    if len(tensors) == 1:
        return tensors[0].unsqueeze(0)
    if by_columns(tensors[0]):
        return torch.stack([tensor.mT for tensor in tensors]).mT
    return torch.stack(list(tensors))


def by_columns(tensor: Tensor) -> bool:
    """Whether the entries of a column are closer together in memory than those of a row."""
    return tensor.stride(-2) < tensor.stride(-1)


def stacks_of(
    group: int, options: Mapping[str, Any], order_of: Callable[[Tensor], int]
) -> Iterator[ParameterStack]:
    """The parameters of a group that have gradients, in stacks of those that are alike.

    Args:
        order_of: of how many last dimensions of a parameter a member is made.

    Raises:
        ValueError: for a sparse gradient.
    """
    alike: dict[tuple[object, ...], list[int]] = {}
    parameters = options["params"]
    for index, p in enumerate(parameters):
        G = p.grad
        if G is None:
            continue
        require_dense(G, f"parameter {index} of group {group}")
        key = (p.shape, p.dtype, p.device, G.dtype, by_columns(p), by_columns(G))
        alike.setdefault(key, []).append(index)
    for indices in alike.values():
        members = tuple(parameters[index] for index in indices)
        yield ParameterStack(options, group, tuple(indices), members, order_of(members[0]))
