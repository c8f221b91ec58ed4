"""Sketched bases and the low-rank polar factor: what they span, and what they leave out."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from geometry.polar import msign
from geometry.sketch import (
    SKETCHES,
    _may_lie_below,
    low_rank_msign,
    orthonormal_basis,
    range_basis,
    sketch_named,
)

SHAPES = ((30, 50), (50, 30), (40, 40))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def planted(m: int, n: int, s: Tensor, batch: int = 3, seed: int = 1) -> Tensor:
    """(batch, m, n) with singular values s."""
    g = generator(seed)
    U, V = (
        torch.linalg.qr(torch.randn(batch, k, len(s), generator=g, dtype=s.dtype)).Q for k in (m, n)
    )
    return (U * s) @ V.mT


@pytest.mark.parametrize("method", SKETCHES)
@pytest.mark.parametrize(("m", "n"), SHAPES)
def test_of_a_matrix_of_small_rank_it_is_the_polar_factor(method: str, m: int, n: int) -> None:
    M = planted(m, n, 10.0 ** torch.linspace(0, -2, 5, dtype=torch.float64))
    for iterations in (0, 2):
        # Three times the rank: the sketch determines five directions and leaves out the rest.
        factor = low_rank_msign(M, 15, method, power_iterations=iterations, generator=generator())
        # Five of fifteen draws may miss a direction only by norm-weighted sampling.
        if method == "weighted":
            assert (torch.linalg.matrix_norm(factor).square() < 5.001).all()
            assert (M * factor).sum((-2, -1)).min() > 0.9
        else:
            assert (factor - msign(M)).abs().max() < 1e-12


@pytest.mark.parametrize("method", SKETCHES)
@pytest.mark.parametrize(("m", "n"), SHAPES)
def test_bases_are_orthonormal_and_lie_in_the_range(method: str, m: int, n: int) -> None:
    M = planted(m, n, torch.linspace(3, 1, 12, dtype=torch.float64))
    Q = range_basis(M, 8, method, oversampling=2, generator=generator())
    assert Q.shape == (3, m, 10)
    ones = torch.linalg.vector_norm(Q, dim=-2).round()
    assert (Q.mT @ Q - torch.diag_embed(ones)).abs().max() < 1e-14
    U = torch.linalg.svd(M, full_matrices=False).U[..., :12]
    assert (U @ (U.mT @ Q) - Q).abs().max() < 1e-13


def test_columns_drawn_twice_leave_nothing_arbitrary() -> None:
    Y = planted(20, 4, torch.linspace(2, 1, 4, dtype=torch.float64))[..., [0, 0, 1, 2, 1, 3]]
    Q = orthonormal_basis(Y)
    assert torch.equal(Q[..., 4:], torch.zeros(3, 20, 2, dtype=torch.float64))
    assert (Q @ (Q.mT @ Y) - Y).abs().max() < 1e-14
    assert (torch.linalg.svdvals(Q)[..., :4] - 1).abs().max() < 1e-14


def test_a_zero_matrix_gives_zero() -> None:
    for method in SKETCHES:
        factor = low_rank_msign(
            torch.zeros(2, 6, 9), 3, method, power_iterations=1, generator=generator()
        )
        assert not factor.any()


@pytest.mark.parametrize("method", SKETCHES)
def test_a_batch_gets_what_its_slices_get(method: str, device: torch.device) -> None:
    M = torch.randn(4, 12, 20, generator=generator(), dtype=torch.float64).to(device)
    M[1] = M[1, :, :1] * M[1, :1]
    drawn = torch.rand(
        4, *sketch_named(method).draws(20, 6), generator=generator(2), dtype=torch.float64
    ).to(device)
    together = low_rank_msign(M, 4, method, oversampling=2, power_iterations=1, uniforms=drawn)
    for i in range(4):
        alone = low_rank_msign(
            M[i], 4, method, oversampling=2, power_iterations=1, uniforms=drawn[i]
        )
        assert (together[i] - alone).abs().max() < 1e-12


def test_what_is_well_above_the_cut_off_needs_no_svd(monkeypatch: pytest.MonkeyPatch) -> None:
    # Frobenius norms of R and of its inverse would say that it may lie below: 30 > 1 / .04.
    Y = planted(40, 40, torch.linspace(2, 1, 30, dtype=torch.float64))[..., :30]
    monkeypatch.setattr(torch.linalg, "svd", None)
    Q = orthonormal_basis(torch.linalg.qr(Y).Q, 0.04)
    assert (Q.mT @ Q - torch.eye(30)).abs().max() < 1e-13


@pytest.mark.parametrize("method", SKETCHES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_scale_of_a_matrix_does_not_matter(method: str, dtype: torch.dtype) -> None:
    M = torch.randn(9, 14, generator=generator(), dtype=dtype)

    def factor(X: Tensor) -> Tensor:
        return low_rank_msign(X, 3, method, power_iterations=2, generator=generator(2))

    info = torch.finfo(dtype)
    largest = 2.0 ** (int(math.log2(info.max)) - 3)
    for scale in (2.0, 2.0**-40, largest, info.tiny * 2**12):
        assert torch.equal(factor(M * scale), factor(M))
    # Of subnormal entries, which whole numbers times the least of them are exactly.
    whole = (M * 128).round()
    assert torch.equal(factor(whole * (info.tiny * info.eps)), factor(whole))


def test_what_is_asked_for_must_be_there() -> None:
    M = torch.randn(4, 6, generator=generator())
    g = generator()
    with pytest.raises(ValueError, match=r"at most min\(m, n\) = 4 for 4 x 6 .* got 4 \+ 1"):
        range_basis(M, 4, oversampling=1, generator=g)
    with pytest.raises(ValueError, match=r"unknown sketch 'gausian'.*did you mean 'gaussian'"):
        range_basis(M, 2, "gausian", generator=g)
    with pytest.raises(ValueError, match="rank must be a positive int, got 0"):
        low_rank_msign(M, 0, generator=g)
    with pytest.raises(ValueError, match="got neither"):
        range_basis(M, 2)
    with pytest.raises(ValueError, match="got both"):
        range_basis(M, 2, generator=g, uniforms=torch.rand(6, 2))
    with pytest.raises(ValueError, match=r"must broadcast to \(6, 2\), got shape \(5, 2\)"):
        range_basis(M, 2, uniforms=torch.rand(5, 2))
    with pytest.raises(ValueError, match="M must be finite"):
        range_basis(M / 0, 2, generator=g)


def test_a_triangle_said_to_be_far_from_deficient_is(device: torch.device) -> None:
    # Kahan's matrices hide their least singular value from the diagonal.
    made = []
    for size, count in ((1, 50), (2, 200), (3, 400), (6, 400)):
        R = torch.randn(count, size, size, generator=generator(size), dtype=torch.float64).triu()
        R[:, :, -1] *= 10 ** -torch.linspace(0, 18, count, dtype=torch.float64)[:, None]
        made.append(R)
    angles = torch.linspace(0.05, 1.5, 60, dtype=torch.float64)
    kahan = -angles.cos()[:, None, None] * torch.ones(8, 8, dtype=torch.float64).triu(1)
    kahan = kahan + torch.eye(8, dtype=torch.float64)
    made.append(kahan * (angles.sin()[:, None] ** torch.arange(8))[..., None])
    made.append(torch.zeros(2, 3, 3, dtype=torch.float64))
    for R in made:
        s = torch.linalg.svdvals(R)
        for cutoff in (1e-15, 1e-8, 1e-3):
            below = s[:, -1] <= cutoff * s[:, 0]
            found = _may_lie_below(cutoff, R.to(device)).cpu()
            assert bool((found | ~below).all())
            # One by one: the look at all of them is no other than at each.
            alone = torch.cat([_may_lie_below(cutoff, X[None].to(device)) for X in R]).cpu()
            assert bool((alone | ~below).all())
            far = s[:, -1] > 1e3 * cutoff * s[:, 0]
            assert not bool(found[far].any())
