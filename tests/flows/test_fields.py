"""Vector fields: symmetries, limits, bounds, and the names and numbers they refuse."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from flows import (
    Field,
    MatrixFactorization,
    Trajectory,
    gradient_flow,
    integrate,
    orthogonalized_flow,
    spectral_flow,
)
from flows.starts import haar_columns
from geometry.polar import Route
from tests.flows.independent import Flow, as_arrays, dense_target, sqrt_sign, tanh_sign

ROUTES: tuple[Route, ...] = ("auto", "gram", "svd")
PROBLEM = MatrixFactorization.planted(m=8, n=6, singular_values=[2.0, 1.0], rank=3, seed=4)

FIELDS = {
    "gradient": lambda problem: gradient_flow(problem),
    "decay": lambda problem: gradient_flow(problem, weight_decay=0.3),
    "sqrt": lambda problem: spectral_flow(problem, 0.2),
    "tanh": lambda problem: spectral_flow(problem, 0.2, smoothing="tanh"),
    "svd": lambda problem: spectral_flow(problem, 1e-3, route="svd"),
    "exact": lambda problem: spectral_flow(problem, 0.0),
    "polar_express": lambda problem: orthogonalized_flow(problem, "polar_express", 5),
    "muon": lambda problem: orthogonalized_flow(problem, "muon", 5),
}
# Values of the field at generic factors are of order one, so are its derivatives, but for
# 1/beta = 1000 ("svd") and 1/s, s the smallest singular value met ("exact", the polynomials).
EQUIVARIANCE = 1e-11


def largest(x: Tensor) -> float:
    return float(x.abs().max())


@pytest.mark.parametrize("name", FIELDS)
@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 99))
def test_orthogonal_equivariance(name: str, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    left, right, gauge = (haar_columns(d, d, generator) for d in (8, 6, 3))
    turned = MatrixFactorization.from_factors(
        left @ PROBLEM.left, PROBLEM.singular_values, right @ PROBLEM.right, 3
    )
    B, A = PROBLEM.gaussian_init(1.0, seed=seed)
    velocity_B, velocity_A = FIELDS[name](PROBLEM)(B, A)
    turned_B, turned_A = FIELDS[name](turned)(left @ B @ gauge, gauge.mT @ A @ right.mT)
    assert largest(turned_B - left @ velocity_B @ gauge) <= EQUIVARIANCE
    assert largest(turned_A - gauge.mT @ velocity_A @ right.mT) <= EQUIVARIANCE


@pytest.mark.parametrize("name", FIELDS)
def test_transposing_the_problem_swaps_the_factors(name: str) -> None:
    transposed = MatrixFactorization.from_factors(
        PROBLEM.right, PROBLEM.singular_values, PROBLEM.left, 3
    )
    B, A = PROBLEM.gaussian_init(1.0, seed=0)
    velocity_B, velocity_A = FIELDS[name](PROBLEM)(B, A)
    other_B, other_A = FIELDS[name](transposed)(A.mT, B.mT)
    assert largest(other_B - velocity_A.mT) <= EQUIVARIANCE
    assert largest(other_A - velocity_B.mT) <= EQUIVARIANCE


@pytest.mark.parametrize(("smoothing", "power"), [("sqrt", 1 / 2), ("tanh", 1 / 3)])
def test_large_beta_is_gradient_flow_slowed_down(smoothing: str, power: float) -> None:
    # beta T_beta(G) = G - power G (G^T G) / beta^2 + ...: a relative deviation of second order.
    B, A = PROBLEM.gaussian_init(0.5, seed=1)
    G_B, G_A = PROBLEM.gradients(B, A)
    norm = max(float(torch.linalg.matrix_norm(G, 2)) for G in (G_B, G_A))
    deviations = []
    for beta in (1e1, 1e2, 1e3):
        velocity = spectral_flow(PROBLEM, beta, smoothing=smoothing)(B, A)
        pairs = zip(velocity, (G_B, G_A), strict=True)
        deviations.append(max(float(torch.linalg.matrix_norm(beta * v + G, 2)) for v, G in pairs))
        assert deviations[-1] <= power * norm**3 / beta**2 * 1.01 + 1e-13
    orders = [math.log10(a / b) for a, b in pairwise(deviations)]
    assert orders == pytest.approx([2.0, 2.0], abs=0.05)


@pytest.mark.parametrize("smoothing", ["sqrt", "tanh"])
@settings(deadline=None, max_examples=30)
@given(
    beta=st.floats(1e-6, 1e2),
    scale=st.floats(1e-6, 1e3),
    seed=st.integers(0, 99),
    route=st.sampled_from(["auto", "svd"]),
)
def test_velocity_is_bounded_by_one(
    smoothing: str, beta: float, scale: float, seed: int, route: str
) -> None:
    field = spectral_flow(PROBLEM, beta, smoothing=smoothing, route=route)  # type: ignore[arg-type]
    # auto weighs the gradients of modes up to the target's size; it is for such factors.
    assume(route == "svd" or scale <= 2)
    B, A = PROBLEM.gaussian_init(scale, seed=seed)
    for part in field(B, A):
        assert float(torch.linalg.matrix_norm(part, 2)) <= 1 + 1e-7


@pytest.mark.parametrize("smoothing", ["sqrt", "tanh"])
def test_velocity_is_the_independent_formula(smoothing: str) -> None:
    phi = {"sqrt": sqrt_sign, "tanh": tanh_sign}[smoothing](0.2)
    problem = MatrixFactorization.planted(m=8, n=6, singular_values=[2.0, 1.0], rank=3, l2=0.1)
    B, A = problem.gaussian_init(1.0, seed=5)
    expected = Flow(dense_target(problem), phi, l2=0.1, decay=0.4).velocity(*as_arrays((B, A)))
    field = spectral_flow(problem, 0.2, smoothing=smoothing, weight_decay=0.4)
    for part, reference in zip(field(B, A), expected, strict=True):
        assert largest(part - torch.as_tensor(reference)) <= 1e-13


def test_smoothings_differ() -> None:
    B, A = PROBLEM.gaussian_init(0.5, seed=0)
    sqrt, tanh = (spectral_flow(PROBLEM, 0.5, smoothing=s)(B, A)[0] for s in ("sqrt", "tanh"))
    assert largest(sqrt - tanh) > 1e-3


def test_per_lane_beta_equals_separate_runs() -> None:
    problem = MatrixFactorization.planted(m=8, n=6, singular_values=[2.0, 1.0], rank=2, seed=4)
    betas, rtol = torch.tensor([0.2, 0.05, 0.1], dtype=torch.float64), 1e-7
    tolerance, Y = rtol + 1e-2 * rtol, torch.as_tensor(dense_target(problem))
    B, A = problem.gaussian_init(0.2, seed=range(3))
    times = torch.linspace(0, 8, 9, dtype=torch.float64)

    def run(beta: float | Tensor, B: Tensor, A: Tensor, reduce: bool) -> Trajectory:
        return integrate(
            spectral_flow(problem, beta), (B, A), times, reduce=reduce, rtol=rtol, atol=1e-2 * rtol
        )

    for reduce in (True, False):
        together = run(betas, B, A, reduce)
        # The lanes leave the batch one by one, so those that stay have to keep their own beta.
        stops = together.work.stop_times
        assert float(stops.max()) < 8
        assert int(stops.argmax()) == 0
        for lane, beta in enumerate(betas.tolist()):
            alone = run(beta, B[lane], A[lane], reduce)
            # Until one of them stops, for round-off moves a residual to either side of the
            # tolerance. What is held from there on is within it.
            runs = times < min(float(stops[lane]), float(alone.work.stop_times[0]))
            assert int(runs.sum()) >= 3
            assert largest(together.products[lane, runs] - alone.products[runs]) <= 1e-12
            for ends in (together.products[lane, -1], alone.products[-1]):
                assert float(torch.linalg.matrix_norm(ends - Y)) <= tolerance


def test_per_lane_beta_is_checked_against_the_lanes() -> None:
    field = spectral_flow(PROBLEM, torch.tensor([0.1, 0.2], dtype=torch.float64))
    with pytest.raises(ValueError, match=r"one a lane \(3,\).*given shape \(2,\)"):
        integrate(field, PROBLEM.gaussian_init(0.2, seed=range(3)), [1.0])


@pytest.mark.parametrize("beta", [1.0, 1e-1, 1e-2, 1e-3])
def test_routes_agree_within_their_bound(beta: float) -> None:
    B, A = PROBLEM.gaussian_init(0.5, seed=range(4))
    gram, svd = (spectral_flow(PROBLEM, beta, route=r)(B, A) for r in ("gram", "svd"))
    gradients = PROBLEM.gradients(B, A)
    for one, other, gradient in zip(gram, svd, gradients, strict=True):
        ratio = float(torch.linalg.matrix_norm(gradient).max()) / beta
        # The Gram matrix costs u ||G||^2 / beta^2 with a factor of some 30 (error_bound).
        assert largest(one - other) <= 1.1e-16 * (30 * ratio**2 + 500 * ratio)


def test_auto_takes_the_svd_where_the_gram_matrix_would_lose_the_velocity() -> None:
    B, A = PROBLEM.gaussian_init(0.5, seed=0)
    for beta, gram_is_fine in ((1e-2, True), (1e-6, False)):
        auto, gram, svd = (spectral_flow(PROBLEM, beta, route=route)(B, A)[0] for route in ROUTES)
        assert torch.equal(auto, gram) is gram_is_fine
        assert torch.equal(auto, svd) is not gram_is_fine


@pytest.mark.parametrize("beta", [-1e-3, math.nan, math.inf])
def test_beta_has_to_be_a_nonnegative_number(beta: float) -> None:
    with pytest.raises(ValueError, match="beta must be finite and >= 0"):
        spectral_flow(PROBLEM, beta)
    with pytest.raises(ValueError, match="beta must be finite and >= 0"):
        spectral_flow(PROBLEM, torch.tensor([0.1, beta], dtype=torch.float64))


def test_beta_cannot_be_zero_in_some_lanes_only() -> None:
    with pytest.raises(ValueError, match="all zero or all positive"):
        spectral_flow(PROBLEM, torch.tensor([0.0, 0.1], dtype=torch.float64))


def test_unknown_names_offer_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"unknown smoothing 'sqr'.*did you mean 'sqrt'"):
        spectral_flow(PROBLEM, 0.1, smoothing="sqr")
    with pytest.raises(ValueError, match=r"unknown route 'gramm'.*did you mean 'gram'"):
        spectral_flow(PROBLEM, 0.1, route="gramm")  # type: ignore[arg-type]
    B, A = PROBLEM.gaussian_init(0.2)
    with pytest.raises(ValueError, match=r"'polar_expres'.*did you mean 'polar_express'"):
        orthogonalized_flow(PROBLEM, "polar_expres", 5)(B, A)


@pytest.mark.parametrize("decay", [-0.1, math.nan])
def test_weight_decay_has_to_be_nonnegative(decay: float) -> None:
    builders = (
        lambda: gradient_flow(PROBLEM, weight_decay=decay),
        lambda: spectral_flow(PROBLEM, 0.1, weight_decay=decay),
        lambda: orthogonalized_flow(PROBLEM, "svd", 5, weight_decay=decay),
    )
    for build in builders:
        with pytest.raises(ValueError, match="weight_decay must be finite and >= 0"):
            build()


def test_a_custom_direction_is_a_field() -> None:
    field = Field(PROBLEM, lambda G, _: 2.0 * G, "twice the gradient")
    start = PROBLEM.gaussian_init(0.2, seed=0)
    twice = integrate(field, start, [0.5, 1.0])
    once = integrate(gradient_flow(PROBLEM), start, [1.0, 2.0])
    assert largest(twice.products - once.products) <= 1e-7
