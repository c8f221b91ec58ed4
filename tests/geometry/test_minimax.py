"""Derived coefficients: optimal by an independent criterion, and equal to the published ones."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.optimize
from hypothesis import given, settings
from hypothesis import strategies as st

from geometry.minimax import (
    cans_coefficients,
    minimax_cubic,
    minimax_quintic,
    polar_express_coefficients,
)

# arXiv 2505.16932, Algorithm 1: the published table, before its safety factor.
PUBLISHED_CUSHION = 0.02407327424182761
PUBLISHED = [
    (8.28721201814563, -23.595886519098837, 17.300387312530933),
    (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
    (3.9486908534822946, -2.908902115962949, 0.5518191394370137),
    (3.3184196573706015, -2.488488024314874, 0.51004894012372),
    (2.300652019954817, -1.6689039845747493, 0.4188073119525673),
    (1.891301407787398, -1.2679958271945868, 0.37680408948524835),
    (1.8750014808534479, -1.2500016453999487, 0.3750001645474248),
    (1.875, -1.25, 0.375),
]


def odd(coefficients: tuple[float, ...], x: np.ndarray) -> np.ndarray:
    return sum((c * x ** (2 * i + 1) for i, c in enumerate(coefficients)), np.zeros_like(x))


@pytest.mark.parametrize("lower", [1e-3, 0.02, 0.3, 0.8])
@pytest.mark.parametrize("upper", [1.0, 1.7])
@pytest.mark.parametrize("terms", [2, 3])
def test_agrees_with_a_linear_program(lower: float, upper: float, terms: int) -> None:
    """min E subject to |1 - p(x_i)| <= E on a grid: the definition, solved by scipy."""
    lower = lower * upper
    x = np.unique(
        np.concatenate([np.linspace(lower, upper, 1500), np.geomspace(lower, upper, 500)])
    )
    powers = np.stack([x ** (2 * i + 1) for i in range(terms)], axis=1)
    ones = np.ones((len(x), 1))
    program = scipy.optimize.linprog(
        c=[0.0] * terms + [1.0],
        A_ub=np.block([[powers, -ones], [-powers, -ones]]),
        b_ub=np.concatenate([np.ones(len(x)), -np.ones(len(x))]),
        bounds=[(None, None)] * (terms + 1),
        method="highs",
    )
    coefficients = minimax_cubic(lower, upper) if terms == 2 else minimax_quintic(lower, upper)
    error = np.abs(1 - odd(coefficients, x)).max()
    # The grid's optimum can only be below the interval's, by O(spacing^2).
    assert program.fun - 1e-9 <= error <= program.fun * (1 + 1e-4) + 1e-6


@given(st.floats(1e-6, 0.98), st.floats(0.1, 3.0))
@settings(max_examples=40, deadline=None)
def test_equioscillates(ratio: float, upper: float) -> None:
    """Chebyshev's criterion: extremes of 1 - p alternate in sign with one magnitude."""
    lower = ratio * upper
    for coefficients in (minimax_cubic(lower, upper), minimax_quintic(lower, upper)):
        derivative = [c * (2 * i + 1) for i, c in enumerate(coefficients)]
        critical = np.sqrt(np.roots(derivative[::-1]).real)
        x = np.array([lower, *sorted(critical), upper])
        error = 1 - odd(coefficients, x)
        assert (np.diff(x) > 0).all()
        # Absolute: the coefficients cancel to u * (|c_1| + |c_3| + ...) upper.
        rounding = 1e-15 * float(odd(tuple(abs(c) for c in coefficients), np.array(upper)))
        signs = np.array([(-1.0) ** i for i in range(len(x))])
        assert np.abs(error * signs - error[0]).max() <= 4 * rounding


