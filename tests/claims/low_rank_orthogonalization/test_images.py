"""Enclosures of odd polynomials hold every value, and no more than that."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sympy import Rational, Symbol, real_roots

from claims.low_rank_orthogonalization.images import image, quotient, quotients
from claims.low_rank_orthogonalization.orthogonalizers import quintic_limit
from geometry.newton_schulz import OddPolynomial
from geometry.orthogonalizers import orthogonalizer_named

coefficients = st.integers(-2000, 2000).map(lambda hundredths: hundredths / 100)
polynomials = st.builds(
    OddPolynomial,
    st.tuples(coefficients, coefficients) | st.tuples(coefficients, coefficients, coefficients),
)


@given(polynomials, st.floats(0, 1), st.floats(0, 1))
def test_images_and_quotients_hold_all_values_and_attain_their_ends(
    p: OddPolynomial, start: float, width: float
) -> None:
    s = np.linspace(start, start + width, 2001)
    values = p(torch.from_numpy(s)).numpy()
    size = np.polyval(np.abs(p.coefficients)[::-1], s[-1] ** 2) * (1 + s[-1])
    low, high = image(p, s[0], s[-1])
    assert low <= values.min() <= low + 1e-4 * size
    assert high >= values.max() >= high - 1e-4 * size
    values = np.polyval(p.coefficients[::-1], s**2)
    low, high = quotient(p, s[0], s[-1])
    assert low <= values.min() <= low + 1e-4 * size
    assert high >= values.max() >= high - 1e-4 * size


@pytest.mark.parametrize("method", ["cubic", "quintic", "muon", "polar_express", "cans"])
@pytest.mark.parametrize("steps", [1, 5])
def test_quotients_of_a_composite_enclose_it(method: str, steps: int) -> None:
    composite = orthogonalizer_named(method).polynomials(steps)
    ends = np.linspace(0, 1, 4097)
    least, most = quotients(composite, ends[:-1], ends[1:])
    s = ends[:-1] + np.diff(ends) * np.random.default_rng(0).random(4096)
    phi = torch.from_numpy(s)
    for p in composite:
        phi = p(phi)
    ratio = phi.numpy() / s
    assert ((least <= ratio) & (ratio <= most)).all()
    assert (most[1:] - least[1:]).max() < 0.2 * most.max()


def test_the_quintics_limit_range_is_invariant() -> None:
    """In exact arithmetic: its ends are the local minimum and the image of that."""
    s = Symbol("s")
    p = Rational("3.4445") * s - Rational("4.7750") * s**3 + Rational("2.0315") * s**5
    least = p.subs(s, max(real_roots(p.diff(s))))
    most = p.subs(s, least)
    assert quintic_limit() == pytest.approx([float(least.evalf(20)), float(most.evalf(20))], 1e-14)
    # What [m, M] is mapped to ends at m, where p is least, and at the larger of p(m) and p(M).
    assert float(p.subs(s, most.evalf(20))) < float(most.evalf(20))
    assert least.evalf(20) < max(real_roots(p.diff(s))).evalf(20) < most.evalf(20)
    # The local maximum, which is larger, lies outside.
    assert sorted(real_roots(p.diff(s)))[-2].evalf(20) < least.evalf(20)
