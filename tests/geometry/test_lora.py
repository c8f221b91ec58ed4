"""The split spectral trust region on the factors: optimality, gauges, forms, decay, memory."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from geometry.gauge import regauged, regauged_gradients
from geometry.inverse_root import inverse_root
from geometry.lora import (
    split_direction,
    split_direction_by_gram,
    split_direction_by_qr,
    split_step,
)
from geometry.polar import msign, orthogonalize
from geometry.scaling import unit_roundoff
from simulate.step_costs import Trace
from tests.geometry.test_msign import random_matrices, with_spectrum

Pair = tuple[Tensor, Tensor]
FORMS: dict[str, Callable[..., Pair]] = {
    "gram, svd": split_direction,
    "gram, eigh": partial(split_direction, root=partial(inverse_root, method="eigh")),
    "qr": split_direction_by_qr,
}
SHAPES = [(12, 9, 3), (5, 20, 5), (7, 7, 7), (6, 4, 1)]


def problem(m: int, n: int, r: int, batch: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    """B, A and the gradient of their product."""
    B, A = random_matrices(batch, m, r), random_matrices(batch, r, n, seed=1)
    return B, A, random_matrices(batch, m, n, seed=2)


def direction(B: Tensor, A: Tensor, G: Tensor, form: str = "gram, svd") -> Pair:
    return FORMS[form](B, A, G @ A.mT, B.mT @ G)


def spectral_norm(W: Tensor) -> Tensor:
    norm: Tensor = torch.linalg.matrix_norm(W, 2)
    return norm


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shape", SHAPES)
def test_is_the_optimum_of_the_split(
    form: str, shape: tuple[int, int, int], device: torch.device
) -> None:
    B, A, G = (x.to(device) for x in problem(*shape))
    D_B, D_A = direction(B, A, G, form)
    halves = D_B @ A, B @ D_A
    for half in halves:
        assert torch.allclose(spectral_norm(half), torch.ones(3).to(half), rtol=0, atol=1e-11)
    assert bool((spectral_norm(halves[0] + halves[1]) <= 2 + 1e-11).all())
    # The dual norms of the linear form: no feasible step has a larger value.
    R_A, R_B = inverse_root(A), inverse_root(B.mT)
    nuclear = torch.linalg.svdvals(G @ A.mT @ R_A).sum(-1)
    nuclear = nuclear + torch.linalg.svdvals(R_B @ B.mT @ G).sum(-1)
    value = (G * (halves[0] + halves[1])).sum((-2, -1))
    assert torch.allclose(value, nuclear, rtol=1e-11, atol=0)
    # The control: Muon on each factor, brought into the region, has a smaller one.
    for muon, other in ((msign(G @ A.mT) @ A, halves[0]), (B @ msign(B.mT @ G), halves[1])):
        value = (G * muon).sum((-2, -1)) / spectral_norm(muon)
        best = (G * other).sum((-2, -1))
        assert bool((value <= best * (1 + 1e-11)).all())
        if shape[2] > 1:
            assert bool((value < 0.99 * best).any())


@pytest.mark.parametrize("form", FORMS)
def test_is_that_of_the_projected_gradient(form: str) -> None:
    B, A, G = problem(12, 9, 3)
    D_B, D_A = direction(B, A, G, form)
    left, right = torch.linalg.qr(B).Q, torch.linalg.qr(A.mT).Q
    assert float((D_B @ A - msign(G @ right @ right.mT)).abs().max()) <= 1e-12
    assert float((B @ D_A - msign(left @ left.mT @ G)).abs().max()) <= 1e-12
    # The control: the projectors belong to their own sides.
    assert float((D_B @ A - msign(left @ left.mT @ G)).abs().max()) > 0.01


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("condition", [1.0, 10.0, 1000.0])
@pytest.mark.parametrize("form", ["gram, svd", "qr"])
def test_the_step_does_not_know_the_gauge(form: str, condition: float, dtype: torch.dtype) -> None:
    B, A, G = (x.to(dtype) for x in problem(24, 16, 4))
    R = with_spectrum(4, 4, torch.logspace(0, -math.log10(condition), 4).double(), 7).to(dtype)
    G_B, G_A = G @ A.mT, B.mT @ G

    def moved(B: Tensor, A: Tensor, G_B: Tensor, G_A: Tensor) -> Tensor:
        B, A = split_step(B, A, *FORMS[form](B, A, G_B, G_A), eta=0.5)
        return B.double() @ A.double()

    there = moved(*regauged(B, A, R), *regauged_gradients(G_B, G_A, R))
    error = float((there - moved(B, A, G_B, G_A)).norm() / moved(B, A, G_B, G_A).norm())
    assert error <= 200 * unit_roundoff(dtype) * condition
    # The control: Muon on each factor.
    B_, A_ = regauged(B, A, R)
    g_B, g_A = regauged_gradients(G_B, G_A, R)
    plain = (B - 0.25 * msign(G_B)) @ (A - 0.25 * msign(G_A))
    other = (B_ - 0.25 * msign(g_B)) @ (A_ - 0.25 * msign(g_A))
    if condition > 1:
        assert float((plain - other).norm() / plain.norm()) > 0.05


def test_powers_of_two_change_no_bit() -> None:
    B, A, G = problem(12, 9, 3)
    plain = split_step(B, A, *split_direction(B, A, G @ A.mT, B.mT @ G), 0.1)
    B, A = 8 * B, A / 8
    scaled = split_step(B, A, *split_direction(B, A, G @ A.mT, B.mT @ G), 0.1)
    assert torch.equal(scaled[0] / 8, plain[0])
    assert torch.equal(scaled[1] * 8, plain[1])


def test_a_square_pair_of_full_rank_makes_the_dense_step() -> None:
    B, A, G = problem(6, 6, 6)
    D_B, D_A = direction(B, A, G)
    assert float((D_B @ A - msign(G)).abs().max()) <= 1e-11
    assert float((D_B @ A + B @ D_A - 2 * msign(G)).abs().max()) <= 1e-11
    # The control: r = n < m.
    B, A, G = problem(9, 6, 6)
    D_B, D_A = direction(B, A, G)
    assert float((D_B @ A + B @ D_A - 2 * msign(G)).abs().max()) > 0.1


def test_the_remainder_is_eta_squared_over_four_smallest_singular_values() -> None:
    B, A, G = problem(12, 9, 3)
    D_B, D_A = direction(B, A, G)
    smallest = torch.linalg.svdvals(B @ A)[..., 2]
    error = spectral_norm(D_B @ D_A) * smallest - 1
    assert float(error.abs().max()) <= 1e-11


def test_split_decay_decays_the_product_by_itself() -> None:
    B, A, G = problem(12, 9, 3)
    D_B, D_A = direction(B, A, G)
    eta, decay = 0.3, 0.4
    new_B, new_A = split_step(B, A, D_B, D_A, eta, decay)
    left = 1 - eta * decay
    expected = left * B @ A - eta / 2 * (D_B @ A + B @ D_A) + eta**2 / 4 / left * D_B @ D_A
    assert float((new_B @ new_A - expected).abs().max()) <= 1e-14 * float(expected.abs().max()) * 9
    # The control: decoupled decay of each factor decays the product twice.
    twice = (left * B - eta / 2 * D_B) @ (left * A - eta / 2 * D_A)
    assert float((twice - expected).abs().max()) > 0.01


def test_one_radius_a_member() -> None:
    B, A, G = problem(12, 9, 3)
    D = direction(B, A, G)
    eta = torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64)
    together = split_step(B, A, *D, eta, 0.1)
    for member in range(3):
        own = [x[member] for x in (B, A, *D)]
        alone = split_step(own[0], own[1], own[2], own[3], float(eta[member]), 0.1)
        assert all(torch.equal(x[member], y) for x, y in zip(together, alone, strict=True))


def test_from_the_zero_start_only_the_zero_factor_moves() -> None:
    B, A, G = problem(12, 9, 3)
    B = torch.zeros_like(B)
    D_B, D_A = direction(B, A, G)
    assert torch.equal(D_A, torch.zeros_like(A))
    assert torch.allclose(spectral_norm(D_B @ A), torch.ones(3).double(), rtol=1e-12)
    with pytest.raises(ValueError, match="B: full rank is expected for QR coordinates"):
        split_direction_by_qr(B, A, G @ A.mT, B.mT @ G)


@pytest.mark.parametrize("form", FORMS)
def test_nothing_of_the_size_of_the_product_is_made(form: str) -> None:
    m, n, r = 300, 200, 4
    B, A = random_matrices(m, r), random_matrices(r, n, seed=1)
    G_B, G_A = random_matrices(m, r, seed=2), random_matrices(r, n, seed=3)
    with Trace() as seen:
        split_step(B, A, *FORMS[form](B, A, G_B, G_A), 0.1)
    assert 0 < seen.largest <= max(m, n) * r
    # The control: the product itself is seen.
    with Trace() as seen:
        B @ A
    assert seen.largest == m * n


def test_another_direction_and_root_are_taken() -> None:
    B, A, G = problem(12, 9, 3)
    G_B, G_A = G @ A.mT, B.mT @ G
    exact = split_direction(B, A, G_B, G_A)
    by_products = split_direction(
        B,
        A,
        G_B,
        G_A,
        orthogonalize=partial(orthogonalize, method="lora_muon"),
        root=partial(inverse_root, method="newton_schulz"),
    )
    apart = [float((x - y).norm() / x.norm()) for x, y in zip(exact, by_products, strict=True)]
    assert max(apart) <= 5e-3
    assert min(apart) > 1e-7


def test_errors_say_what_was_given() -> None:
    B, A, G = problem(12, 9, 3)
    G_B, G_A = G @ A.mT, B.mT @ G
    with pytest.raises(ValueError, match=r"G_B: shape \(3, 12, 3\) and torch.float64 are expected"):
        split_direction(B, A, G, G_A)
    bad = G_A.clone()
    bad[1, 0, 0] = math.inf
    with pytest.raises(ValueError, match="G_A must be finite, got 1"):
        split_direction(B, A, G_B, bad)
    D = split_direction(B, A, G_B, G_A)
    with pytest.raises(ValueError, match=r"weight_decay \* eta in \[0, 1\) is expected; given"):
        split_step(B, A, *D, 0.5, 2.0)


Options = dict[str, Any]
EXACT: Options = {"orthogonalizer": "svd", "root": "svd"}
PAPERS: Options = {"orthogonalizer": "lora_muon", "root": "newton_schulz"}
NUMERICS = [EXACT, PAPERS, {"orthogonalizer": "polar_express", "root": "eigh"}]


def plain(options: Options, B: Tensor, A: Tensor, G_B: Tensor, G_A: Tensor) -> Pair:
    """The direction by an iteration on the gradients themselves."""
    return split_direction(
        B,
        A,
        G_B,
        G_A,
        orthogonalize=partial(orthogonalize, method=options["orthogonalizer"]),
        root=partial(inverse_root, method=options["root"]),
    )


def apart(one: Pair, other: Pair) -> float:
    """The largest relative difference of the two factors."""
    norms = [
        float(torch.linalg.matrix_norm((x.double() - y.double()), 2).max())
        / float(torch.linalg.matrix_norm(y.double(), 2).max())
        for x, y in zip(one, other, strict=True)
    ]
    return max(norms)


def square_bound(B: Tensor, A: Tensor, G_B: Tensor, G_A: Tensor) -> float:
    """2 max(m, n) u_64 y^2 with y = ||G|| ||R|| / s_r(G R), the larger of the two sides'."""
    worst = 0.0
    for X, G in ((A, G_B), (B.mT, G_A.mT)):
        R = inverse_root(X)
        norms = torch.linalg.matrix_norm(G, 2) * torch.linalg.matrix_norm(R, 2)
        y = norms / torch.linalg.svdvals(G @ R)[..., -1]
        worst = max(worst, float(y.max()) ** 2)
    return 2 * max(B.shape[-2], A.shape[-1]) * unit_roundoff(torch.float64) * worst


