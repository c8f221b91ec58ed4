"""What odd polynomials make of intervals, enclosed: the image of an interval, and p(s)/s on it.

The image of an interval under a composition is the composition of images, so nothing is lost from
step to step and the range of a composite of degree 5^k is known without a grid.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geometry.newton_schulz import OddPolynomial

Array = NDArray[np.float64]
# Horner's rule with n coefficients is off by (4 n + 2) u sum |c_i| s^i at most; n is 3 or less. An
# error of the critical points counts twice as many digits.
_ROUND_OFF = 16 * 2.0**-53


def image(polynomial: OddPolynomial, low: Array, high: Array) -> tuple[Array, Array]:
    """The ends of p([low, high]), rounded outwards.

    Args:
        polynomial: of degree 3 or 5.
        low, high: any shape, 0 <= low <= high.

    Returns:
        Two arrays of that shape.
    """
    c = np.array(polynomial.coefficients)
    return _range(c, 1, np.roots(((2 * np.arange(len(c)) + 1) * c)[::-1]), low, high)


def quotient(polynomial: OddPolynomial, low: Array, high: Array) -> tuple[Array, Array]:
    """The range of p(s)/s for s in [low, high], rounded outwards; at s = 0 it is p'(0)."""
    c = np.array(polynomial.coefficients)
    critical = np.roots((np.arange(1, len(c)) * c[1:])[::-1])
    return _range(c, 0, critical, low, high)


def quotients(polynomials: Iterable[OddPolynomial], low: Array, high: Array) -> tuple[Array, Array]:
    """An enclosure of phi(s)/s for s in [low, high], phi the composite, where phi stays >= 0.

    It is the product of the quotients of the steps, each on the image that it is handed.
    """
    least, most = np.ones_like(low), np.ones_like(high)
    for polynomial in polynomials:
        lower, upper = quotient(polynomial, low, high)
        least, most = least * lower * (1 - _ROUND_OFF), most * upper * (1 + _ROUND_OFF)
        low, high = image(polynomial, low, high)
    return least, most


def _range(
    coefficients: Array, power: int, squares: NDArray[Any], low: Array, high: Array
) -> tuple[Array, Array]:
    """Of s^power sum c_i s^2i, whose critical points have the ``squares`` that are real and > 0."""
    inner = [z.real**0.5 for z in squares if abs(z.imag) == 0 and z.real > 0]
    # A critical point outside of the interval is moved to its end.
    places = [low, high, *(np.clip(q, low, high) for q in inner)]
    values = np.stack([s**power * np.polyval(coefficients[::-1], s * s) for s in places])
    size = high**power * np.polyval(np.abs(coefficients)[::-1], high * high)
    return values.min(0) - _ROUND_OFF * size, values.max(0) + _ROUND_OFF * size
