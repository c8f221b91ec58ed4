"""Inverse square roots of Gram matrices: laws, accuracy by condition number, damping, zero."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from geometry.inverse_root import INVERSE_ROOTS, inverse_root
from geometry.scaling import unit_roundoff
from tests.geometry.test_msign import U64, random_matrices, with_spectrum

SHAPES = [(1, 1), (3, 8), (8, 8), (5, 64), (6, 3)]
EXACT = ["svd", "eigh"]


def conditioned(r: int, n: int, condition: float, seed: int = 0) -> Tensor:
    return with_spectrum(r, n, torch.logspace(0, -math.log10(condition), min(r, n)).double(), seed)


def expected_root(X: Tensor, damping: float) -> Tensor:
    """By the SVD in float64, damped."""
    U, s, _ = torch.linalg.svd(X.double(), full_matrices=False)
    w = s.square()
    return (
        U * (w + damping * torch.linalg.vector_norm(w, dim=-1, keepdim=True)).rsqrt()[..., None, :]
    ) @ U.mT


@pytest.mark.parametrize("method", EXACT)
@pytest.mark.parametrize("shape", SHAPES)
def test_whitens_the_span(method: str, shape: tuple[int, int], device: torch.device) -> None:
    X = random_matrices(4, *shape).to(device)
    root = inverse_root(X, method)
    assert torch.equal(root.isfinite(), torch.ones_like(root, dtype=torch.bool))
    white = root @ X @ X.mT @ root
    # The projector on the span of X: the identity where r <= n.
    U = torch.linalg.svd(X, full_matrices=False).U
    condition = torch.linalg.cond(X).max() if shape[0] <= shape[1] else torch.tensor(1e3)
    assert float((white - U @ U.mT).abs().max()) <= 1000 * U64 * float(condition) ** 2
    assert float((root - root.mT).abs().max()) <= 100 * U64 * float(root.abs().max())


def test_the_svd_loses_the_condition_number_and_the_gram_matrix_its_square() -> None:
    condition = 1e5
    X = conditioned(8, 40, condition)
    # Against the root of the very matrix, in twice the digits that matter: s is known.
    U, s, _ = torch.linalg.svd(X)
    exact = (U / s) @ U.mT
    errors = {
        method: float((inverse_root(X.float(), method).double() - exact).norm() / exact.norm())
        for method in EXACT
    }
    u32 = unit_roundoff(torch.float32)
    assert errors["svd"] <= 30 * u32 * condition
    assert errors["eigh"] > 30 * u32 * condition
    by_gram = float((inverse_root(X, "eigh") - exact).norm() / exact.norm())
    assert by_gram <= 30 * U64 * condition**2


@pytest.mark.parametrize("method", INVERSE_ROOTS)
@pytest.mark.parametrize("damping", [1e-5, 1e-3])
def test_damping_is_relative(method: str, damping: float) -> None:
    X = conditioned(6, 20, 1e3)
    expected = expected_root(X, damping)
    # The table leaves 2.5e-4 of the damped root where its steps have not converged.
    bound = 2.5e-4 if method == "newton_schulz" else 1e-9
    error = torch.linalg.matrix_norm(inverse_root(X, method, damping=damping) - expected, 2)
    assert float(error / torch.linalg.matrix_norm(expected, 2)) <= bound


def test_the_products_of_the_paper_are_no_better_than_their_table() -> None:
    # The control of the bound above: what one step less leaves is far beyond it.
    X = conditioned(6, 20, 1e3)
    found, expected = inverse_root(X, "newton_schulz"), expected_root(X, 1e-5)
    error = torch.linalg.matrix_norm(found - expected, 2) / torch.linalg.matrix_norm(expected, 2)
    assert 1e-7 <= float(error) <= 2.5e-4
    exact = expected_root(X, 0.0)
    undamped = torch.linalg.matrix_norm(found - exact, 2) / torch.linalg.matrix_norm(exact, 2)
    assert float(undamped) > 0.1


@pytest.mark.parametrize("method", INVERSE_ROOTS)
@pytest.mark.parametrize("power", [-200, -3, 1, 100])
def test_powers_of_two_change_no_bit(method: str, power: int) -> None:
    X = random_matrices(3, 5, 9)
    scaled = inverse_root(2.0**power * X, method)
    assert torch.equal(scaled * 2.0**power, inverse_root(X, method))


@pytest.mark.parametrize("method", INVERSE_ROOTS)
def test_zero_has_the_root_zero_and_troubles_no_neighbour(method: str) -> None:
    X = random_matrices(3, 4, 7)
    alone = inverse_root(X[[0, 2]], method)
    X[1] = 0.0
    root = inverse_root(X, method)
    assert torch.equal(root[1], torch.zeros(4, 4, dtype=torch.float64))
    assert torch.allclose(root[[0, 2]], alone, rtol=1e-13, atol=0)


@pytest.mark.parametrize("method", EXACT)
def test_directions_that_are_null_are_dropped(method: str) -> None:
    X = with_spectrum(6, 20, torch.tensor([1.0, 0.5, 0.25]).double())
    root = inverse_root(X, method)
    weights = torch.linalg.eigvalsh(root)
    assert weights[-3:].tolist() == pytest.approx([1.0, 2.0, 4.0], rel=1e-12)
    assert float(weights[:3].abs().max()) <= 1e-13


@pytest.mark.parametrize("method", INVERSE_ROOTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_dtype_is_kept(method: str, dtype: torch.dtype, device: torch.device) -> None:
    X = random_matrices(2, 4, 9, dtype=dtype).to(device)
    root = inverse_root(X, method)
    assert root.dtype is dtype
    assert root.device.type == device.type
    expected = expected_root(X.cpu(), 1e-5 if method == "newton_schulz" else 0.0)
    error = (root.cpu().double() - expected).abs().max() / expected.abs().max()
    # Half precisions compute in float32 and round once.
    allowed = 1e-3 if method == "newton_schulz" else 0.0
    assert float(error) <= 300 * unit_roundoff(torch.float32) + unit_roundoff(dtype) + allowed


def test_errors_say_what_was_given() -> None:
    X = random_matrices(3, 5)
    with pytest.raises(ValueError, match=r"unknown method 'egh'.*did you mean 'eigh'"):
        inverse_root(X, "egh")
    with pytest.raises(ValueError, match="damping must be finite and >= 0"):
        inverse_root(X, damping=-1.0)
    with pytest.raises(ValueError, match=r"at least 1e-05 for method 'newton_schulz', got 1e-06"):
        inverse_root(X, "newton_schulz", damping=1e-6)
    X[0, 0] = math.nan
    with pytest.raises(ValueError, match="X must be finite, got 1 NaN"):
        inverse_root(X)
    with pytest.raises(ValueError, match="floating-point dtype"):
        inverse_root(torch.ones(2, 2, dtype=torch.long))