@pytest.mark.parametrize("options", NUMERICS, ids=str)
@pytest.mark.parametrize("shape", [*SHAPES, (40, 300, 8)])
def test_gram_matrices_alone_make_the_same_direction(
    shape: tuple[int, int, int], options: Options, device: torch.device
) -> None:
    B, A, G = (x.to(device) for x in problem(*shape))
    given = B, A, G @ A.mT, B.mT @ G
    found = split_direction_by_gram(*given, **options)
    # A composition of polynomials is steeper than the polar factor, by its slopes on [0, 1].
    steepness = 1 if options is EXACT else 40
    assert apart(found, plain(options, *given)) <= steepness * square_bound(*given)
    assert [x.device.type for x in found] == [device.type] * 2


@pytest.mark.parametrize("options", NUMERICS, ids=str)
@pytest.mark.parametrize("condition", [1.0, 100.0, 1e4])
def test_single_precision_loses_nothing_by_gram_matrices(
    condition: float, options: Options
) -> None:
    r = 6
    R = with_spectrum(r, r, torch.logspace(0, -math.log10(condition), r).double(), 7)
    B, A, G = problem(200, 90, r)
    B, A = regauged(B, A, R)
    single = tuple(x.float() for x in (B, A, G @ A.mT, B.mT @ G))
    double = tuple(x.double() for x in single)
    # Of the very same numbers, in float64.
    exact = plain(options, *double)
    by_gram = split_direction_by_gram(*single, **options)
    assert [x.dtype for x in by_gram] == [torch.float32] * 2
    allowed = 2 * unit_roundoff(torch.float32) + square_bound(*double)
    assert apart(by_gram, exact) <= allowed
    # The control: the plain form in float32.
    if condition > 1:
        assert apart(plain(options, *single), exact) > 8 * allowed


