"""What answers are compared with, and how sure it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from benchmarks.accuracy import largest_error
from benchmarks.case import Factors, FlowCase
from benchmarks.formulation import full
from benchmarks.peers.by_flows import trajectory
from benchmarks.scipy_path import scipy_path
from flows.closed_forms import smoothed_state

SCIPY_RTOL = 1e-12
OWN_RTOL = 1e-11
CONTROL_RTOL = 1e-10


@dataclass(frozen=True)
class Yardstick:
    """How a reference is made.

    Attributes:
        how: "scipy", DOP853 at 1e-12 on the full factors; "flows", this package at 1e-11; or
            "closed form", the quadrature, for aligned starts.
        checked: on how many of the first seeds SciPy is asked to confirm "flows"; with none, it is
            compared with "flows" at 1e-10.
    """

    how: Literal["scipy", "flows", "closed form"]
    checked: int = 0


@dataclass(frozen=True)
class Reference:
    """Factors B (S, T, m, r), A (S, T, r, n) of the core case.

    Attributes:
        source: how they were made and checked, in words.
        doubt: the largest disagreement of the products with what they were checked against; it
            counts against every contestant's error.
    """

    factors: Factors
    source: str
    doubt: float = 0.0

    def first(self, count: int) -> Reference:
        """The reference of the first seeds."""
        B, A = self.factors
        return Reference((B[:count], A[:count]), self.source, self.doubt)


def make(
    case: FlowCase,
    seeds: Sequence[int],
    yardstick: Yardstick,
    obtain: Callable[[FlowCase, Sequence[int], Yardstick], Reference],
) -> Reference:
    """The reference of ``case``; ``obtain`` gets, or makes, the one that this one is checked by."""
    if yardstick.how == "scipy":
        return Reference(by_scipy(case, seeds), f"DOP853 at {SCIPY_RTOL:g}")
    if yardstick.how == "closed form":
        return Reference(by_closed_form(case, seeds), "quadrature of the closed form")
    factors = by_flows(case, seeds, OWN_RTOL)
    source = f"flows at {OWN_RTOL:g}"
    checked = min(yardstick.checked, len(seeds))
    if checked:
        control = obtain(case, seeds[:checked], Yardstick("scipy"))
        source += f", checked by {control.source} on {checked} of {len(seeds)} seeds"
        own = (factors[0][:checked], factors[1][:checked])
        return Reference(factors, source, largest_error(own, control.factors))
    source += f", checked by itself at {CONTROL_RTOL:g}"
    return Reference(factors, source, largest_error(by_flows(case, seeds, CONTROL_RTOL), factors))


def by_scipy(case: FlowCase, seeds: Sequence[int]) -> Factors:
    """DOP853 on the full factors, from one time of the grid to the next.

    Its dense output is far less accurate than its steps where modes arrive.
    """
    left, right = [], []
    for B, A, target in full(case, case.starts(seeds)).one_by_one():
        path = [(B, A)]
        for leg in zip(case.times[:-1], case.times[1:], strict=True):
            solved = scipy_path(
                "DOP853", *path[-1], target, case.beta, np.array(leg), rtol=SCIPY_RTOL
            )
            path.append((solved.B[-1], solved.A[-1]))
        left.append(np.stack([B for B, _ in path]))
        right.append(np.stack([A for _, A in path]))
    return np.stack(left), np.stack(right)


def by_flows(case: FlowCase, seeds: Sequence[int], rtol: float) -> Factors:
    """This package, much tighter than any contestant has to be."""
    B, A = trajectory(case, case.starts(seeds), rtol).factors
    return B.numpy(), A.numpy()


def by_closed_form(case: FlowCase, seeds: Sequence[int]) -> Factors:
    """Every mode of an aligned start grows by itself: B(t) = U diag(x / x0) U^T B0, A likewise."""
    if case.start != "aligned":
        raise ValueError(f"closed form: aligned starts are expected; given {case.start!r}")
    problem, (B, A) = case.problem, case.starts(seeds)
    sigma = problem.singular_values.numpy()
    state = smoothed_state(case.times[:, None], sigma, case.beta, case.scale)
    growth = torch.as_tensor(state / case.scale)[:, :, None]
    left = problem.left @ (growth * (problem.left.mT @ B)[:, None])
    right = (growth * (problem.right.mT @ A.mT)[:, None]).mT @ problem.right.mT
    return left.numpy(), right.numpy()
