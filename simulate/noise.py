"""Gradient noise, heavy-tailed or not: laws of an entry, their moments, what they say of a matrix.

A law has a tail index p: P(|x| > t) falls as t^-p, so moments of order below p exist and the others
do not. At p <= 2 the variance is infinite.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

from geometry.errors import require_nonnegative
from geometry.names import unknown_name
from geometry.philox import uniforms

Index = float | Tensor

# Of all that a seed draws in a step: apart from the first streams, which are the optimisers'.
_STREAM = 1 << 31


@dataclass(frozen=True)
class Law:
    """The distribution of one entry: symmetric about 0, of unit scale.

    Attributes:
        name: the name that selects it.
        tailed: whether it has a tail index.
        draws: how many uniforms make an entry.
        shared: uniforms (..., draws) -> what entries of any tail are made of, each (...): members
            that share a seed share it.
        entry: (what is shared, tail) -> (...).
        moment: (order, tail) -> E|x|^order, for orders below the tail; float64 tensors.
        source: the text that has it.
    """

    name: str
    tailed: bool
    draws: int
    shared: Callable[[Tensor], tuple[Tensor, ...]]
    entry: Callable[[tuple[Tensor, ...], Tensor], Tensor]
    moment: Callable[[Tensor, Tensor], Tensor]
    source: str


def _gaussian_shared(u: Tensor) -> tuple[Tensor, ...]:
    return (torch.special.ndtri(u[..., 0]),)


def _gaussian(shared: tuple[Tensor, ...], _: Tensor) -> Tensor:
    return shared[0]


def _gaussian_moment(order: Tensor, _: Tensor) -> Tensor:
    return 2 ** (order / 2) * torch.lgamma((order + 1) / 2).exp() / math.sqrt(math.pi)


def _pareto_shared(u: Tensor) -> tuple[Tensor, ...]:
    # Twice the distance to the nearer end: never 0, and as fine as floating point near it.
    u = u[..., 0]
    share = 2 * torch.minimum(u, 1 - u)
    # A power by exp and log takes a tenth of the time, and the log is of no tail.
    return (torch.copysign(share.log(), u - 0.5),)


def _pareto(shared: tuple[Tensor, ...], tail: Tensor) -> Tensor:
    (signed,) = shared
    return torch.copysign(signed.abs().div_(tail).exp_(), signed)


def _pareto_moment(order: Tensor, tail: Tensor) -> Tensor:
    return tail / (tail - order)


def _student_t_shared(u: Tensor) -> tuple[Tensor, ...]:
    return u[..., 0].log(), torch.cos(2 * math.pi * u[..., 1])


def _student_t(shared: tuple[Tensor, ...], tail: Tensor) -> Tensor:
    # As Box and Muller's, with another radius.
    log, cosine = shared
    return (tail * torch.expm1(-2 / tail * log)).sqrt() * cosine


def _student_t_moment(order: Tensor, tail: Tensor) -> Tensor:
    gammas = (
        torch.lgamma((order + 1) / 2) + torch.lgamma((tail - order) / 2) - torch.lgamma(tail / 2)
    )
    return tail ** (order / 2) * gammas.exp() / math.sqrt(math.pi)


_DECLARED = (
    Law(
        "gaussian", False, 1, _gaussian_shared, _gaussian, _gaussian_moment,
        "by the inverse of its cdf",
    ),
    Law(
        "pareto", True, 1, _pareto_shared, _pareto, _pareto_moment,
        "|x| >= 1 with P(|x| > t) = t^-p, and a sign; by the inverse of its cdf",
    ),
    Law(
        "student_t", True, 2, _student_t_shared, _student_t, _student_t_moment,
        "of p degrees of freedom; Bailey, Math. Comp. 62, 1994",
    ),
)  # fmt: skip

LAWS: Mapping[str, Law] = MappingProxyType({law.name: law for law in _DECLARED})


@dataclass(frozen=True, eq=False)
class Noise:
    """Independent entries max(scale, growth ||grad f||_F) x, with x of a law.

    With sigma_0 and sigma_1 of ``sigmas`` that is the assumption of the heavy-tailed theory,
    E||xi||_F^a <= sigma_0^a + sigma_1^a ||grad f||_F^a, for every a in (1, 2] below the tail.

    Attributes:
        law: a name in ``LAWS``: "gaussian", "pareto", "student_t".
        tail: the tail index p > 1 of the last two, a number or (E,), one a member.
        scale, growth: >= 0.

    Raises:
        ValueError: unknown law; a tail where there is none, none where there is one, or one that
            is not above 1; scale or growth negative.
    """

    law: str = "gaussian"
    tail: Index | None = None
    scale: float = 1.0
    growth: float = 0.0

    def __post_init__(self) -> None:
        if self.law not in LAWS:
            raise unknown_name("law", self.law, LAWS)
        require_nonnegative("scale", self.scale)
        require_nonnegative("growth", self.growth)
        if LAWS[self.law].tailed != (self.tail is not None):
            expected = "a tail index" if LAWS[self.law].tailed else "no tail index"
            raise ValueError(f"law {self.law!r} takes {expected}, got tail={self.tail}")
        tail = self._tail()
        # A NaN is refused as well.
        if not bool((tail > 1).all()):
            raise ValueError(
                f"the tail index must be above 1, got {tail.tolist()}: at 1 and below the noise "
                "has no mean, so that no gradient is unbiased"
            )

    @property
    def silent(self) -> bool:
        """Whether it is zero everywhere."""
        return self.scale == 0 and self.growth == 0

    def draw(self, seeds: Tensor, m: int, n: int, steps: Tensor) -> Tensor:
        """The entries x of unit scale of some steps, for matrices m x n.

        An entry is a function of the member's seed, the step and its place alone: not of the other
        members, of what is drawn together, or of the device.

        Args:
            seeds: (E,) int64.
            steps: (S,) int64, >= 0.

        Returns:
            (S, E, m, n) float64 on the device of the seeds.
        """
        law = LAWS[self.law]
        # Members that share a seed share the costly part.
        own, place = seeds.unique(return_inverse=True)
        u = uniforms(own, m * n * law.draws, step=steps[:, None], stream=_STREAM)
        u = u.reshape(len(steps), len(own), m, n, law.draws)
        shared = tuple(x.index_select(1, place) for x in law.shared(u))
        return law.entry(shared, self._tail().to(seeds.device)[..., None, None])

    def amplitude(self, gradient: Tensor) -> Tensor | float:
        """max(scale, growth ||grad f||_F) of exact gradients (..., m, n), shape (..., 1, 1)."""
        if self.growth == 0:
            return self.scale
        norm = torch.linalg.matrix_norm(gradient, keepdim=True)
        return (self.growth * norm).clamp(min=self.scale)

    def moment(self, order: Index) -> Tensor:
        """E|x|^order of an entry of unit scale, exactly.

        Args:
            order: in (1, 2] and below the tail index; a number or one a member.

        Returns:
            float64, of the shape that order and tail broadcast to.

        Raises:
            ValueError: any other order.
        """
        order, tail = torch.as_tensor(order, dtype=torch.float64), self._tail()
        if not bool(((order > 1) & (order <= 2)).all()):
            raise ValueError(
                f"the order of a moment must lie in (1, 2], got {order.tolist()}: with a first "
                "moment alone nothing averages out, and above 2 the theory is that of the variance"
            )
        if not bool((order < tail).all()):
            raise ValueError(
                f"{self.law} noise of tail index {tail.tolist()} has no moment of order "
                f"{order.tolist()}: the order must be below the index"
            )
        return LAWS[self.law].moment(order, tail)

    def sigmas(self, m: int, n: int, order: Index) -> tuple[Tensor, Tensor]:
        """(sigma_0, sigma_1) with E||xi||_F^a <= sigma_0^a + sigma_1^a ||grad f||_F^a, a the order.

        For a <= 2, ||xi||_F is at most ||xi||_a = (sum |xi_ij|^a)^(1/a), of which the a-th power
        has mean m n E|x|^a times that of the amplitude; at a = 2 it is an equality for growth 0.

        Raises:
            ValueError: as in ``moment``.
        """
        order = torch.as_tensor(order, dtype=torch.float64)
        of_unit_scale = (m * n * self.moment(order)) ** (1 / order)
        return of_unit_scale * self.scale, of_unit_scale * self.growth

    def _tail(self) -> Tensor:
        return torch.as_tensor(math.inf if self.tail is None else self.tail, dtype=torch.float64)


def empirical_moment(values: Tensor, order: float) -> float:
    """The mean of |x|^order over all entries; where its variance is infinite it is slow to come."""
    return float(values.abs().pow(order).mean())
