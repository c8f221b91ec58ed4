"""The polar factor by certified products: as near as an SVD's, and never one that is not."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from geometry import certified_polar
from geometry.certified_polar import LOWER_BOUND, certified_polar_factor
from geometry.newton_schulz import OddPolynomial
from geometry.polar import msign, orthogonalize
from geometry.scaling import unit_roundoff

SHAPES = [(8, 10), (10, 8), (3, 10), (6, 6), (1, 4)]


def random_matrices(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)


def with_spectra(m: int, n: int, s: Tensor, seed: int = 0) -> Tensor:
    """One matrix for each row of s (E, min(m, n))."""
    U = torch.linalg.qr(random_matrices(len(s), m, s.shape[-1], seed=seed)).Q
    V = torch.linalg.qr(random_matrices(len(s), n, s.shape[-1], seed=seed + 1)).Q
    return (U * s[:, None]) @ V.mT


def conditioned(m: int, n: int, decades: float, count: int = 200) -> Tensor:
    """Spectra from 1 down to 10^-decades, between them at random."""
    exponents = torch.rand(count, min(m, n), generator=torch.Generator().manual_seed(9)).double()
    exponents[:, 0] = 0
    if min(m, n) > 1:
        exponents[:, -1] = 1
    return with_spectra(m, n, 10 ** (-decades * exponents))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("decades", [0.0, 1.0, 2.0])
def test_what_is_certified_is_the_polar_factor(
    shape: tuple[int, int], decades: float, dtype: torch.dtype, device: torch.device
) -> None:
    G = conditioned(*shape, decades).to(dtype)
    wide = G if shape[0] <= shape[1] else G.mT
    X, certified = certified_polar_factor(wide.to(device))
    assert certified.all()
    exact = msign(wide.double())
    # Backward error over s_min on both sides; float64 has the reference's too.
    s = torch.linalg.svdvals(wide.double())
    bound = 2 * 8 * max(shape) * unit_roundoff(dtype) * s.norm(dim=-1) / s[:, -1]
    assert bool((torch.linalg.matrix_norm(X.cpu().double() - exact) <= bound).all())


def test_the_backward_error_is_that_of_the_certificate() -> None:
    G = conditioned(8, 10, 2.5)
    X, certified = certified_polar_factor(G)
    assert certified.float().mean() > 0.9
    G, X = G[certified], X[certified]
    H = G @ X.mT
    H = (H + H.mT) / 2
    residual = torch.linalg.matrix_norm(G - H @ X) / torch.linalg.matrix_norm(G)
    assert float(residual.max()) <= 1.1 * 8 * 10 * unit_roundoff(torch.float64)
    assert float(torch.linalg.eigvalsh(H).min()) > 0


@pytest.mark.parametrize("shape", SHAPES)
def test_what_is_not_certified_has_the_bits_of_msign(
    shape: tuple[int, int], device: torch.device
) -> None:
    m, n = shape
    least = min(shape)
    s = torch.ones(4, least, dtype=torch.float64)
    s[0, -1], s[1, -1], s[2] = LOWER_BOUND / 100, 0.0, 0.0
    G = with_spectra(m, n, s).to(device)
    found = orthogonalize(G, "certified")
    certified = certified_polar_factor(G if m <= n else G.mT)[1]
    # One singular value alone is 1 once its matrix is normalised.
    assert certified.tolist() == [least == 1, False, False, True]
    assert torch.equal(found[~certified], msign(G[~certified]))
    assert float((found[certified] - msign(G)[certified]).abs().max()) <= 1e-14


def test_a_composition_that_has_not_arrived_is_not_certified(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    G = conditioned(8, 10, 1.0)
    whole = certified_polar.polynomials()
    for fewer in (whole[:-1], whole[:3], (OddPolynomial((1.0,)),)):
        monkeypatch.setattr(certified_polar, "polynomials", lambda fewer=fewer: fewer)
        assert not bool(certified_polar_factor(G)[1].any())
        assert torch.equal(orthogonalize(G, "certified"), msign(G))


def test_a_turned_factor_is_not_certified(monkeypatch: pytest.MonkeyPatch) -> None:
    # Orthonormal, but of another matrix: the residual alone can tell.
    G = with_spectra(4, 6, torch.tensor([[1.0, 0.9, 0.8, 0.7]]).double())
    turn = torch.linalg.matrix_exp(1e-12 * torch.tensor([[0.0, 1.0], [-1.0, 0.0]]).double())
    turn = torch.block_diag(turn, torch.eye(2, dtype=torch.float64))

    class Turned(OddPolynomial):
        def apply_to_matrix(self, X: Tensor) -> Tensor:
            return turn @ msign(X)

    monkeypatch.setattr(certified_polar, "polynomials", lambda: (Turned((1.0,)),))
    assert not bool(certified_polar_factor(G)[1].any())
    turn = torch.eye(4, dtype=torch.float64)
    assert bool(certified_polar_factor(G)[1].all())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_scales_batches_and_dtypes(dtype: torch.dtype, device: torch.device) -> None:
    G = random_matrices(2, 3, 5, 4, seed=4, dtype=dtype).to(device)
    W = orthogonalize(G, "certified")
    assert W.shape == G.shape
    assert W.dtype == dtype
    tolerance = 64 * max(torch.finfo(dtype).eps, torch.finfo(torch.float64).eps)
    assert float((W - msign(G)).abs().max()) <= tolerance
    for exponent in (-90, 60):
        assert torch.equal(orthogonalize(G * 2.0**exponent, "certified"), W)
    for index in ((0, 0), (1, 2)):
        assert float((orthogonalize(G[index], "certified") - W[index]).abs().max()) <= tolerance
    assert orthogonalize(G[:0], "certified").shape == (0, 3, 5, 4)
