"""Laws of the smoothed polar factor. Tolerances are sums of the bounds that it returns."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from geometry.error_bound import gram_route_bound
from geometry.polar import Route, msign, smoothed_msign
from geometry.smoothing import SMOOTHINGS

U64 = 2.0**-53
NAMES = sorted(SMOOTHINGS)
ROUTES: list[Route] = ["gram", "svd", "auto"]


def random_matrices(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def double(x: float) -> Tensor:
    return torch.tensor(x, dtype=torch.float64)


def norm(X: Tensor) -> float:
    return float(torch.linalg.matrix_norm(X).max())


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("shape", [(6, 6), (7, 3), (3, 7), (1, 4)])
def test_defining_equation(shape: tuple[int, int], route: Route, device: torch.device) -> None:
    """T^T T = (G^T G + beta^2 I)^-1 G^T G and G^T T is symmetric positive semidefinite.

    Together they determine T, and the first needs nothing but a linear solve.
    """
    G = random_matrices(*shape).to(device)
    beta = 0.3
    T = smoothed_msign(G, beta, route=route)
    S = G.mT @ G
    eye = torch.eye(shape[1], dtype=G.dtype, device=device)
    expected = torch.linalg.solve(S + beta**2 * eye, S)
    assert norm(T.mT @ T - expected) <= 1e-12
    H = G.mT @ T
    assert norm(H - H.mT) <= 1e-12
    assert float(torch.linalg.eigvalsh((H + H.mT) / 2).min()) >= -1e-12


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("route", ROUTES)
def test_equivariance_and_transposition(name: str, route: Route, device: torch.device) -> None:
    G = random_matrices(6, 4, seed=1).to(device)
    Q = torch.linalg.qr(random_matrices(6, 6, seed=2)).Q.to(device)
    P = torch.linalg.qr(random_matrices(4, 4, seed=3)).Q.to(device)
    beta = 0.05
    T, bound = smoothed_msign(G, beta, smoothing=name, route=route, return_error_bound=True)
    # Rotating G rounds it by at most 2 max(m, n)^(3/2) u ||G||_F, amplified by 1 / beta.
    tolerance = 2 * float(bound) + 2 * 2 * 6**1.5 * U64 * norm(G) / beta
    rotated = smoothed_msign(Q @ G @ P, beta, smoothing=name, route=route)
    assert norm(rotated - Q @ T @ P) <= tolerance
    transposed = smoothed_msign(G.mT, beta, smoothing=name, route=route)
    assert norm(transposed - T.mT) <= 2 * float(bound)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("route", ROUTES)
def test_joint_scaling_by_powers_of_two_is_bitwise(
    name: str, route: Route, device: torch.device
) -> None:
    G = random_matrices(3, 5, 4, seed=4).to(device)
    T = smoothed_msign(G, 0.125, smoothing=name, route=route)
    for exponent in (-60, -9, 1, 60):
        scale = 2.0**exponent
        scaled = smoothed_msign(G * scale, 0.125 * scale, smoothing=name, route=route)
        # eigh rescales by its own rules, so the unscaled Gram route promises its bound only.
        if route == "auto":
            assert torch.equal(scaled, T)
        else:
            assert norm(scaled - T) <= 1e-12


@pytest.mark.parametrize("name", NAMES)
def test_batch_equals_slices_with_the_same_routes(name: str, device: torch.device) -> None:
    scales = 10.0 ** torch.arange(-4, 8, dtype=torch.float64)
    G = (random_matrices(12, 5, 4, seed=5) * scales[:, None, None]).to(device)
    T, bound = smoothed_msign(G, 1e-2, smoothing=name, return_error_bound=True)
    for i in range(12):
        slice_T, slice_bound = smoothed_msign(G[i], 1e-2, smoothing=name, return_error_bound=True)
        assert float(slice_bound) == pytest.approx(float(bound[i]), rel=1e-12)
        assert norm(slice_T - T[i]) <= float(slice_bound + bound[i])
    nested = smoothed_msign(G.reshape(3, 2, 2, 5, 4), 1e-2, smoothing=name)
    assert torch.equal(nested.reshape(12, 5, 4), T)
    assert smoothed_msign(G[:0], 1e-2).shape == (0, 5, 4)


def test_a_beta_per_matrix_equals_slices(device: torch.device) -> None:
    G = random_matrices(2, 3, 5, 4, seed=6).to(device)
    beta = torch.tensor([1e-6, 1e-2, 10.0], dtype=torch.float64, device=device)
    for route in ROUTES:
        T, bound = smoothed_msign(G, beta, route=route, return_error_bound=True)
        for i in range(2):
            for j in range(3):
                single = smoothed_msign(G[i, j], float(beta[j]), route=route)
                assert norm(single - T[i, j]) <= 2 * float(bound[i, j])


@pytest.mark.parametrize("smoothing", NAMES)
def test_auto_takes_the_predicted_route(smoothing: str, device: torch.device) -> None:
    """The returned bound tells the route: each matrix gets Gram exactly where Gram is enough."""
    G = random_matrices(1, 6, 3, seed=7).to(device)
    beta = torch.logspace(-9, 1, 21, dtype=torch.float64, device=device)
    batch = G.expand(21, 6, 3)
    tolerance = 1e-10
    T, bound = smoothed_msign(
        batch, beta, smoothing=smoothing, tolerance=tolerance, return_error_bound=True
    )
    by = {
        route: smoothed_msign(
            batch, beta, smoothing=smoothing, route=route, return_error_bound=True
        )
        for route in ("gram", "svd")
    }
    predicted = (
        gram_route_bound(
            torch.linalg.matrix_norm(batch) / beta, 6, 3, SMOOTHINGS[smoothing].gram_sensitivity
        )
        <= tolerance
    )
    assert 3 <= int(predicted.sum()) <= 18
    expected = torch.where(predicted, by["gram"][1], by["svd"][1])
    assert torch.allclose(bound, expected, rtol=1e-12, atol=0)
    assert norm(T - torch.where(predicted[:, None, None], by["gram"][0], by["svd"][0])) <= 1e-12


def test_default_tolerance_never_takes_float32_gram_below_one_percent(device: torch.device) -> None:
    G = torch.eye(8, 4, device=device)
    _, auto = smoothed_msign(G, 1e-2, return_error_bound=True)
    _, svd = smoothed_msign(G, 1e-2, route="svd", return_error_bound=True)
    assert torch.equal(auto, svd)
    _, auto = smoothed_msign(G.double(), 1e-2, return_error_bound=True)
    _, gram = smoothed_msign(G.double(), 1e-2, route="gram", return_error_bound=True)
    assert torch.equal(auto, gram)


@pytest.mark.parametrize("name", NAMES)
@given(seed=st.integers(0, 10**6), exponent=st.floats(-4, 2))
@settings(max_examples=30, deadline=None)
def test_lipschitz_and_contraction(name: str, seed: int, exponent: float) -> None:
    """||T(G) - T(H)||_F <= ||G - H||_F / beta, ||T|| < 1 and <= ||G|| / beta."""
    beta = 10.0**exponent
    G, D = random_matrices(2, 5, 3, seed=seed)
    H = G + D * 10.0 ** (exponent + (seed % 3) - 1)
    T, bound_T = smoothed_msign(G, beta, smoothing=name, return_error_bound=True)
    S, bound_S = smoothed_msign(H, beta, smoothing=name, return_error_bound=True)
    slack = float(bound_T + bound_S)
    assert norm(T - S) <= norm(G - H) / beta + slack
    largest = float(torch.linalg.matrix_norm(T, 2))
    s = float(torch.linalg.matrix_norm(G, 2))
    f = SMOOTHINGS[name].on_singular_values
    assert largest <= float(f(double(s), double(beta))) * (1 + 1e-14) + slack
    if s / beta < 10:
        assert largest < 1


def test_tends_to_msign_and_equals_it_at_zero(device: torch.device) -> None:
    G = random_matrices(6, 4, seed=8).to(device)
    s_min = float(torch.linalg.svdvals(G)[-1])
    errors = []
    for beta in (1e-1, 1e-2, 1e-3):
        T, bound = smoothed_msign(G, beta, return_error_bound=True)
        errors.append(float(torch.linalg.matrix_norm(T - msign(G), 2)))
        # 1 - s / sqrt(s^2 + b^2) <= b^2 / (2 s^2), attained in the limit.
        assert errors[-1] <= beta**2 / (2 * s_min**2) + float(bound) + 1e-13
    assert math.log10(errors[0] / errors[2]) / 2 == pytest.approx(2, abs=0.1)
    for route in ROUTES:
        T, bound = smoothed_msign(G, 0.0, route=route, return_error_bound=True)
        assert torch.equal(T, msign(G))
        assert torch.equal(smoothed_msign(G, 0, route=route), T)
        assert bound.shape == ()
        assert float(bound) == math.inf


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("name", NAMES)
def test_zero_rank_deficient_and_ill_conditioned(
    name: str, route: Route, dtype: torch.dtype, device: torch.device
) -> None:
    s = torch.logspace(0, -12, 4, dtype=torch.float64)
    Q = torch.linalg.qr(random_matrices(5, 4, seed=9)).Q
    P = torch.linalg.qr(random_matrices(4, 4, seed=10)).Q
    G = torch.stack([torch.zeros(5, 4).double(), torch.ones(5, 4).double(), (Q * s) @ P])
    T = smoothed_msign(G.to(device, dtype), 0.25, smoothing=name, route=route)
    assert T.dtype == dtype
    assert T.shape == G.shape
    assert torch.equal(T[0], torch.zeros_like(T[0]))
    f = SMOOTHINGS[name].on_singular_values
    one = f(double(math.sqrt(20)), double(0.25)) / math.sqrt(20)
    eps = max(torch.finfo(dtype).eps, 2e-15)
    assert (T[1].double().cpu() - one).abs().max() <= 200 * eps
    expected = (Q * f(s, double(0.25))) @ P
    assert (T[2].double().cpu() - expected).abs().max() <= 200 * eps


def test_extreme_scales_stay_honest() -> None:
    G = random_matrices(4, 3, seed=11)
    for exponent in (-1000, 1000):
        T = smoothed_msign(G * 2.0**exponent, 2.0 ** (exponent - 3))
        assert torch.equal(T, smoothed_msign(G, 0.125))
    T, bound = smoothed_msign(G * 1e300, 1e-300, return_error_bound=True)
    assert torch.isfinite(T).all()
    assert norm(T - msign(G)) <= float(bound)
    T, bound = smoothed_msign(G * 1e-300, 1e300, return_error_bound=True)
    assert norm(T) <= float(bound) <= 1e-290


EYE = torch.eye(2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((EYE, -1.0), "beta must be finite and >= 0, got -1.0"),
        ((EYE, math.nan), "beta must be finite and >= 0, got nan"),
        ((EYE, math.inf), "beta must be finite and >= 0, got inf"),
        ((EYE, torch.tensor(-1.0)), "every beta must be finite, > 0"),
        ((EYE, torch.tensor([1.0, 1.0])), r"broadcast to the batch shape \(\), got shape \(2,\)"),
        ((EYE[0], 1.0), r"got shape \(2,\)"),
        ((EYE.int(), 1.0), "floating-point dtype, got torch.int32"),
        ((EYE * math.nan, 1.0), "G must be finite, got 4 NaN"),
    ],
)
@pytest.mark.parametrize("route", ["auto"])
def test_rejects_values(arguments: tuple[Tensor, float], message: str, route: Route) -> None:
    with pytest.raises(ValueError, match=message):
        smoothed_msign(*arguments, route=route)


def test_rejects_names_and_tolerances() -> None:
    with pytest.raises(ValueError, match=r"unknown smoothing 'tan'.*did you mean 'tanh'"):
        smoothed_msign(EYE, 1.0, smoothing="tan")
    with pytest.raises(ValueError, match=r"unknown route 'grim'.*did you mean 'gram'"):
        smoothed_msign(EYE, 1.0, route="grim")  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="tolerance must be finite and > 0, got 0"):
        smoothed_msign(EYE, 1.0, tolerance=0.0)
