"""An ensemble stepped by optimisers that know no ensembles: one for every member."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

# A parameter (..., m, n), or a pair of them.
Given = Tensor | tuple[Tensor, ...]


class OneByOne(Optimizer):
    """Members of (..., m, n) parameters, each with an optimiser of its own for its matrices.

    For optimisers written by others, which take matrices and nothing before them. A member's
    parameters are views of the stacked ones, so every step moves both.

    Args:
        given: parameters (..., m, n) or pairs of them, all with the same leading dimensions.
        make: the optimiser of one member, from a list of the same structure with matrices (m, n).

    Raises:
        ValueError: nothing given, leading dimensions that differ, or a parameter that has no
            gradient when a step is taken.
    """

    def __init__(self, given: Sequence[Given], make: Callable[[list[Any]], Optimizer]) -> None:
        stacked = [p for each in given for p in (each if isinstance(each, tuple) else (each,))]
        super().__init__(stacked, {})
        leading = stacked[0].shape[:-2]
        for p in stacked:
            if p.ndim < 2 or p.shape[:-2] != leading:
                raise ValueError(
                    f"matrices with the leading dimensions {tuple(leading)} are expected; given "
                    f"shape {tuple(p.shape)}"
                )
        self._stacked = stacked
        self._members: list[tuple[tuple[int, ...], list[nn.Parameter], Optimizer]] = []
        for member in product(*map(range, leading)):
            own = [nn.Parameter(p.detach()[member]) for p in stacked]
            left = iter(own)
            alike = [
                tuple(next(left) for _ in each) if isinstance(each, tuple) else next(left)
                for each in given
            ]
            self._members.append((member, own, make(alike)))

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Hand every member its gradients, and let its optimiser take a step."""
        for p in self._stacked:
            if p.grad is None:
                raise ValueError(f"a gradient is expected of every parameter, of {tuple(p.shape)}")
        for member, own, optimizer in self._members:
            for p, q in zip(self._stacked, own, strict=True):
                assert p.grad is not None
                # Theirs to overwrite.
                q.grad = p.grad[member].clone()
            optimizer.step()
            for p, q in zip(self._stacked, own, strict=True):
                # An optimiser may have given its parameter other memory.
                p[member].copy_(q)