@pytest.mark.parametrize("orthogonalizer", ["svd", "lora_muon"])
def test_what_is_beyond_single_precision_stays_bounded(orthogonalizer: str) -> None:
    # Undamped roots of factors of condition 1e7: the smallest directions are rounding alone.
    B, A, G = problem(60, 40, 5)
    B, A = regauged(B, A, with_spectrum(5, 5, torch.logspace(0, -7, 5).double(), 7))
    single = tuple(x.float() for x in (B, A, G @ A.mT, B.mT @ G))
    D_B, D_A = split_direction_by_gram(*single, orthogonalizer=orthogonalizer)
    for half in (D_B.double() @ single[1].double(), single[0].double() @ D_A.double()):
        assert float(spectral_norm(half).max()) <= 1.5


def test_by_gram_powers_of_two_change_no_bit_and_zero_moves_alone() -> None:
    B, A, G = (x.float() for x in problem(30, 20, 4))
    for options in NUMERICS:
        D_B, D_A = split_direction_by_gram(B, A, G @ A.mT, B.mT @ G, **options)
        B_, A_ = 8 * B, A / 8
        d_B, d_A = split_direction_by_gram(B_, A_, G @ A_.mT, B_.mT @ G, **options)
        assert torch.equal(d_B / 8, D_B)
        assert torch.equal(d_A * 8, D_A)
        zero = torch.zeros_like(B)
        D_B, D_A = split_direction_by_gram(zero, A, G @ A.mT, zero.mT @ G, **options)
        assert torch.equal(D_A, torch.zeros_like(A))
        # Polar Express leaves .13 after five steps.
        assert float((spectral_norm(D_B @ A) - 1).abs().max()) <= 0.14


