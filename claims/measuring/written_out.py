"""Optimisers of a contest held to formulas written out: a contest says nothing of broken ones.

Nothing here is taken from the code under test: gradients of three steps are drawn, every optimiser
is handed them, and what it does is compared with what its name stands for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain, combinations
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from claims.registry import Measurement
from simulate.cells import Contestant


class Step(NamedTuple):
    """One step of a parameter.

    Attributes:
        gradients: (T, E, ...), those up to now.
        before: (E, ...), the parameter. taken: (E, ...), the step over the rate.
    """

    gradients: Tensor
    before: Tensor
    taken: Tensor


# What a step over the rate should have been, (E, ...).
Formula = Callable[[Step], Tensor]
# From gradients (T, E, ...) up to now, (E, ...).
Direction = Callable[[Tensor], Tensor]
# From parameters (E, ...) and rates (E,) to their optimiser.
MakeOptimizer = Callable[[list[nn.Parameter], Tensor], Optimizer]

STEPS = 3
RATES = (0.3, 0.1)
# Five steps of the quintic in float64 make 1e-13 of round-off at most.
ROUNDING = 1e-10
WRITTEN_OUT = "optimisers' steps off their formulas, over the largest entry, most"
DRAWN_ANEW = "ranges of sketches that two steps or members have in common"


def quintic(X: Tensor) -> Tensor:
    """Five steps of Keller Jordan's polynomial, on (..., m, n) over its Frobenius norm."""
    X = X / torch.linalg.matrix_norm(X, keepdim=True)
    for _ in range(5):
        S = X @ X.mT
        X = 3.4445 * X + (-4.7750 * S + 2.0315 * S @ S) @ X
    return X


def heavy_ball(momentum: float, gradients: Tensor) -> Tensor:
    """C <- momentum C + G from 0, of gradients (T, ...)."""
    powers = momentum ** torch.arange(len(gradients) - 1.0, -1.0, -1.0, dtype=torch.float64)
    return torch.einsum("t,t...->...", powers, gradients)


def looking_ahead(momentum: float, gradients: Tensor) -> Tensor:
    """Nesterov's momentum C + G, C the heavy ball."""
    return momentum * heavy_ball(momentum, gradients) + gradients[-1]


def adamw(decay: float) -> Formula:
    """Adam with its usual betas, .9 and .999, and decoupled decay."""

    def formula(step: Step) -> Tensor:
        count = len(step.gradients)
        first = 0.1 * heavy_ball(0.9, step.gradients) / (1 - 0.9**count)
        second = 0.001 * heavy_ball(0.999, step.gradients**2) / (1 - 0.999**count)
        return first / (second.sqrt() + 1e-8) + decay * step.before

    return formula


def of(direction: Direction) -> Formula:
    """The direction itself."""
    return lambda step: direction(step.gradients)


def orthogonalised(direction: Direction) -> Formula:
    """Its quintic."""
    return lambda step: quintic(direction(step.gradients))


def within_its_range(direction: Direction, rank: int) -> Formula:
    """Q quintic(Q^T D), Q a basis (E, m, rank) of the range of the step that was taken.

    Which basis does not matter, and which range was drawn the step itself says.
    """

    def formula(step: Step) -> Tensor:
        Q = torch.linalg.svd(step.taken, full_matrices=False).U[..., :rank]
        return Q @ quintic(Q.mT @ direction(step.gradients))

    return formula


def steps_off(make: MakeOptimizer, formula: Formula, shapes: Sequence[tuple[int, ...]]) -> float:
    """The largest entry by which a step over its rate is off its formula, over the largest of that.

    Three steps of two members with rates of their own, in float64 on the CPU.

    Args:
        shapes: of the parameters of a member.
    """
    found = ((step.taken, formula(step)) for step in chain(*steps_taken(make, shapes)))
    off = [float((taken - due).abs().max() / due.abs().max()) for taken, due in found]
    return float(np.max(off))


def ranges_alike(make: MakeOptimizer, shape: tuple[int, int], rank: int) -> int:
    """Of all pairs of steps and members that were handed the same gradient: how many step within
    the same range, which was not drawn anew then."""
    moves = torch.cat([step.taken for (step,) in steps_taken(make, [shape], alike=True)])
    bases = torch.linalg.svd(moves, full_matrices=False).U[..., :rank]
    overlaps = (torch.linalg.matrix_norm(a.mT @ b) for a, b in combinations(bases, 2))
    return sum(float(overlap**2) > rank * (1 - 1e-6) for overlap in overlaps)


def made_by(contestant: Contestant) -> MakeOptimizer:
    """A contestant's optimiser, of members with seeds of their own."""
    return lambda parameters, lr: contestant.optimizer(parameters, lr, range(len(lr)))


def as_written_out(worst: Sequence[float]) -> Measurement:
    """That none of several optimisers is off its formula."""
    return Measurement(WRITTEN_OUT, float(np.max(worst)), "<=", ROUNDING)


def drawn_anew(alike: Sequence[int]) -> Measurement:
    """That none of several optimisers sketches with what it drew before, or for another member."""
    return Measurement(DRAWN_ANEW, float(np.max(alike)), "<=", 0)


def steps_taken(
    make: MakeOptimizer,
    shapes: Sequence[tuple[int, ...]],
    *,
    alike: bool = False,
    dtype: torch.dtype = torch.float64,
) -> list[list[Step]]:
    """The three steps, of each those of every parameter, in float64 whatever they are taken in.

    Args:
        shapes: of the parameters of a member.
        alike: by one gradient in all of them.
        dtype: of parameters, gradients and rates.
    """
    generator = torch.Generator().manual_seed(0)
    lr = torch.tensor(RATES, dtype=dtype)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)

    parameters = [nn.Parameter(drawn(len(lr), *shape)) for shape in shapes]
    gradients = [drawn(STEPS, len(lr), *shape) for shape in shapes]
    if alike:
        gradients = [each[:1, :1].expand_as(each).clone() for each in gradients]
    optimizer, found = make(parameters, lr), []
    for count in range(STEPS):
        before = [p.detach().clone().double() for p in parameters]
        for p, each in zip(parameters, gradients, strict=True):
            p.grad = each[count].clone()
        optimizer.step()
        step = []
        for p, each, old in zip(parameters, gradients, before, strict=True):
            rates = lr.double().reshape(-1, *[1] * (p.ndim - 1))
            step.append(Step(each[: count + 1].double(), old, (old - p.detach().double()) / rates))
        found.append(step)
    return found
