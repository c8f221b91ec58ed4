"""Zero, tiny and huge matrices, half precisions, and what does not fit: in numbers or in words."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from geometry.errors import RankError
from geometry.fixed_rank import Tangent, tangent_inner
from geometry.gauge import balanced, change_of_product, product_singular_values
from geometry.inverse_root import INVERSE_ROOTS, inverse_root
from geometry.lora import split_direction_by_gram, split_direction_by_qr, split_step
from geometry.minimax import cans_coefficients
from geometry.polar import msign, smoothed_msign
from geometry.sketch import low_rank_msign
from geometry.tangent_lmo import tangent_lmo
from geometry.tensor import dual_norm, offline_unfolding
from geometry.tensor_spectral_norm import spectral_norm_from_below
from tests.geometry.test_msign import random_matrices

M, R, N = 6, 2, 5


def pair(seed: int = 0) -> tuple[Tensor, Tensor]:
    return random_matrices(M, R, seed=seed), random_matrices(R, N, seed=seed + 1)


def test_a_change_of_another_rank_is_no_change() -> None:
    """One of rank 1 was broadcast: a matrix, but not the one that was asked for."""
    B, A = pair()
    with pytest.raises(ValueError, match=r"dB: shape \(6, 2\)"):
        change_of_product(B, A, random_matrices(M, 1, seed=2), random_matrices(1, N, seed=3))


def test_factors_that_do_not_multiply_are_told() -> None:
    B, A = pair()
    with pytest.raises(ValueError, match=r"B \(..., m, k\) and A \(..., k, n\) of one dtype"):
        product_singular_values(B, random_matrices(3, N, seed=1))
    for function in (product_singular_values, balanced):
        with pytest.raises(ValueError, match="B must be finite, got 12 NaN"):
            function(B * math.nan, A)


def test_tangent_vectors_of_two_manifolds_have_no_inner_product() -> None:
    B, A = pair()
    xi = Tangent(B, A.mT)
    other = Tangent(xi.D_U[:, :1], xi.D_V)
    with pytest.raises(ValueError, match="D_U: of one size in both vectors is expected"):
        tangent_inner(xi, other)


@pytest.mark.parametrize(
    ("eta", "message"),
    [
        (-0.1, "eta must be >= 0, got -0.1"),
        (torch.tensor(-0.1), "eta must be >= 0"),
        (torch.ones(3), r"eta must broadcast to the leading dimensions \(\), got shape \(3,\)"),
        ("a", "eta must be a number, got str 'a'"),
    ],
)
def test_a_radius_is_one_of_the_factors(eta: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        split_step(*pair(), *pair(2), eta)


@pytest.mark.parametrize("method", INVERSE_ROOTS)
@pytest.mark.parametrize("power", [-1020, -1000, 1000])
def test_roots_are_found_wherever_they_can_be_written(method: str, power: int) -> None:
    """Where the power of two itself overflows, zeros of the root were NaN."""
    X = torch.tensor([[3.0, 0.0], [0.0, 2.0]], dtype=torch.float64)
    found = inverse_root(torch.ldexp(X, torch.tensor(power)), method)
    assert torch.equal(torch.ldexp(found, torch.tensor(power)), inverse_root(X, method))


def test_a_root_beyond_the_range_is_infinite_and_its_zeros_are_zeros() -> None:
    root = inverse_root(torch.eye(2, dtype=torch.float64) * 1e-310)
    assert bool(torch.isinf(root.diagonal()).all())
    assert root[0, 1] == 0 == root[1, 0]


def test_a_gradient_of_zero_has_a_best_direction_of_zero() -> None:
    B, A = pair()
    G = torch.stack([random_matrices(M, N, seed=4), torch.zeros(M, N, dtype=torch.float64)])
    found = tangent_lmo(B.expand(2, M, R), A.expand(2, R, N), G)
    assert not found.Z[1].any()
    assert found.value[1] == 0 == found.upper[1]
    alone = tangent_lmo(B, A, G[0])
    torch.testing.assert_close(found.value[0], alone.value, rtol=1e-2, atol=0.0)


@pytest.mark.parametrize("power", [-1000, 900])
def test_best_directions_do_not_depend_on_the_scale(power: int) -> None:
    B, A = pair()
    G, by = random_matrices(M, N, seed=4), torch.tensor(power)
    found, expected = tangent_lmo(B, A, torch.ldexp(G, by)), tangent_lmo(B, A, G)
    assert torch.equal(found.Z, expected.Z)
    assert torch.equal(found.value, torch.ldexp(expected.value, by))
    assert torch.equal(found.upper, torch.ldexp(expected.upper, by))


def test_tangent_spaces_are_of_factors_of_full_rank() -> None:
    B, A = pair()
    G = random_matrices(M, N, seed=4)
    with pytest.raises(RankError, match="B: rank 2 is expected"):
        tangent_lmo(B * 0, A, G)
    with pytest.raises(ValueError, match=r"G: torch.float64 on cpu, as of the factors"):
        tangent_lmo(B, A, G.float())


@pytest.mark.parametrize("power", [-1000, 1000])
def test_norms_of_tensors_do_not_leave_the_range(power: int) -> None:
    """They were 0, a bound from below that says nothing."""
    X, by = random_matrices(2, 3, 4, seed=5), torch.tensor(power)
    found, expected = (spectral_norm_from_below(x, restarts=5) for x in (torch.ldexp(X, by), X))
    assert torch.equal(found, torch.ldexp(expected, by))
    assert expected > 0


def test_duals_and_shapes_that_are_none_are_told() -> None:
    with pytest.raises(ValueError, match="G must be finite, got 24 NaN"):
        dual_norm(torch.full((2, 3, 4), math.nan))
    with pytest.raises(ValueError, match=r"sizes of 1 at least are expected; given \(0, 3\)"):
        offline_unfolding((0, 3))


def test_dtypes_that_torch_does_not_compute_in_are_told() -> None:
    G = torch.eye(3).to(torch.float8_e4m3fn)
    with pytest.raises(ValueError, match="G must be float64, float32, float16 or bfloat16, got"):
        msign(G)


@pytest.mark.parametrize("lower", [1e-17, 1e-100, 1e-300])
def test_any_lower_bound_has_its_composition(lower: float) -> None:
    table = cans_coefficients(12, lower)
    assert len(table) == 12
    assert all(math.isfinite(c) for each in table for c in each)


def test_gram_matrices_that_underflow_are_told() -> None:
    """All directions were 0, and nothing said so; float32 factors have no such entries."""
    (B, A), (G_B, G_A) = pair(), pair(2)
    with pytest.raises(ValueError, match="G_B: squares that are normal in float64 are expected"):
        split_direction_by_gram(B, A, G_B * 1e-170, G_A)
    D_B, D_A = split_direction_by_gram(B * 0, A, G_B, G_A * 0)
    assert D_B.any()
    assert not D_A.any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_qr_coordinates_of_half_precisions_are_those_of_float32(dtype: torch.dtype) -> None:
    given = [x.to(dtype) for x in (*pair(), *pair(2))]
    found = split_direction_by_qr(*given)
    expected = split_direction_by_qr(*(x.float() for x in given))
    for half, single in zip(found, expected, strict=True):
        assert half.dtype == dtype
        assert torch.equal(half, single.to(dtype))


def test_no_matrices_need_no_numbers() -> None:
    none = torch.zeros(0, 5, 4)
    drawn = torch.zeros(0, 5, 2, dtype=torch.float64)
    assert low_rank_msign(none, 2, uniforms=drawn).shape == (0, 5, 4)


def test_a_tolerance_is_looked_at_on_every_route() -> None:
    for beta, route in ((0.1, "svd"), (0.1, "gram"), (0.0, "auto")):
        with pytest.raises(ValueError, match="tolerance must be finite and > 0"):
            smoothed_msign(torch.eye(3), beta, route=route, tolerance=-1.0)  # type: ignore[call-overload]
