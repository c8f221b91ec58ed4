"""Laws of sketches on drawn matrices of every kind: what holds whatever was drawn."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from geometry.polar import msign
from geometry.sketch import (
    SKETCHES,
    low_rank_msign,
    orthonormal_basis,
    projected_msign,
    range_basis,
    sketch_named,
)

F64 = torch.float64
SHAPES = ((7, 12), (12, 7), (9, 9), (5, 40), (1, 6), (6, 1))
methods = st.sampled_from(sorted(SKETCHES))
seeds = st.integers(0, 2**32)


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def uniforms(seed: int, method: str, n: int, count: int, *batch: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed + 1)
    return torch.rand(*batch, *sketch_named(method).draws(n, count), generator=generator, dtype=F64)


@st.composite
def matrices(draw: st.DrawFn) -> tuple[Tensor, int]:
    """(2, m, n) of some rank with condition 1 to 100, and that rank; the second may be zero."""
    m, n = draw(st.sampled_from(SHAPES))
    k = draw(st.integers(1, min(m, n)))
    s = 10.0 ** -torch.linspace(0, draw(st.floats(0, 2)), k, dtype=F64)
    seed = draw(seeds)
    U, V = (torch.linalg.qr(normal(seed + i, 2, size, k)).Q for i, size in enumerate((m, n)))
    M = U * s @ V.mT
    if draw(st.booleans()):
        M[1] = 0
    return M, k


@st.composite
def sketched(draw: st.DrawFn) -> tuple[Tensor, int, Tensor, str, int, dict[str, Any]]:
    """A pair of matrices, their rank, a basis, and how it was drawn: method, rank, options."""
    M, k = draw(matrices())
    m, n = M.shape[-2:]
    count, method = draw(st.integers(1, min(m, n))), draw(methods)
    options: dict[str, Any] = {
        "power_iterations": draw(st.integers(0, 2)),
        "uniforms": uniforms(draw(seeds), method, n, count, 2),
    }
    return M, k, range_basis(M, count, method, **options), method, count, options


@given(sketched())
def test_columns_are_orthonormal_and_then_zero(drawn: Any) -> None:
    _, k, Q, _, count, _ = drawn
    kept = torch.linalg.vector_norm(Q, dim=-2) > 0.5
    assert (Q.mT @ Q - torch.diag_embed(kept.to(F64))).abs().max() < 1e-13
    assert (kept.sum(-1) <= min(k, count)).all()
    assert torch.equal(kept, kept.sort(dim=-1, descending=True, stable=True).values)
    assert not Q[~kept.unsqueeze(-2).expand_as(Q)].any()


@given(sketched())
def test_the_basis_lies_in_the_range(drawn: Any) -> None:
    M, _, Q, *_ = drawn
    U, s, _ = torch.linalg.svd(M, full_matrices=False)
    U = U * (s > 1e-10).to(F64).unsqueeze(-2)
    # A basis is as exact as the sketch is well-conditioned; columns may be far worse than M.
    assert (U @ (U.mT @ Q) - Q).abs().max() < 1e-7


@given(sketched())
def test_without_repetition_a_sketch_has_all_the_dimensions_there_are(drawn: Any) -> None:
    M, k, Q, method, count, _ = drawn
    dimensions = torch.linalg.matrix_norm(Q).square().round()
    there = torch.where(M.abs().amax((-2, -1)) > 0, min(k, count), 0)
    assert (dimensions <= there).all()
    if method != "weighted":
        assert torch.equal(dimensions, there.to(F64))


@given(sketched())
def test_the_factor_is_that_of_the_projection(drawn: Any) -> None:
    M, _, Q, *_ = drawn
    projected = Q.mT @ M
    factor = projected_msign(Q, M)
    scale = torch.linalg.svdvals(M)[..., :1]
    nuclear = torch.linalg.svdvals(projected).sum(-1)
    assert ((M * factor).sum((-2, -1)) - nuclear).abs().max() < 1e-13
    values = torch.linalg.svdvals(factor)
    assert torch.minimum(values.abs(), (values - 1).abs()).max() < 1e-13
    if (torch.linalg.svdvals(projected) > 1e-5 * scale).all():
        assert (factor - msign(Q @ projected)).abs().max() < 1e-9


@given(sketched(), st.integers(-300, 300))
def test_a_power_of_two_changes_no_bit(drawn: Any, exponent: int) -> None:
    M, _, Q, method, count, options = drawn
    assert torch.equal(range_basis(M * 2.0**exponent, count, method, **options), Q)


@given(sketched())
def test_a_matrix_has_what_it_has_alone(drawn: Any) -> None:
    M, _, Q, method, count, options = drawn
    for i in range(2):
        alone = range_basis(M[i], count, method, **(options | {"uniforms": options["uniforms"][i]}))
        # QR and products round otherwise in a batch, which a bad condition magnifies.
        assert (Q[i] @ Q[i].mT - alone @ alone.mT).abs().max() < 1e-7


@given(matrices(), methods, st.integers(0, 2), seeds)
def test_the_transpose_has_the_transposed_factor(
    drawn: tuple[Tensor, int], method: str, iterations: int, seed: int
) -> None:
    M, _ = drawn
    m, n = M.shape[-2:]
    options: dict[str, Any] = {
        "power_iterations": iterations,
        "uniforms": uniforms(seed, method, max(m, n), 1, 2),
    }
    factor = low_rank_msign(M, 1, method, **options)
    if m != n:
        assert torch.equal(low_rank_msign(M.mT, 1, method, **options).mT, factor)
    assert (torch.linalg.svdvals(factor).sum(-1) <= 1 + 1e-13).all()


@given(seeds, st.integers(2, 8), st.floats(1e-3, 0.5), st.floats(0, 0.99))
def test_a_basis_keeps_what_is_above_its_cutoff(
    seed: int, count: int, cutoff: float, correlation: float
) -> None:
    """The least singular value may lie far below the diagonal of R."""
    Y = (1 - correlation) * normal(seed, 3, 12, count) + correlation * normal(seed, 3, 12, 1)
    s = torch.linalg.svdvals(Y)
    kept = (s > cutoff * s[..., :1]).sum(-1)
    # Up to rounding of what lies at the cut-off itself.
    clear = ((s / (cutoff * s[..., :1])).log().abs() > 1e-9).all(-1)
    Q = orthonormal_basis(Y, cutoff)
    dimensions = torch.linalg.matrix_norm(Q).square().round().long()
    assert torch.equal(dimensions[clear], kept[clear])


def test_a_cutoff_that_no_pivot_shows() -> None:
    Y = torch.cat([torch.ones(1, 10, dtype=F64), 0.2 * torch.eye(10, dtype=F64)])
    # Of [3.17, .2, ...] one value is above a tenth of the largest; every pivot is .2 or more.
    assert torch.linalg.matrix_norm(orthonormal_basis(Y, 0.1)).square() == pytest.approx(1)
    assert torch.linalg.matrix_norm(orthonormal_basis(Y, 0.05)).square() == pytest.approx(10)


@settings(max_examples=30)
@given(seeds, st.lists(st.integers(0, 4), min_size=2, max_size=9))
def test_columns_drawn_again_add_nothing(seed: int, places: list[int]) -> None:
    Y = normal(seed, 12, 5)[:, places] * 10.0 ** normal(seed + 1, len(places)).clamp(-3, 3)
    Q = orthonormal_basis(Y)
    assert torch.linalg.matrix_norm(Q).square().round() == len(set(places))
    assert (Q @ (Q.mT @ Y) - Y).abs().max() < 1e-12 * Y.abs().max()


@pytest.mark.parametrize("method", SKETCHES)
@pytest.mark.parametrize(
    ("dtype", "largest"),
    [(torch.float16, 6e4), (torch.bfloat16, 3e38), (torch.float32, 3e38), (torch.float16, 1e-7)],
)
def test_powered_sketches_of_any_precision_neither_overflow_nor_vanish(
    method: str, dtype: torch.dtype, largest: float
) -> None:
    s = 10.0 ** -torch.linspace(0, 2, 12, dtype=F64)
    U, V = (torch.linalg.qr(normal(i, size, 12)).Q for i, size in enumerate((20, 30)))
    M = U * s @ V.mT
    M = (M / M.abs().max() * largest).to(dtype)
    drawn = uniforms(3, method, 30, 6)
    factor = low_rank_msign(M, 6, method, power_iterations=5, uniforms=drawn)
    assert factor.dtype == dtype
    exact = low_rank_msign(M.double(), 6, method, power_iterations=5, uniforms=drawn)
    bound = 1e-2 if dtype in (torch.float16, torch.bfloat16) else 1e-4
    assert (factor.double() - exact).abs().max() < bound


def test_of_a_tall_matrix_rows_are_drawn_from_all_of_them() -> None:
    """Not from the first n of m: the authors' public code draws numbers below n."""
    m, n, rank = 192, 48, 12
    M = normal(0, m, n) * 1e-5
    M[n:] += normal(1, m - n, 2) @ normal(2, 2, n)
    nuclear = torch.linalg.svdvals(M).sum()
    drawn = uniforms(0, "columns", m, rank, 50)
    shares = (M * low_rank_msign(M.expand(50, m, n), rank, "columns", uniforms=drawn)).sum((-2, -1))
    assert (shares / nuclear).min() > 0.999
    drawn = drawn.clone()
    drawn[:, n:] = (1 + drawn[:, n:]) / 2
    drawn[:, :n] /= 2
    shares = (M * low_rank_msign(M.expand(50, m, n), rank, "columns", uniforms=drawn)).sum((-2, -1))
    assert (shares / nuclear).max() < 0.9


