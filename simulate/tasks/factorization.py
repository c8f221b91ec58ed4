"""The flows' matrix factorization in discrete time: any optimiser, in the exact reduction."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from flows.problem import MatrixFactorization
from flows.trajectory import States
from geometry.gauge import Pair
from simulate.optimizers.members import keep_members, require_every, step_or_leave
from simulate.tasks.equivariance import require_equivariant

# What is handed over: [(B, A)], parameters (L, ...), and the rate, or one a lane, (L,).
MakeOptimizer = Callable[[list[Any], Any], Optimizer]

DTYPES = (torch.float32, torch.float64)
ROWS = torch.contiguous_format


@dataclass(frozen=True)
class Iterates(States):
    """What :func:`iterate` went through; its times are numbers of steps.

    Attributes:
        diverged: (...), the step that led to no finite factors, inf where there was none. From it
            on the states are NaN.
    """

    diverged: Tensor


def iterate(
    problem: MatrixFactorization,
    start: Pair,
    optimizer: MakeOptimizer,
    rate: float | Tensor,
    steps: Sequence[int],
    *,
    reduce: bool = True,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Iterates:
    """Run an optimiser on the factors of a problem, for starts and rates as one ensemble.

    The gradients are those of the problem, exact. One unit of flow time is 1 / rate steps: with
    SpectralDescent the iterates are Euler's of `flows.spectral_flow`.

    In the exact reduction the parameters are (b, a), B = Q_B b and A = a Q_A^T with bases of
    span[B_0, U] and span[A_0^T, V], and neither m nor n matters to the cost of a step. It applies
    to optimisers that commute with rotations of the factors, `simulate.tasks.equivariance`; others
    are refused. What they do to directions at the level of round-off may depend on the size of the
    factors all the same: an exact polar factor drops those below max(m, r) eps.

    Args:
        start: B (..., m, r) and A (..., r, n) with the same leading dimensions.
        optimizer: makes the optimiser of [(B, A)], parameters whose leading dimensions are
            flattened to lanes, (L, d, r) and (L, r, d), and of the rate. A class of pairs will do;
            one of matrices, or torch's own, is ``lambda pairs, rate: SGD(pairs[0], rate)``.
        rate: a number, handed over as it is; or a tensor that broadcasts with the leading
            dimensions of the start, handed over as (L,) float64: with starts (S, ...), rates
            (R, 1) make an ensemble (R, S).
        steps: the numbers of steps after which the factors are recorded, ascending from 0 or more.
        reduce: False runs the factors themselves.
        dtype, device: float32 or float64; those of the problem by default. The start is cast.

    A lane whose gradient or factors are not finite, or whose step needs a factorisation that fails,
    leaves, and the others go on as they would have without it. Lanes do not depend on each other
    but for the rounding of batched products: their starts and bases are the same to the bit.

    Raises:
        ValueError: input of the wrong shape or order, another dtype, an optimiser that has not both
            factors, or does not commute with rotations where ``reduce``; what the optimiser raises
            about its options.
    """
    problem = problem.to(dtype=dtype, device=device)
    if problem.dtype not in DTYPES:
        raise ValueError(f"dtype: float32 or float64 is expected; given {problem.dtype}")
    recorded = _checked_steps(steps)
    place = {number: index for index, number in enumerate(recorded)}
    B, A, batch = problem.lanes((start[0].to(problem.left), start[1].to(problem.left)))
    handed, batch, chosen = _ensemble(rate, batch, problem.device)
    # Rates share the bases of their start.
    coordinates = problem.coordinates(B, A, reduce=reduce).select(chosen)
    state = coordinates.restrict(B[chosen], A[chosen])
    lanes = len(state)
    b, a = (Parameter(x.clone(memory_format=ROWS)) for x in coordinates.factors(state))
    moving = optimizer([(b, a)], handed)
    require_every(moving, (b, a))
    if reduce:
        require_equivariant(moving)

    states = state.new_full((lanes, len(recorded), *state.shape[1:]), torch.nan)
    diverged = state.new_full((lanes,), torch.inf)
    going, here = torch.arange(lanes, device=state.device), coordinates
    for number in range(recorded[-1] + 1):
        if number:
            kept = _stepped(moving, (b, a), here.factors(here.gradient(state)))
            if len(kept) < len(going):
                left = torch.ones_like(going, dtype=torch.bool)
                left[kept] = False
                diverged[going[left]] = number
                going, here = going[kept], here.select(kept)
            if not len(going):
                break
            state = torch.cat([b.detach(), a.detach().mT], dim=-2)
        if number in place:
            states[going, place[number]] = state
    times = torch.tensor(recorded, dtype=problem.dtype, device=problem.device)
    return Iterates(problem, coordinates, batch, times, states, diverged.reshape(batch))


def _stepped(optimizer: Optimizer, factors: tuple[Parameter, Parameter], gradients: Pair) -> Tensor:
    """Step, and leave only the lanes for which all is finite; which these are, (kept,).

    None are where none is: the factors then are what they were.
    """
    kept = torch.arange(len(gradients[0]), device=gradients[0].device)
    for factor, gradient in zip(factors, gradients, strict=True):
        factor.grad = gradient.contiguous()
    kept = _kept(optimizer, kept, _finite([factor.grad for factor in factors]))
    if not len(kept):
        return kept

    def leave(reasons: Mapping[int, str]) -> bool:
        nonlocal kept
        staying = torch.ones_like(kept, dtype=torch.bool)
        staying[list(reasons)] = False
        kept = _kept(optimizer, kept, staying)
        return bool(len(kept))

    step_or_leave(optimizer, leave)
    if not len(kept):
        return kept
    return _kept(optimizer, kept, _finite([factor.detach() for factor in factors]))


def _kept(optimizer: Optimizer, lanes: Tensor, finite: Tensor) -> Tensor:
    """Those of the lanes that are finite; the optimiser goes on with them, if there are any."""
    if bool(finite.all()):
        return lanes
    members = finite.nonzero().squeeze(-1)
    if len(members):
        keep_members(optimizer, members)
    return lanes[members]


def _finite(pair: Sequence[Tensor | None]) -> Tensor:
    finite = [torch.isfinite(x).flatten(1).all(1) for x in pair if x is not None]
    return torch.stack(finite).all(0)


def _ensemble(
    rate: float | Tensor, batch: torch.Size, device: torch.device
) -> tuple[float | Tensor, torch.Size, Tensor]:
    """The rate to hand over, the batch shape, and which start each of its lanes has."""
    starts = torch.arange(batch.numel(), device=device).reshape(batch)
    if not isinstance(rate, Tensor):
        return rate, batch, starts.flatten()
    try:
        shape = torch.broadcast_shapes(rate.shape, batch)
    except RuntimeError:
        raise ValueError(
            f"rate: a shape that broadcasts with the start's leading dimensions {tuple(batch)} is "
            f"expected; given {tuple(rate.shape)}"
        ) from None
    rates = rate.to(device, torch.float64).expand(shape).flatten()
    return rates, shape, starts.expand(shape).flatten()


def _checked_steps(steps: Sequence[int]) -> list[int]:
    numbers = [int(step) for step in steps]
    ascending = all(one < other for one, other in pairwise(numbers))
    if not numbers or numbers[0] < 0 or not ascending or numbers != list(steps):
        raise ValueError(
            f"steps: ascending whole numbers from 0 or more are expected; given {list(steps)}"
        )
    return numbers
