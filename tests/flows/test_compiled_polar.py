"""The compiled polar factor of a triangle: orthogonal, and the SVD's."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

U = torch.finfo(torch.float64).eps / 2


@pytest.fixture(autouse=True)
def numba() -> None:
    """Skips, and says why, where numba is missing."""
    pytest.importorskip("numba", reason="the compiled kernel needs numba")


def triangles(r: int, condition: float, seed: int = 0) -> Tensor:
    """Upper triangles (WIDTH, r, r) with positive diagonals, singular values 1 / condition to 1."""
    from flows.compiled.lanes import WIDTH

    generator = torch.Generator().manual_seed(seed)
    left, right = (
        torch.linalg.qr(torch.randn(WIDTH, r, r, generator=generator, dtype=torch.float64)).Q
        for _ in range(2)
    )
    values = torch.logspace(0, -torch.tensor(condition).log10(), r, dtype=torch.float64)
    R = torch.linalg.qr((left * values) @ right.mT).R
    return R * R.diagonal(dim1=-2, dim2=-1).sign()[..., None]


def factors(R: Tensor, smallest: float) -> Tensor:
    import numpy as np
    from numba import njit

    from flows.compiled.lanes import every
    from flows.compiled.polar import polar_factor

    @njit
    def fill(X: np.ndarray, inverse: np.ndarray, scratch: np.ndarray, bound: float) -> None:
        polar_factor(X, every(bound), inverse, scratch)

    X = np.ascontiguousarray(R.permute(1, 2, 0).numpy())
    r, _, lanes = X.shape
    fill(X, np.empty_like(X), np.empty((4, r, lanes)), smallest)
    return torch.from_numpy(X).permute(2, 0, 1)


@pytest.mark.parametrize("r", [1, 2, 3, 8])
@pytest.mark.parametrize("condition", [1.0, 1e2, 1e6, 1e12])
def test_is_orthogonal_and_the_polar_factor(r: int, condition: float) -> None:
    R = triangles(r, condition if r > 1 else 1.0)
    smallest = float(torch.linalg.svdvals(R).min()) * (1 - 1e-3)
    X = factors(R, smallest)
    identity = torch.eye(r, dtype=torch.float64)
    assert float((X.mT @ X - identity).abs().max()) <= 50 * r * U
    left, _, right = torch.linalg.svd(R)
    # The polar factor's own condition number is 1 / the smallest singular value.
    assert float((X - left @ right).abs().max()) <= 50 * r * U * max(condition, 1.0)


@pytest.mark.parametrize("slack", [1.0, 1e-3, 1e-9])
def test_any_lower_bound_will_do(slack: float) -> None:
    R = triangles(8, 1e3)
    close = factors(R, 0.999e-3)
    assert float((factors(R, 1e-3 * slack * 0.999) - close).abs().max()) <= 1e4 * U


def test_a_bound_that_is_no_bound_shows() -> None:
    # What is below the bound is not brought to 1: the bound matters.
    X = factors(triangles(8, 1e6), 1e-1)
    identity = torch.eye(8, dtype=torch.float64)
    assert float((X.mT @ X - identity).abs().max()) > 1e-3
