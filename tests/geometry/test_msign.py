"""Laws of the exact polar factor."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from geometry.polar import msign

U64 = 2.0**-53
SHAPES = [(1, 1), (5, 5), (7, 3), (3, 7), (6, 1)]


def random_matrices(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)


def with_spectrum(m: int, n: int, s: Tensor, seed: int = 0) -> Tensor:
    U = torch.linalg.qr(random_matrices(m, len(s), seed=seed)).Q
    V = torch.linalg.qr(random_matrices(n, len(s), seed=seed + 1)).Q
    G: Tensor = (U * s) @ V.mT
    return G


def polar_tolerance(G: Tensor) -> float:
    """p u ||G||_F / s_min per error of G: the polar factor's condition number is 2 / (2 s_min)."""
    s = torch.linalg.svdvals(G.double())
    k = max(G.shape[-2:])
    return float((8 * k * U64 * s.norm(dim=-1) / s[..., -1]).max())


@pytest.mark.parametrize("shape", SHAPES)
def test_agrees_with_scipys_polar(shape: tuple[int, int], device: torch.device) -> None:
    G = random_matrices(*shape)
    expected, _ = scipy.linalg.polar(G.numpy(), side="right" if shape[0] >= shape[1] else "left")
    error = np.linalg.norm(msign(G.to(device)).cpu().numpy() - expected)
    assert error <= 2 * polar_tolerance(G)


@pytest.mark.parametrize("shape", SHAPES)
def test_is_a_partial_isometry_and_dual_to_the_nuclear_norm(
    shape: tuple[int, int], device: torch.device
) -> None:
    G = random_matrices(4, *shape).to(device)
    W = msign(G)
    s = torch.linalg.svdvals(W)
    assert (s - 1).abs().max() <= 64 * max(shape) * U64
    nuclear = torch.linalg.svdvals(G).sum(-1)
    assert ((G * W).sum((-2, -1)) - nuclear).abs().max() <= 1e-14 * nuclear.max() * max(shape)


@pytest.mark.parametrize("shape", SHAPES)
def test_is_equivariant_and_commutes_with_transposition(
    shape: tuple[int, int], device: torch.device
) -> None:
    m, n = shape
    G = random_matrices(m, n, seed=3)
    Q = torch.linalg.qr(random_matrices(m, m, seed=4)).Q
    P = torch.linalg.qr(random_matrices(n, n, seed=5)).Q
    tolerance = 3 * polar_tolerance(G)
    G, Q, P = G.to(device), Q.to(device), P.to(device)
    assert torch.linalg.matrix_norm(msign(Q @ G @ P) - Q @ msign(G) @ P) <= tolerance
    assert torch.linalg.matrix_norm(msign(G.mT) - msign(G).mT) <= tolerance


def test_power_of_two_scaling_is_bitwise(device: torch.device) -> None:
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        G = random_matrices(3, 6, 4, seed=1, dtype=dtype).to(device)
        for exponent in (-90, -60, -7, 1, 60, 100):
            assert torch.equal(msign(G * 2.0**exponent), msign(G)), (dtype, exponent)
    # Down to the subnormal numbers, where 2^-k G is exact because the entries are short.
    G = torch.tensor([[3.0, 1.0], [-2.0, 5.0]], dtype=torch.float64, device=device)
    assert torch.equal(msign(G * 2.0**-1000 * 2.0**-72), msign(G))
    assert torch.equal(msign(G * 2.0**1000 * 2.0**20), msign(G))


def test_each_matrix_of_a_batch_is_scaled_on_its_own(device: torch.device) -> None:
    G = random_matrices(3, 5, 4, seed=2).to(device)
    scales = torch.tensor([1e-200, 1.0, 1e200], dtype=torch.float64, device=device)
    W = msign(G * scales[:, None, None])
    slices = torch.stack([msign(G[i] * scales[i]) for i in range(3)])
    assert (W - slices).abs().max() <= polar_tolerance(G.cpu())
    assert (W - msign(G)).abs().max() <= polar_tolerance(G.cpu())


