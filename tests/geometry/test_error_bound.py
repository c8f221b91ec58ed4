"""The a-priori bound of the smoothed polar factor is never violated and not idle.

The reference works with 60 digits on the exact binary input: it shares no code with the subject.
"""

from __future__ import annotations

import mpmath
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from geometry.error_bound import gram_route_bound, svd_route_bound
from geometry.polar import Route, smoothed_msign
from geometry.smoothing import SMOOTHINGS

DIGITS = 60


def exact_error(T: Tensor, G: Tensor, beta: float, smoothing: str) -> float:
    """||T - T_beta(G)||_F with T_beta(G) by a 60-digit eigendecomposition of the Gram matrix."""
    with mpmath.workdps(DIGITS):
        X = mpmath.matrix(G.double().tolist())
        tall = X.rows >= X.cols
        gram = X.T * X if tall else X * X.T
        eigenvalues, V = mpmath.eigsy(gram)
        b = mpmath.mpf(beta)
        floor = max(abs(e) for e in eigenvalues) * mpmath.mpf(10) ** (-DIGITS + 5)

        def h(e: mpmath.mpf) -> mpmath.mpf:
            s = mpmath.sqrt(max(e, mpmath.mpf(0)))
            if smoothing == "sqrt":
                return 1 / mpmath.sqrt(s**2 + b**2)
            return mpmath.tanh(s / b) / s if e > floor else 1 / b

        filtered = V * mpmath.diag([h(e) for e in eigenvalues]) * V.T
        exact = X * filtered if tall else filtered * X
        return float(mpmath.mnorm(mpmath.matrix(T.double().tolist()) - exact, "f"))


@st.composite
def problems(draw: st.DrawFn) -> tuple[Tensor, float]:
    """Matrices of condition 1 to 1e14 and any rank, at any scale, with beta / ||G|| wide."""
    m, n = draw(st.integers(1, 5)), draw(st.integers(1, 5))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    r = min(m, n)
    s = 10.0 ** -torch.linspace(0, draw(st.floats(0, 14)), r, dtype=torch.float64)
    s[draw(st.integers(1, r)) :] = 0
    U = torch.linalg.qr(torch.randn(m, r, generator=generator, dtype=torch.float64)).Q
    V = torch.linalg.qr(torch.randn(n, r, generator=generator, dtype=torch.float64)).Q
    G = (U * s) @ V.mT
    return G, 10.0 ** draw(st.floats(-9, 3))


@given(
    problems(),
    st.sampled_from(["auto", "gram", "svd"]),
    st.sampled_from(sorted(SMOOTHINGS)),
    st.integers(-80, 80),
)
@settings(max_examples=60, deadline=None)
def test_bound_holds_in_float64(
    problem: tuple[Tensor, float], route: Route, smoothing: str, exponent: int
) -> None:
    G, beta = problem[0] * 2.0**exponent, problem[1] * 2.0**exponent
    T, bound = smoothed_msign(G, beta, smoothing=smoothing, route=route, return_error_bound=True)
    assert bound.shape == ()
    assert torch.isfinite(T).all()
    assert exact_error(T, G, beta, smoothing) <= float(bound)


@given(
    problems(),
    st.sampled_from(["auto", "gram", "svd"]),
    st.sampled_from(sorted(SMOOTHINGS)),
    st.sampled_from([torch.float32, torch.float16, torch.bfloat16]),
)
@settings(max_examples=40, deadline=None)
def test_bound_holds_in_lower_precisions(
    problem: tuple[Tensor, float], route: Route, smoothing: str, dtype: torch.dtype
) -> None:
    # beta is rounded first: the bound speaks of the beta that the dtype can hold.
    G, beta = problem[0].to(dtype), float(torch.tensor(problem[1], dtype=torch.float32))
    T, bound = smoothed_msign(G, beta, smoothing=smoothing, route=route, return_error_bound=True)
    assert T.dtype == dtype
    assert bound.dtype == torch.float32
    assert exact_error(T, G, beta, smoothing) <= float(bound)


def test_gram_error_breaks_the_svd_bound_so_the_routes_differ() -> None:
    """Control: at eps = 1e-6 the Gram route really is worse than what SVD guarantees."""
    s = torch.tensor([1.0, 1e-6, 1e-7], dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    U = torch.linalg.qr(torch.randn(5, 3, generator=generator, dtype=torch.float64)).Q
    V = torch.linalg.qr(torch.randn(3, 3, generator=generator, dtype=torch.float64)).Q
    G, beta = (U * s) @ V.mT, 1e-6
    by_gram, gram_bound = smoothed_msign(G, beta, route="gram", return_error_bound=True)
    by_svd, svd_bound = smoothed_msign(G, beta, route="svd", return_error_bound=True)
    gram_error = exact_error(by_gram, G, beta, "sqrt")
    svd_error = exact_error(by_svd, G, beta, "sqrt")
    assert svd_error <= float(svd_bound) < gram_error <= float(gram_bound)
    # Neither bound is idle: each within four decades of what happened.
    assert float(gram_bound) <= 1e4 * gram_error
    assert float(svd_bound) <= 1e4 * svd_error


def test_bound_covers_the_deflation_tolerance_of_lapack() -> None:
    """dbdsqr stops at off-diagonals of about 100 u: this matrix costs 90 u ||G||_F / beta."""
    G = torch.tensor(
        [
            [
                0.0017493330559926563,
                0.18066080917404154,
                0.3565786512728311,
                -0.47062037281767516,
                -0.15894823724916737,
            ],
            [
                -0.0029976839485778384,
                -0.19725927647609764,
                -0.3897570875646202,
                0.5126127783746622,
                0.17205494146768796,
            ],
            [
                -0.0008223756141029221,
                -0.09406269038923662,
                -0.18561916630402403,
                0.2451269935677089,
                0.08287771417487341,
            ],
        ],
        dtype=torch.float64,
    )
    beta = 310.2374572753906
    T, bound = smoothed_msign(G, beta, smoothing="tanh", route="svd", return_error_bound=True)
    assert exact_error(T, G, beta, "tanh") <= float(bound)


def test_the_derived_orders_are_one_and_two() -> None:
    x = torch.tensor([1e4, 1e6], dtype=torch.float64)
    svd, gram = svd_route_bound(x, 16, 8), gram_route_bound(x, 16, 8, 0.3003)
    assert float(svd[1] / svd[0]) == pytest.approx(1e2, rel=1e-12)
    assert float(gram[1] / gram[0]) == pytest.approx(1e4, rel=1e-2)


@pytest.mark.parametrize("name", sorted(SMOOTHINGS))
def test_gram_sensitivity_is_the_supremum_that_the_derivation_uses(name: str) -> None:
    s = torch.logspace(-3, 3, 20001, dtype=torch.float64)
    f = SMOOTHINGS[name].on_singular_values(s, torch.ones((), dtype=torch.float64))
    supremum = float(((1 - f / s) / s).max())
    assert supremum <= SMOOTHINGS[name].gram_sensitivity <= supremum + 2e-4