def test_by_gram_nothing_larger_than_a_factor_is_made_and_nothing_is_factorised() -> None:
    m, n, r = 300, 200, 4
    given = [random_matrices(*shape, seed=3).float() for shape in ((m, r), (r, n)) * 2]
    with Trace() as seen:
        split_direction_by_gram(*given, **PAPERS)
    assert 0 < seen.largest <= max(m, n) * r
    assert not [name for name in seen.operations if "linalg" in name and "norm" not in name]
    # The control: the exact numerics factorise.
    with Trace() as seen:
        split_direction_by_gram(*given)
    assert [name for name in seen.operations if "linalg_eigh" in name]


def test_by_gram_errors_say_what_was_given() -> None:
    B, A, G = problem(12, 9, 3)
    G_B, G_A = G @ A.mT, B.mT @ G
    with pytest.raises(ValueError, match=r"G_A: shape \(3, 3, 9\) and torch.float64 are expected"):
        split_direction_by_gram(B, A, G_B, G)
    for place, name in enumerate(("B", "A", "G_B", "G_A")):
        given = [B, A, G_B, G_A]
        given[place] = given[place].clone()
        given[place][1, 0, 0] = math.nan
        with pytest.raises(ValueError, match=f"^{name} must be finite, got 1"):
            split_direction_by_gram(*given)
    with pytest.raises(ValueError, match="squares are finite in float64"):
        split_direction_by_gram(1e200 * B, A, G_B, G_A)
    with pytest.raises(ValueError, match="unknown method 'sdv'"):
        split_direction_by_gram(B, A, G_B, G_A, orthogonalizer="sdv")
    with pytest.raises(ValueError, match="unknown method 'eig'"):
        split_direction_by_gram(B, A, G_B, G_A, root="eig")
    with pytest.raises(ValueError, match="at least 1e-05"):
        split_direction_by_gram(B, A, G_B, G_A, root="newton_schulz", damping=1e-7)
