"""An ensemble stepped by optimisers that know no ensembles: one for every member."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from simulate.optimizers.descent import Rate, require_rate

# A parameter (..., m, n), or a pair of them.
Given = Tensor | tuple[Tensor, ...]


def _kinds(given: Sequence[Tensor]) -> str:
    return ", ".join(f"{' x '.join(map(str, p.shape))} in {p.dtype}" for p in given)


@contextmanager
def _told(what: str, given: Sequence[Tensor]) -> Iterator[None]:
    """What is raised within was written by others, who have not seen what it was handed."""
    try:
        yield
    except Exception as error:
        error.add_note(f"{what}, with parameters {_kinds(given)}.")
        raise


class OneByOne(Optimizer):
    """Members of (..., m, n) parameters, each with an optimiser of its own for its matrices.

    For optimisers written by others, which take matrices and nothing before them. A member's
    parameters are views of the stacked ones, so every step moves both.

    Args:
        given: parameters (..., m, n) or pairs of them, all with the same leading dimensions.
        make: the optimiser of one member, from a list of the same structure with matrices (m, n),
            and ``lr``, a float.
        lr: a number, or a tensor that broadcasts to the leading dimensions, one rate a member.

    Raises:
        ValueError: nothing given, leading dimensions that differ, rates that fit none, a parameter
            that has no gradient when a step is taken, a step that leaves another shape or dtype, or
            a first step at a rate that is not 0,
            along gradients that are not 0, that moves no parameter it was given.
    """

    def __init__(
        self, given: Sequence[Given], make: Callable[..., Optimizer], lr: Rate = 1e-3
    ) -> None:
        stacked = [p for each in given for p in (each if isinstance(each, tuple) else (each,))]
        super().__init__(stacked, {})
        leading = stacked[0].shape[:-2]
        for p in stacked:
            if p.ndim < 2 or p.shape[:-2] != leading:
                raise ValueError(
                    f"matrices with the leading dimensions {tuple(leading)} are expected; given "
                    f"shape {tuple(p.shape)}"
                )
        require_rate(lr, tuple(leading))
        rates = torch.as_tensor(lr, dtype=torch.float64).expand(leading)
        self._first = bool((rates != 0).all())
        self._stacked = stacked
        self._members: list[tuple[tuple[int, ...], list[nn.Parameter], Optimizer]] = []
        for member in product(*map(range, leading)):
            own = [nn.Parameter(p.detach()[member]) for p in stacked]
            left = iter(own)
            alike = [
                tuple(next(left) for _ in each) if isinstance(each, tuple) else next(left)
                for each in given
            ]
            with _told("An optimiser was asked for", own):
                self._members.append((member, own, make(alike, lr=float(rates[member]))))

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
            before = [q.clone() for q in own] if self._first else []
            pulled = self._first and any(bool(q.grad.any()) for q in own if q.grad is not None)
            call = f"{type(optimizer).__name__}.step() was called without a closure"
            with _told(f"{call}, gradients in .grad", own):
                optimizer.step()
                for p, q in zip(self._stacked, own, strict=True):
                    if q.shape != p.shape[-2:] or q.dtype != p.dtype:
                        raise ValueError(
                            f"the step left {_kinds([q])}; {_kinds([p[member]])} was handed to it"
                        )
            if pulled and all(bool((p == q).all()) for p, q in zip(before, own, strict=True)):
                raise ValueError(
                    f"the first step of {type(optimizer).__name__} moves none of the parameters "
                    "that it was given, and their gradients are not 0"
                )
            for p, q in zip(self._stacked, own, strict=True):
                # An optimiser may have given its parameter other memory.
                p[member].copy_(q)
        self._first = False
