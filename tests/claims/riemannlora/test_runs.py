"""Runs in many gauges as one ensemble: members alone, those that overflow, what is compared."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from claims.registry import Setting
from claims.riemannlora.descent import M, N, R, _beside_a_saddle
from claims.riemannlora.runs import (
    DESCENT,
    OF_THE_PAPER,
    ON_FACTORS,
    differences,
    in_gauges,
    products,
    start_and_target,
)
from simulate.optimizers import ScaledGD

SETTING = Setting("quick", 7, {"seeds": 3})


@pytest.mark.parametrize("condition", [1.0, 1e2, 1e6])
def test_gauges_move_no_product(condition: float) -> None:
    pair, _ = start_and_target(SETTING)
    B, A = in_gauges(SETTING, pair, (condition,))
    assert float(differences(B[1] @ A[1], B[0] @ A[0]).max()) <= 1e-15 * condition


def test_a_member_alone_ends_where_it_ends_in_the_ensemble() -> None:
    (B, A), Y = start_and_target(SETTING)
    make = OF_THE_PAPER["Riemannion"]
    together = products(make, (B, A), Y, steps=5)
    alone = products(make, (B[1:2], A[1:2]), Y[1:2], steps=5)
    assert float(differences(together[1:2], alone).max()) <= 1e-13


def test_those_that_overflow_leave_and_the_others_go_on() -> None:
    (B, A), Y = start_and_target(SETTING)
    scales = torch.tensor([1.0, 1e160, 2.0], dtype=torch.float64)[:, None, None]
    found = products(ON_FACTORS[DESCENT], (B * scales, A * scales), Y, steps=6)
    assert found[1].isinf().all()
    kept = [0, 2]
    expected = products(ON_FACTORS[DESCENT], ((B * scales)[kept], (A * scales)[kept]), Y[kept], 6)
    assert torch.allclose(found[kept], expected, rtol=1e-12)
    assert differences(found, found[:1]).tolist() == [0.0, 1.0, differences(found, found[:1])[2]]


def test_a_run_of_which_nobody_is_left_is_infinite() -> None:
    (B, A), Y = start_and_target(SETTING)
    found = products(partial(ScaledGD, lr=1e300), (B, A), Y)
    assert found.isinf().all()
    assert (differences(found, found) == 1).all()


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_saddle_has_the_curvature_it_is_made_for(sign: float) -> None:
    ratio = 2.0
    (B, A), Y = _beside_a_saddle(SETTING, ratio, sign, 0.0)
    G = B @ A - Y
    # Critical: what is left of the gradient is normal, and as large as it should be.
    for tangent in (G @ A.mT, B.mT @ G):
        assert float(tangent.abs().max()) <= 1e-13
    assert torch.allclose(torch.linalg.matrix_norm(G, 2), torch.tensor(ratio).double())
    by = 1e-3
    near = _beside_a_saddle(SETTING, ratio, sign, by)[0]
    losses = [((b @ a - Y) ** 2).sum((-2, -1)) / 2 for b, a in ((B, A), near)]
    # The push has the square norm 2 by^2.
    curvature = (losses[1] - losses[0]) / by**2
    assert torch.allclose(curvature, torch.tensor(1 - sign * ratio).double(), atol=1e-4)
    assert B.shape == (3, M, R)
    assert A.shape == (3, R, N)
