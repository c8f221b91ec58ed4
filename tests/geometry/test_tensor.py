"""The dual norm, its LMO, the choice of an unfolding, and the spectral norm from below."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

import geometry.tensor as module
from geometry.polar import msign
from geometry.tensor import (
    dual_norm,
    offline_unfolding,
    online_unfolding,
    tensor_lmo,
    unfold,
    unfoldings,
)
from geometry.tensor_spectral_norm import spectral_norm_from_below
from tests.geometry.test_msign import random_matrices

SHAPES = [(5, 7), (2, 3, 4), (4, 4, 4), (3, 2, 2, 2), (6, 5, 3, 3), (2, 2, 2, 2, 2)]


def nuclear_norms(G: Tensor, order: int) -> Tensor:
    """(T, ...) in the order of ``unfoldings``."""
    return torch.stack(
        [torch.linalg.svdvals(unfold(G, modes, order)).sum(-1) for modes in unfoldings(order)]
    )


@pytest.mark.parametrize("shape", SHAPES)
def test_the_lmo_attains_the_dual_norm_in_the_ball(shape: tuple[int, ...]) -> None:
    order, G = len(shape), random_matrices(6, *shape)
    S, norm = tensor_lmo(G, order), dual_norm(G, order)
    norms = nuclear_norms(G, order)
    assert torch.allclose(norm, norms.amax(0), rtol=1e-14, atol=0)
    assert torch.allclose((G * S).flatten(1).sum(-1), norm, rtol=1e-13, atol=0)
    chosen = online_unfolding(G, order)
    assert torch.equal(chosen, norms.argmax(0))
    for place, member in zip(chosen.tolist(), S, strict=True):
        largest = torch.linalg.matrix_norm(unfold(member, unfoldings(order)[place]), 2)
        assert float(largest) == pytest.approx(1, abs=1e-14)


@pytest.mark.parametrize("shape", SHAPES)
def test_members_get_what_they_get_alone(shape: tuple[int, ...]) -> None:
    order, G = len(shape), random_matrices(6, *shape)
    alone = torch.stack([tensor_lmo(member) for member in G])
    batched = tensor_lmo(G.reshape(2, 3, *shape), order)
    assert (batched.reshape(6, *shape) - alone).abs().max() <= 1e-13
    assert torch.equal(
        online_unfolding(G, order), torch.stack([online_unfolding(member) for member in G])
    )


def test_on_matrices_it_is_msign() -> None:
    G = random_matrices(3, 4, 7)
    assert torch.equal(tensor_lmo(G, 2), msign(G))
    # A 1 x 1 convolution is a matrix.
    assert torch.equal(tensor_lmo(G.reshape(3, 4, 7, 1, 1), 4).reshape(3, 4, 7), msign(G))


def test_modes_of_size_one_change_nothing() -> None:
    G = random_matrices(4, 3, 5, 4)
    expected = tensor_lmo(G, 3)
    for shape in ((1, 3, 5, 4), (3, 1, 5, 4), (3, 5, 4, 1), (3, 1, 5, 4, 1)):
        padded = G.reshape(4, *shape)
        assert torch.equal(dual_norm(padded, len(shape)), dual_norm(G, 3))
        assert torch.equal(tensor_lmo(padded, len(shape)).reshape(G.shape), expected)
    vector = random_matrices(1, 1, 6, 1)[0]
    size = torch.linalg.vector_norm(vector)
    assert float(dual_norm(vector)) == pytest.approx(float(size), rel=1e-15)
    assert (tensor_lmo(vector) - vector / size).abs().max() <= 1e-15


def test_offline_is_the_widest_and_the_first_of_equals() -> None:
    assert offline_unfolding((64, 32, 3, 3)) == (0, 2)
    assert offline_unfolding((128, 3, 7, 7)) == (0,)
    assert offline_unfolding((4, 4, 4)) == (0,)
    assert offline_unfolding((7, 5)) == (0,)


def test_ties_go_to_the_first() -> None:
    # Symmetric in all modes: three equal nuclear norms, that round otherwise.
    vectors = random_matrices(1, 6, 9)[0]
    for coefficients in (1.0, torch.linspace(1, 9, 9, dtype=torch.float64)):
        G = torch.einsum("ir,jr,kr->ijk", vectors * coefficients, vectors, vectors)
        for scale in (1.0, 0.7, 1e-3, -13.0):
            assert int(online_unfolding(scale * G)) == 0
    # A kernel that is symmetric in its two last modes ties (0, 2) with (0, 3).
    G = random_matrices(1, 8, 6, 3, 3)[0]
    G = G + G.mT
    norms = nuclear_norms(G, 4)
    assert float(norms[5] / norms[6]) == pytest.approx(1, abs=1e-14)
    assert unfoldings(4)[int(online_unfolding(G))] == (0, 2)
    assert int(online_unfolding(torch.zeros(3, 4, 5))) == 0


def test_near_ties_are_decided_by_singular_values() -> None:
    # Of rank two, so that Gram matrices in float64 leave both unfoldings open.
    G = torch.zeros(3, 3, 3, dtype=torch.float64)
    G[0, 0, 0], G[1, 1, 0] = 1.0, 1e-6
    # One row is not zero by mode 2: norm (1 + 1e-12)^(1/2), the others' is 1 + 1e-6.
    assert int(online_unfolding(G)) == 0
    assert int(online_unfolding(G.permute(2, 0, 1))) == 1
    assert int(online_unfolding(G.permute(2, 1, 0))) == 1


def test_bounds_by_gram_matrices_enclose_the_nuclear_norm() -> None:
    for seed, condition in enumerate((1.0, 1e3, 1e8, 1e15)):
        s = torch.logspace(0, -math.log10(condition), 6, dtype=torch.float64)
        U, V = torch.linalg.qr(random_matrices(20, 9, 6, seed=seed)).Q, random_matrices(20, 6, 6)
        A = (U * s) @ torch.linalg.qr(V).Q
        low, high = module._nuclear_bounds(A, torch.linalg.matrix_norm(A))
        exact = torch.linalg.svdvals(A).sum(-1)
        assert bool(((low <= exact) & (exact <= high)).all())


def test_powers_of_two_and_extreme_scales_change_nothing() -> None:
    G = random_matrices(5, 3, 4, 3)
    chosen, S = online_unfolding(G, 3), tensor_lmo(G, 3)
    for exponent in (-900, -60, 60, 900):
        scaled = torch.ldexp(G, torch.tensor(exponent))
        assert torch.equal(online_unfolding(scaled, 3), chosen)
        assert torch.equal(tensor_lmo(scaled, 3), S)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_narrower_dtypes(dtype: torch.dtype) -> None:
    G = random_matrices(5, 6, 4, 3).to(dtype)
    S = tensor_lmo(G, 3)
    assert S.dtype == dtype
    exact = tensor_lmo(G.double(), 3)
    assert (S.double() - exact).abs().max() <= 20 * torch.finfo(dtype).eps
    assert dual_norm(G, 3).dtype == torch.float32


def test_an_empty_ensemble() -> None:
    G = torch.zeros(0, 3, 4, 5)
    assert tensor_lmo(G, 3).shape == G.shape
    assert online_unfolding(G, 3).shape == (0,)


def test_nan_is_refused() -> None:
    G = torch.full((2, 2, 2), float("nan"))
    for function in (online_unfolding, tensor_lmo, spectral_norm_from_below):
        with pytest.raises(ValueError, match="must be finite, got 8 NaN"):
            function(G)


def test_the_spectral_norm_is_found_where_it_is_known() -> None:
    matrices = random_matrices(4, 5, 7)
    found = spectral_norm_from_below(matrices, 2)
    assert torch.allclose(found, torch.linalg.matrix_norm(matrices, 2), rtol=1e-12)
    # Orthogonally decomposable: the largest coefficient.
    U, V, W = (torch.linalg.qr(random_matrices(3, 5, 4, seed=k)).Q for k in range(3))
    s = torch.tensor([3.0, 2.0, 1.0, 0.5], dtype=torch.float64)
    X = torch.einsum("bir,bjr,bkr->bijk", U * s, V, W)
    assert torch.allclose(spectral_norm_from_below(X, 3), s[:1].expand(3), rtol=1e-12)
    # Symmetric e1 e2 e2 + e2 e1 e2 + e2 e2 e1: 2 / sqrt 3, below every unfolding's sqrt 2.
    W_state = torch.zeros(2, 2, 2, dtype=torch.float64)
    W_state[0, 1, 1] = W_state[1, 0, 1] = W_state[1, 1, 0] = 1.0
    assert float(spectral_norm_from_below(W_state)) == pytest.approx(2 / 3**0.5, abs=1e-12)
    assert float(spectral_norm_from_below(torch.zeros(2, 3, 4))) == 0.0


def test_more_restarts_never_find_less_and_a_value_is_attained() -> None:
    X = random_matrices(40, 8, 8, 8)
    few = spectral_norm_from_below(X, 3, restarts=1)
    many = spectral_norm_from_below(X, 3, restarts=200)
    assert bool((few <= many * (1 + 1e-12)).all())
    assert bool((few < 0.999 * many).any())
    for modes in unfoldings(3):
        assert bool((many <= torch.linalg.matrix_norm(unfold(X, modes, 3), 2)).all())
    with pytest.raises(ValueError, match="restarts must be a positive int, got 0"):
        spectral_norm_from_below(X, 3, restarts=0)
