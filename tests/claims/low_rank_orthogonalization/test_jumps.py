"""Far jumps of the noise are those of the runs, weighed as momentum weighs them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from claims.low_rank_orthogonalization.heavy_tailed_runs import (
    COLUMNS,
    METHODS,
    TAILS,
    M,
    N,
    momentum_error,
    trajectory_means,
)
from claims.low_rank_orthogonalization.jumps import RARITY, excess_of_jumps
from claims.registry import Setting
from simulate.noise import Noise
from simulate.tasks import NoisyQuadratic

SCALE, SEEDS = 0.7, 40


def by_recursion(setting: Setting, tail: float, steps: int, g: float) -> np.ndarray:
    """Step by step, with the noise that runs have and the expectation as an integral."""
    beyond = (M * N / (RARITY * g)) ** (1 / tail)
    expected = M * N * stats.pareto(tail).expect(lambda x: x, lb=beyond)
    task = NoisyQuadratic(
        torch.zeros(M, N, dtype=torch.float64),
        noise=Noise("pareto", tail, SCALE),
        seeds=setting.seeds(setting["seeds"]),
    )
    nothing = torch.zeros(setting["seeds"], M, N, dtype=torch.float64)
    C, total = torch.zeros(setting["seeds"], dtype=torch.float64), torch.zeros(())
    for step in range(steps):
        sizes = task.with_noise(nothing, step).abs()
        jumps = torch.where(sizes > SCALE * beyond, sizes, 0).sum((-2, -1))
        C = (1 - g) * C + g * (jumps - SCALE * expected)
        total = total + C
    return (total / steps).numpy()


def test_the_excess_is_the_mean_of_a_recursion() -> None:
    setting, weights = Setting("quick", 11, {"seeds": SEEDS}), np.array([0.5, 0.125])
    found = excess_of_jumps(setting, (2.0, 1.2), (48, 96), weights, SCALE)
    assert found.shape == (2, 2, SEEDS)
    # Most have no jump; some have.
    assert (found > 0).any()
    for row, a in zip(found, (2.0, 1.2), strict=True):
        for values, steps, g in zip(row, (48, 96), weights, strict=True):
            expected = by_recursion(setting, TAILS[a], steps, g)
            np.testing.assert_allclose(values, expected, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("a", [1.5, 1.2])
def test_it_takes_the_jumps_out_of_momentum_errors(a: float) -> None:
    setting, g = Setting("quick", 5, {"seeds": 400}), 0.25
    means = trajectory_means(
        setting, {COLUMNS: (METHODS[COLUMNS], (a,))}, (128,), lambda _, __: (1e-3, 1 - g),
        momentum_error, SCALE,
    )[COLUMNS].values  # fmt: skip
    left = means - excess_of_jumps(setting, (a,), (128,), np.array([g]), SCALE)
    assert left.min() > 0
    assert left.std() < 0.3 * means.std()
