"""Alignments and lengths of directions hold for matrices, and their bounds for runs."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from claims.low_rank_orthogonalization.directions import (
    Direction,
    by_polynomials,
    columns,
    gaussian,
    polar,
)
from claims.low_rank_orthogonalization.heavy_tailed_runs import (
    COLUMNS,
    METHODS,
    gradient_norm,
    momentum_error,
    trajectory_means,
)
from claims.registry import Setting
from geometry.polar import orthogonalize
from geometry.sketch import low_rank_msign

M, N, RANK, DRAWS = 5, 7, 2, 4000


def spectra() -> dict[str, Tensor]:
    """Matrices of which bounds are tight or loose."""
    generator = torch.Generator().manual_seed(3)
    U, V = (
        torch.linalg.qr(torch.randn(n, n, generator=generator, dtype=torch.float64)).Q
        for n in (M, N)
    )
    one_column = torch.zeros(M, N, dtype=torch.float64)
    one_column[:, 2] = 1
    decaying = (U * 2.0 ** -torch.arange(M)) @ V[:M]
    return {"one column": one_column, "flat": U @ V[:M], "decaying": decaying}


@pytest.mark.parametrize("spectrum", ["one column", "flat", "decaying"])
@pytest.mark.parametrize(
    ("method", "direction"), [("columns", columns(N, RANK)), ("gaussian", gaussian(N, RANK))]
)
@pytest.mark.parametrize("orthogonalizer", ["svd", "muon"])
def test_sketched_directions_have_the_alignment(
    spectrum: str, method: str, direction: Direction, orthogonalizer: str
) -> None:
    D = spectra()[spectrum]
    generator = torch.Generator().manual_seed(5)
    O = low_rank_msign(  # noqa: E741
        D.expand(DRAWS, M, N), RANK, method, orthogonalizer=orthogonalizer, generator=generator
    )
    if orthogonalizer != "svd":
        direction = by_polynomials(direction, orthogonalizer, 5)
    share = (D * O).sum((-2, -1)) / D.norm()
    error = 4 * float(share.std()) / math.sqrt(DRAWS)
    assert float(share.mean()) >= direction.alignment - error
    assert float(torch.linalg.matrix_norm(O).max()) <= direction.length + 1e-9
    if (spectrum, method, orthogonalizer) == ("one column", "columns", "svd"):
        assert float(share.mean()) == pytest.approx(direction.alignment, abs=error)


def test_the_gaussian_constant_is_the_mean_of_the_root_of_a_beta() -> None:
    generator = torch.Generator().manual_seed(1)
    V = torch.linalg.qr(torch.randn(20_000, N, RANK, generator=generator, dtype=torch.float64)).Q
    roots = torch.linalg.vector_norm(V[:, 0], dim=-1)
    assert float(roots.mean()) == pytest.approx(gaussian(N, RANK).alignment, abs=0.01)


def test_full_directions_have_the_alignment() -> None:
    for D in spectra().values():
        for name, direction in (("svd", polar(M)), ("muon", by_polynomials(polar(M), "muon", 5))):
            O = orthogonalize(D, name)  # noqa: E741
            assert float((D * O).sum() / D.norm()) >= direction.alignment - 1e-12
            assert float(O.norm()) <= direction.length + 1e-12
    inexact = by_polynomials(polar(M), "muon", 5)
    assert inexact.alignment == pytest.approx(0.6963, abs=1e-4)
    assert inexact.length == pytest.approx(1.2024 * math.sqrt(M), abs=1e-3)


def test_the_bounds_are_those_that_are_written_down() -> None:
    K, lr, g = np.array([100.0]), np.array([0.01]), np.array([0.1])
    known = {"sigma": 2.0, "order": 1.5, "start": 3.0}
    direction = Direction(0.5, 2.0)
    error = 3 * 0.9 / (0.1 * 100) + 0.01 * 2 * 0.9 / 0.1 + 2 ** (1 / 1.5) * 2 * 0.1 ** (1 / 3)
    assert direction.momentum_error(K, lr, g, **known) == pytest.approx(error)
    ahead = Direction(0.5, 2.0, look_ahead=True)
    assert ahead.momentum_error(K, lr, g, **known) == pytest.approx(0.9 * error + 0.2)
    gradient = (4 / (0.01 * 100) + 0.01 * 4 / 2) / 0.5 + (1 + 2 / 0.5) * error
    assert direction.gradient(K, lr, g, gap=4.0, **known) == pytest.approx(gradient)


def test_horizons_leave_as_if_they_ran_alone() -> None:
    setting = Setting("quick", 7, {"seeds": 3})
    methods = {COLUMNS: (METHODS[COLUMNS], (2.0, 1.5))}
    for quantity in (gradient_norm, momentum_error):
        both = trajectory_means(setting, methods, (40, 64), quantity=quantity)[COLUMNS]
        for place, steps in enumerate((40, 64)):
            alone = trajectory_means(setting, methods, (steps,), quantity=quantity)[COLUMNS]
            np.testing.assert_allclose(both.values[:, place], alone.values[:, 0], rtol=1e-9)
            np.testing.assert_allclose(both.bounds[:, place], alone.bounds[:, 0])
        other = trajectory_means(
            setting, {COLUMNS: (METHODS[COLUMNS], (1.5,))}, (64,), quantity=quantity
        )[COLUMNS]
        np.testing.assert_allclose(both.values[1, 1], other.values[0, 0], rtol=1e-9)