def _frequencies(method: str, M: Tensor, count: int, draws: int) -> Tensor:
    """How often each of the columns, multiples of different unit vectors, was drawn at all."""
    drawn = uniforms(5, method, M.shape[-1], count, draws)
    Q = range_basis(M.expand(draws, *M.shape), count, method, uniforms=drawn)
    return Q.square().sum(-1).mean(0)


def test_columns_are_drawn_as_often_as_they_should_be() -> None:
    draws, scales = 20_000, torch.tensor([0.0, 3, 1, 2, 0, 1, 1, 0], dtype=F64)
    M = torch.diag(scales)
    uniform = _frequencies("columns", torch.eye(8, dtype=F64), 3, draws)
    assert (uniform - 3 / 8).abs().max() < 5 * (3 / 8 * 5 / 8 / draws) ** 0.5
    # With replacement: at least once in three.
    weight = scales.square() / scales.square().sum()
    expected = 1 - (1 - weight) ** 3
    weighted = _frequencies("weighted", M, 3, draws)
    assert ((weighted - expected).abs() <= 5 * (expected * (1 - expected) / draws) ** 0.5).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"oversampling": -1}, "oversampling must be an int >= 0, got -1"),
        ({"power_iterations": True}, "power_iterations must be an int >= 0, got True"),
        ({"power_iterations": 1.0}, "power_iterations must be an int >= 0, got 1.0"),
        ({"rank_cutoff": 1.0}, r"rank_cutoff must lie in \[0, 1\), got 1.0"),
        ({"uniforms": torch.zeros(6, 2, dtype=F64)}, r"uniforms must lie in \(0, 1\), got 0.0 to"),
        ({"uniforms": torch.full((6, 2), 1.5)}, r"uniforms must lie in \(0, 1\), got 1.5 to 1.5"),
        ({"uniforms": torch.full((6, 2), math.nan)}, r"uniforms must lie in \(0, 1\), got nan"),
        ({"M": torch.ones(4, 6, dtype=torch.int64)}, "M must have a floating-point dtype"),
        ({"M": torch.full((4, 6), math.inf)}, "M must be finite, got 24 NaN or infinite entries"),
        ({"M": torch.ones(6)}, r"M must have shape \(..., m, n\), got shape \(6,\)"),
    ],
)
def test_errors_say_what_was_given(change: dict[str, Any], message: str) -> None:
    options: dict[str, Any] = {
        "M": torch.ones(4, 6),
        "rank": 2,
        "uniforms": torch.full((6, 2), 0.5),
    }
    with pytest.raises(ValueError, match=message):
        range_basis(**(options | change))


def test_a_basis_needs_no_more_columns_than_rows() -> None:
    with pytest.raises(ValueError, match=r"m >= l, got shape \(3, 4\)"):
        orthonormal_basis(torch.ones(3, 4))
