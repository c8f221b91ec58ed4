"""The declared smoothings: potential, sign and Gram filter are one function."""

from __future__ import annotations

import mpmath
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from geometry.polar import smoothed_msign
from geometry.smoothing import SMOOTHINGS, smoothed_inverse_root

NAMES = sorted(SMOOTHINGS)


@pytest.mark.parametrize("name", NAMES)
@given(s=st.floats(1e-8, 1e4), beta=st.floats(1e-3, 1e2))
def test_gradient_of_the_potential_is_the_smoothed_sign(name: str, s: float, beta: float) -> None:
    smoothing = SMOOTHINGS[name]
    x = torch.tensor(s, dtype=torch.float64, requires_grad=True)
    b = torch.tensor(beta, dtype=torch.float64)
    (gradient,) = torch.autograd.grad(smoothing.potential(x, b), x)
    expected = smoothing.on_singular_values(x.detach(), b)
    assert float((gradient - expected).abs()) <= 1e-13 * float(expected)


@pytest.mark.parametrize("name", NAMES)
def test_gradient_of_the_matrix_potential_is_the_smoothed_polar_factor(name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    G = torch.randn(5, 3, generator=generator, dtype=torch.float64)
    D = torch.randn(5, 3, generator=generator, dtype=torch.float64)
    beta = torch.tensor(0.5, dtype=torch.float64)

    def potential(X: torch.Tensor) -> float:
        return float(SMOOTHINGS[name].potential(torch.linalg.svdvals(X), beta).sum())

    h = 1e-4  # central difference: truncation h^2 ||D||^3 / beta^2, rounding u / h
    slope = (potential(G + h * D) - potential(G - h * D)) / (2 * h)
    T = smoothed_msign(G, 0.5, smoothing=name, route="svd")
    assert slope == pytest.approx(float((T * D).sum()), abs=1e-6)


@pytest.mark.parametrize("name", NAMES)
@given(s=st.floats(1e-12, 1e6), beta=st.floats(1e-6, 1e6))
def test_filter_times_s_is_the_sign(name: str, s: float, beta: float) -> None:
    x, b = (torch.tensor(v, dtype=torch.float64) for v in (s, beta))
    by_filter = x * SMOOTHINGS[name].on_gram_eigenvalues(x * x, b)
    expected = SMOOTHINGS[name].on_singular_values(x, b)
    assert float((by_filter - expected).abs()) <= 1e-15 * 8 * float(expected)
    assert 0 <= float(expected) <= min(1.0, s / beta * (1 + 1e-15))


@pytest.mark.parametrize("name", NAMES)
def test_limits_at_zero_and_infinity(name: str) -> None:
    smoothing = SMOOTHINGS[name]
    beta = torch.tensor(0.25, dtype=torch.float64)
    zero, huge = torch.zeros((), dtype=torch.float64), torch.tensor(1e30, dtype=torch.float64)
    assert float(smoothing.on_gram_eigenvalues(zero, beta)) == 4.0
    assert float(smoothing.on_singular_values(zero, beta)) == 0.0
    assert float(smoothing.potential(zero, beta)) == 0.0
    assert float(smoothing.on_singular_values(huge, beta)) == 1.0
    assert float(smoothing.potential(huge, beta)) == 1e30


@pytest.mark.parametrize("s", [1e-9, 1e-3, 0.3, 1.0, 5.0, 800.0])
def test_potentials_do_not_cancel(s: float) -> None:
    x, one = torch.tensor(s, dtype=torch.float64), torch.ones((), dtype=torch.float64)
    with mpmath.workdps(50):
        z = mpmath.mpf(s)
        exact = {"sqrt": mpmath.sqrt(z**2 + 1) - 1, "tanh": mpmath.log(mpmath.cosh(z))}
        for name, value in exact.items():
            computed = float(SMOOTHINGS[name].potential(x, one))
            assert abs(computed - value) <= 1e-14 * value, name


@pytest.mark.parametrize("name", NAMES)
def test_inverse_root_has_the_filtered_spectrum(name: str, device: torch.device) -> None:
    generator = torch.Generator().manual_seed(1)
    G = torch.randn(3, 6, 4, generator=generator, dtype=torch.float64)
    G[2] = 0
    S = (G.mT @ G).to(device)
    beta = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64, device=device)
    F = smoothed_inverse_root(S, beta, name)
    for i in range(3):
        # The law that defines it: F commutes with S and has the eigenvalues f(lambda).
        assert torch.linalg.matrix_norm(F[i] @ S[i] - S[i] @ F[i]) <= 1e-12
        expected = SMOOTHINGS[name].on_gram_eigenvalues(
            torch.linalg.svdvals(G[i].to(device)).square(), beta[i]
        )
        computed = torch.linalg.eigvalsh(F[i])
        assert (computed - expected.sort().values).abs().max() <= 1e-13
    assert torch.allclose(F[2], torch.eye(4, dtype=torch.float64, device=device) / 2, atol=1e-15)


def test_inverse_root_by_its_equation(device: torch.device) -> None:
    G = torch.randn(6, 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    S = (G.mT @ G).to(device)
    eye = torch.eye(4, dtype=torch.float64, device=device)
    F = smoothed_inverse_root(S, 0.1)
    assert torch.linalg.matrix_norm(F @ (S + 0.01 * eye) @ F - eye) <= 1e-11


@pytest.mark.parametrize(
    ("S", "beta", "name", "message"),
    [
        (
            torch.ones(2, 3),
            1.0,
            "sqrt",
            r"gram must have shape \(\.\.\., r, r\), got shape \(2, 3\)",
        ),
        (torch.eye(2), 0.0, "sqrt", "beta must be finite and > 0, got 0.0"),
        (torch.eye(2), -1.0, "sqrt", "beta must be finite and > 0, got -1.0"),
        (torch.eye(2), 1e-60, "sqrt", "beta must lie in the normal range .* of torch.float32"),
        (torch.eye(2), torch.tensor([1.0, 2.0]), "sqrt", r"broadcast to the batch shape \(\)"),
        (
            torch.eye(2).expand(2, 2, 2),
            torch.tensor([1.0, 0.0]),
            "sqrt",
            "every beta must be finite",
        ),
        (torch.eye(2), 1.0, "sqr", "unknown smoothing 'sqr'.*did you mean 'sqrt'"),
    ],
)
def test_inverse_root_rejects(S: torch.Tensor, beta: float, name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        smoothed_inverse_root(S, beta, name)


@pytest.mark.parametrize("s", [0.0, 1e-9, 1e-3, 0.3, 1.0, 5.0, 30.0, 800.0])
def test_slopes_are_derivatives_of_the_sign(s: float) -> None:
    x, beta = torch.tensor(s / 4, dtype=torch.float64), torch.tensor(0.25, dtype=torch.float64)
    with mpmath.workdps(50):
        z = mpmath.mpf(s)
        exact = {"sqrt": (z**2 + 1) ** -1.5, "tanh": mpmath.sech(z) ** 2}
        for name, value in exact.items():
            computed = float(SMOOTHINGS[name].slope(x, beta))
            # The tail of tanh ends above the smallest number.
            assert abs(computed - 4 * value) <= 1e-13 * value + 1e-250, name