def test_batch_dimensions_are_kept(device: torch.device) -> None:
    G = random_matrices(2, 3, 5, 4).to(device)
    W = msign(G)
    assert W.shape == G.shape
    assert W.dtype == G.dtype
    assert W.device.type == device.type
    slices = torch.stack([torch.stack([msign(M) for M in row]) for row in G])
    assert (W - slices).abs().max() <= polar_tolerance(G.cpu())
    assert msign(torch.zeros(0, 3, 2, device=device)).shape == (0, 3, 2)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_zero_stays_zero(dtype: torch.dtype, device: torch.device) -> None:
    G = torch.zeros(2, 4, 3, dtype=dtype, device=device)
    G[1, 0, 0] = 2.0
    W = msign(G)
    assert torch.equal(W[0], torch.zeros_like(W[0]))
    assert W[1].abs().sum() == 1
    assert W[1, 0, 0] == 1


def test_drops_directions_of_a_rank_deficient_matrix(device: torch.device) -> None:
    L, R = random_matrices(8, 3, seed=6), random_matrices(3, 6, seed=7)
    W = msign((L @ R).to(device))
    s = torch.linalg.svdvals(W).cpu()
    assert torch.allclose(s, torch.tensor([1.0] * 3 + [0.0] * 3).double(), rtol=0, atol=1e-13)
    # The range and the co-range are those of the factors.
    assert (W.cpu() @ torch.linalg.qr(R.mT, mode="complete").Q[:, 3:]).norm() <= 1e-12


def test_condition_1e12_keeps_every_direction(device: torch.device) -> None:
    G = with_spectrum(9, 6, torch.logspace(0, -12, 6, dtype=torch.float64))
    W = msign(G.to(device)).cpu()
    assert (W.mT @ W - torch.eye(6, dtype=torch.float64)).norm() <= 1e-13
    # The smallest direction is determined to u * condition, about 1e-4.
    reference = msign(with_spectrum(9, 6, torch.ones(6, dtype=torch.float64)))
    assert (W - reference).norm() <= polar_tolerance(G)
    # float32 cannot tell the last directions from rounding and drops them.
    assert torch.linalg.svdvals(msign(G.float().to(device)))[-1] <= 1e-5


def test_rank_cutoff_is_relative(device: torch.device) -> None:
    s = torch.tensor([8.0, 4.0, 1.0], dtype=torch.float64)
    G = with_spectrum(5, 4, s).to(device)
    for cutoff, kept in ((0.0, 3), (0.1, 3), (0.2, 2), (0.6, 1)):
        W = msign(2.0**-30 * G, rank_cutoff=cutoff)
        # cutoff = 0 keeps also the direction that rounding made.
        assert round(float(W.square().sum())) == (4 if cutoff == 0 else kept)


@given(st.sampled_from([torch.float16, torch.bfloat16]), st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_half_precisions_are_the_rounded_float32_result(dtype: torch.dtype, seed: int) -> None:
    G = random_matrices(5, 3, seed=seed, dtype=dtype)
    assert msign(G).dtype == dtype
    assert torch.equal(msign(G), msign(G.float()).to(dtype))


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (torch.ones(3), r"G must have shape \(\.\.\., m, n\), got shape \(3,\)"),
        (torch.ones(2, 0), r"m, n >= 1, got shape \(2, 0\)"),
        (torch.ones(2, 2, dtype=torch.int64), "floating-point dtype, got torch.int64"),
        (
            torch.tensor([[1.0, float("nan")]]),
            "G must be finite, got 1 NaN or infinite entries of 2",
        ),
        (torch.tensor([[1.0, float("inf")]]), "G must be finite"),
        (np.ones((2, 2)), "G must be a torch.Tensor, got ndarray"),
    ],
)
def test_rejects(bad: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        msign(bad)


@pytest.mark.parametrize("cutoff", [-0.1, 1.0, float("nan")])
def test_rejects_a_cutoff_outside_the_unit_interval(cutoff: float) -> None:
    with pytest.raises(ValueError, match=r"rank_cutoff must lie in \[0, 1\)"):
        msign(torch.eye(2), rank_cutoff=cutoff)
