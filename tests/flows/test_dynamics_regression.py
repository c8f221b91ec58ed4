"""Stored trajectories: the dynamics do not change unnoticed.

How far two runs may be apart follows from their tolerances. test_adaptive_accuracy.py establishes
that an integration is off by at most 5 rtol times the largest singular value; a stored run and a
new one may err in opposite directions, so 10 rtol sigma_1. Round-off of other LAPACK builds is not
felt: a start is amplified by no more than sigma_1 / gamma = 5e3, which makes 1e-12 of it.
An arrival is off by the error of the mode over the speed at which it passes the level.

A deliberate change is recorded with ``pytest tests/flows --force-regen``.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from pytest_regressions.ndarrays_regression import NDArraysRegressionFixture

from flows import Field, MatrixFactorization, gradient_flow, integrate, spectral_flow
from flows.starts import Factors

RTOL = 1e-8
TOY = MatrixFactorization.planted(
    m=60, n=70, singular_values=[5.0, 4.0, 3.0, 2.0, 1.0], rank=5, seed=0
)
ALIGNED = MatrixFactorization.planted(m=8, n=7, singular_values=[2.0, 1.5, 1.0], rank=3, seed=1)


@dataclass(frozen=True)
class Case:
    field: Field
    start: Factors
    end: float
    slowest_passage: float  # of a mode through .9 sigma, as a share of sigma_1 a unit of time

    @property
    def tolerance(self) -> float:
        return 10 * RTOL * float(self.field.problem.singular_values[0])


def aligned_start() -> Factors:
    b = torch.tensor([0.02, 0.05, -0.03], dtype=torch.float64)
    a = torch.tensor([0.04, 0.05, 0.2], dtype=torch.float64)
    return ALIGNED.aligned_init(b, a, seed=2)


CASES = {
    # Speed 2 sqrt(.9 sigma) >= 1.9; the last mode, sigma = 1, is the slowest.
    "spectral_flow": Case(spectral_flow(TOY, 0.01), TOY.lora_init(1e-3, seed=0), 2.5, 1.9 / 5),
    # Logistic: speed 2 sigma^2 x .9 x .1 >= .18.
    "gradient_flow": Case(gradient_flow(TOY), TOY.lora_init(1e-3, seed=0), 14.0, 0.18 / 5),
    # Opposite signs in the third mode, so it crosses zero before it grows.
    "aligned_tanh": Case(spectral_flow(ALIGNED, 0.05, smoothing="tanh"), aligned_start(), 2.0, 0.9),
}


@pytest.mark.parametrize("name", CASES)
def test_stored_trajectory(name: str, ndarrays_regression: NDArraysRegressionFixture) -> None:
    case = CASES[name]
    times = torch.linspace(0, case.end, 26, dtype=torch.float64)
    trajectory = integrate(case.field, case.start, times, rtol=RTOL, atol=1e-2 * RTOL)
    arrivals = trajectory.arrival_times(0.9)
    assert bool(torch.isfinite(arrivals).all())
    bound = case.tolerance
    sigma_1 = float(case.field.problem.singular_values[0])
    ndarrays_regression.check(
        {
            "singular_values": trajectory.singular_values.numpy(),
            "mode_values": trajectory.mode_values.numpy(),
            "arrival_times": arrivals.numpy(),
        },
        tolerances={
            "singular_values": {"atol": bound, "rtol": 0.0},
            "mode_values": {"atol": bound, "rtol": 0.0},
            "arrival_times": {"atol": bound / (case.slowest_passage * sigma_1), "rtol": 0.0},
        },
    )