@pytest.mark.parametrize("upper", [0.5, 1.0, 2.0])
def test_closing_interval_tends_to_the_newton_schulz_polynomials(upper: float) -> None:
    for gap in (1e-4, 1e-5, 1e-6, 0.0):
        lower = upper * (1 - gap)
        scaled = [c * upper ** (2 * i + 1) for i, c in enumerate(minimax_quintic(lower, upper))]
        assert scaled == pytest.approx([15 / 8, -10 / 8, 3 / 8], abs=3 * gap + 1e-15)
        scaled = [c * upper ** (2 * i + 1) for i, c in enumerate(minimax_cubic(lower, upper))]
        assert scaled == pytest.approx([3 / 2, -1 / 2], abs=3 * gap + 1e-15)


def test_polar_express_reproduces_the_published_table() -> None:
    derived = polar_express_coefficients(8, 1e-3, PUBLISHED_CUSHION, 1.0)
    for step, (ours, theirs) in enumerate(zip(derived, PUBLISHED, strict=True)):
        # From step 7 on the published digits are themselves at the Remez system's rounding.
        assert ours == pytest.approx(theirs, rel=1e-13 if step < 6 else 1e-8), step


def test_safety_divides_the_argument_of_all_but_the_last_step() -> None:
    (plain,) = polar_express_coefficients(1, safety=1.5)
    (last,) = polar_express_coefficients(1, safety=1.0)
    assert plain == last
    first, _ = polar_express_coefficients(2, safety=1.5)
    assert first == pytest.approx([c / 1.5 ** (2 * i + 1) for i, c in enumerate(last)], rel=1e-15)


def samples(lower: float, upper: float) -> np.ndarray:
    return np.concatenate([np.geomspace(lower, upper, 2001), np.linspace(lower, upper, 2001)])


@pytest.mark.parametrize("lower", [1e-6, 1e-3, 0.1, 1.0])
@pytest.mark.parametrize("cushion", [0.0, 0.02])
@pytest.mark.parametrize("safety", [1.0, 1.01])
def test_polar_express_maps_each_interval_into_the_next(
    lower: float, cushion: float, safety: float
) -> None:
    low, high, x = lower, 1.0, samples(lower, 1.0)
    for coefficients in polar_express_coefficients(30, lower, cushion, safety):
        image = odd(coefficients, samples(low, high))
        low = float(odd(coefficients, np.array(low)))
        high = 2 - low
        assert image.min() >= low - 1e-13
        assert image.max() <= high + 1e-13
        x = odd(coefficients, x)
    assert np.abs(1 - x).max() <= 1e-12


@pytest.mark.parametrize("lower", [1e-6, 1e-3, 0.1, 1.0])
def test_cans_maps_each_interval_into_the_next(lower: float) -> None:
    low, high, x = lower, 1.0, samples(lower, 1.0)
    for coefficients in cans_coefficients(40, lower):
        image = odd(coefficients, samples(low, high))
        low = float(odd(coefficients, np.array(low)))
        high = 2 - low
        assert image.min() >= low - 1e-13
        assert image.max() <= high + 1e-13
        x = odd(coefficients, x)
    assert np.abs(1 - x).max() <= 1e-13
    assert cans_coefficients(40, lower)[-1] == pytest.approx((1.5, -0.5), abs=1e-12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: minimax_quintic(0.0, 1.0), "0 < lower <= upper < inf, got lower=0.0"),
        (lambda: minimax_cubic(2.0, 1.0), "got lower=2.0, upper=1.0"),
        (lambda: polar_express_coefficients(0), "steps must be a positive int, got 0"),
        (lambda: polar_express_coefficients(5, 0.0), r"lower_bound must lie in \(0, 1\], got 0.0"),
        (lambda: polar_express_coefficients(5, float("nan")), "lower_bound must lie in"),
        (
            lambda: polar_express_coefficients(5, 1e-3, 2.0),
            r"cushion must lie in \[0.0, 1.0\], got 2",
        ),
        (lambda: polar_express_coefficients(5, 1e-3, 0.02, 0.9), "safety must be >= 1, got 0.9"),
        (lambda: cans_coefficients(5, 1.5), r"lower_bound must lie in \(0, 1\], got 1.5"),
        (lambda: cans_coefficients(-1), "steps must be a positive int, got -1"),
    ],
)
def test_rejects(call, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=message):
        call()
