"""Minimax odd polynomials for the constant 1 on [l, u], and their greedy compositions.

Coefficients are derived here in double precision, never typed in. An odd polynomial
c_1 x + c_3 x^3 + c_5 x^5 is the tuple (c_1, c_3, c_5).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import numpy as np

from geometry.errors import require_between, require_nonnegative, require_positive_int

# Closer together than this, the minimax quintic of [l, u] and its limit agree to double precision
# while the Remez system is singular to working precision.
_COINCIDENT = 5e-6
_REMEZ_ITERATIONS = 100
_REMEZ_EXCESS = 1e-12


def minimax_quintic(lower: float, upper: float) -> tuple[float, float, float]:
    """Odd quintic p that minimises max |1 - p| on [lower, upper], by Remez exchange.

    The optimum equioscillates at lower < q < r < upper, where q and r are the critical points of
    p; they are the roots of a quadratic in x^2, so each exchange is exact.

    Raises:
        ValueError: unless 0 < lower <= upper < inf.
        RuntimeError: if the exchange does not settle.

    Reference:
        Amsel, Persson, Musco, Gower, The Polar Express, arXiv 2505.16932, whose
        Remez iteration for the quintic this is.
    """
    _require_interval(lower, upper)
    if lower >= (1 - _COINCIDENT) * upper:
        return 15 / 8 / upper, -10 / 8 / upper**3, 3 / 8 / upper**5
    # On [l/u, 1] instead: better scaled, same polynomial.
    low = lower / upper
    q, r = (3 * low + 1) / 4, (low + 3) / 4
    best, best_excess = (math.nan,) * 3, math.inf
    for _ in range(_REMEZ_ITERATIONS):
        x = np.array([low, q, r, 1.0])
        system = np.stack([x, x**3, x**5, np.array([1.0, -1.0, 1.0, -1.0])], axis=1)
        c1, c3, c5, error = (float(value) for value in np.linalg.solve(system, np.ones(4)))
        root = math.sqrt(max(9 * c3**2 - 20 * c1 * c5, 0.0))
        q = math.sqrt((-3 * c3 - root) / (10 * c5))
        r = math.sqrt((-3 * c3 + root) / (10 * c5))
        # How far the true extremes exceed the levelled error. The levelled error itself is a poor
        # signal: for small l it hardly depends on q and r, and settles long before they do.
        excess = max(abs(1 - _odd((c1, c3, c5), node)) for node in (q, r)) - abs(error)
        if excess >= best_excess:
            break
        best, best_excess = (c1, c3, c5), excess
    if best_excess <= _REMEZ_EXCESS:
        return best[0] / upper, best[1] / upper**3, best[2] / upper**5
    raise RuntimeError(f"Remez exchange did not settle on [{lower}, {upper}]")


@functools.cache
def polar_express_coefficients(
    steps: int, lower_bound: float = 1e-3, cushion: float = 0.02, safety: float = 1.01
) -> tuple[tuple[float, ...], ...]:
    """Greedy composition of minimax quintics: Polar Express.

    Step t takes the minimax quintic of [max(l, cushion u), u]. The cushion bounds its slope, which
    keeps half precision stable; where it acts, the polynomial is rescaled so that p(l) and p(u)
    lie symmetrically about 1. All but the last step then act on x / safety, so that rounding
    cannot push a singular value beyond u. Last, l <- p(l) and u <- 2 - l. With cushion 0 and
    safety 1 the composition is the best of its form in the worst case over [lower_bound, 1]
    (Theorem 4.1 of the paper).

    Args:
        steps: number of polynomials, >= 1. As [l, u] closes they tend to (15/8, -10/8, 3/8) on
            x / safety, so there is no last entry of a table to run past.
        lower_bound: l in (0, 1], the smallest singular value to serve after normalisation.
        cushion: in [0, 1]. The paper prints a table made with 0.02407327424182761, the authors'
            code uses 0.02.
        safety: >= 1. Here, as in the authors' code, the next interval counts the safety factor;
            the printed listing divides a finished table by it instead.

    Returns:
        (c_1, c_3, c_5) per step.

    Raises:
        ValueError: a parameter out of its range.

    Reference:
        arXiv 2505.16932, Algorithm 1 and section 4.4.
    """
    require_positive_int("steps", steps)
    _require_lower_bound(lower_bound)
    require_between("cushion", cushion, 0.0, 1.0)
    require_nonnegative("safety", safety)
    if safety < 1:
        raise ValueError(f"safety must be >= 1, got {safety}")
    low, high = float(lower_bound), 1.0
    table: list[tuple[float, ...]] = []
    for step in range(steps):
        polynomial = np.array(minimax_quintic(max(low, cushion * high), high))
        if cushion * high > low:
            polynomial *= 2 / (_odd(polynomial, low) + _odd(polynomial, high))
        if step < steps - 1:
            polynomial /= safety ** np.array([1, 3, 5])
        table.append(tuple(float(c) for c in polynomial))
        # Rounding can leave l an ulp above 1; the interval is then closed.
        low = min(_odd(polynomial, low), 1.0)
        high = 2 - low
    return tuple(table)


def minimax_cubic(lower: float, upper: float) -> tuple[float, float]:
    """Odd cubic that minimises max |1 - p| on [lower, upper], in closed form.

    With e^2 = (l^2 + l u + u^2) / 3, K = 2 e^3 and L = l u (l + u):
    c_1 = 6 e^2 / (K + L), c_3 = -2 / (K + L), and the error is (K - L) / (K + L).

    Raises:
        ValueError: unless 0 < lower <= upper < inf.

    Reference:
        CANS: Grishina, Smirnov, Rakhuba, Accelerating Newton-Schulz Iteration for
        Orthogonalization via Chebyshev-type Polynomials, arXiv 2506.10935.
    """
    _require_interval(lower, upper)
    square = (lower**2 + lower * upper + upper**2) / 3
    K, L = 2 * square**1.5, lower * upper * (lower + upper)
    return 6 * square / (K + L), -2 / (K + L)


@functools.cache
def cans_coefficients(steps: int, lower_bound: float = 1e-3) -> tuple[tuple[float, ...], ...]:
    """Greedy composition of minimax cubics: CANS of degree 3, on [lower_bound, 1].

    After each step the interval is [1 - E, 1 + E] with E the minimax error of that step.

    Args:
        steps: number of polynomials, >= 1; they tend to (3/2, -1/2).
        lower_bound: l in (0, 1].

    Returns:
        (c_1, c_3) per step.

    Raises:
        ValueError: a parameter out of its range.
    """
    require_positive_int("steps", steps)
    _require_lower_bound(lower_bound)
    low, high = float(lower_bound), 1.0
    table: list[tuple[float, ...]] = []
    for _ in range(steps):
        polynomial = minimax_cubic(low, high)
        table.append(polynomial)
        # p(u) is the minimum 1 - E; the formula of E itself cancels when l is close to u.
        error = max(1 - _odd(polynomial, high), 0.0)
        # p(l) is 1 - E as well, and more than 0 where that is 0 to rounding.
        low, high = 1 - error or _odd(polynomial, low), 1 + error
    return tuple(table)


def _odd(coefficients: Sequence[float] | np.ndarray, x: float) -> float:
    return float(sum(c * x ** (2 * i + 1) for i, c in enumerate(coefficients)))


def _require_interval(lower: float, upper: float) -> None:
    if not 0 < lower <= upper < math.inf:
        raise ValueError(f"expected 0 < lower <= upper < inf, got lower={lower}, upper={upper}")


def _require_lower_bound(lower_bound: float) -> None:
    if not 0 < lower_bound <= 1:
        raise ValueError(f"lower_bound must lie in (0, 1], got {lower_bound}")
