"""Closed forms: every obligation is proved by sympy, and every number agrees with an independent
integration by SciPy, which knows nothing of the forms.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import sympy as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.integrate import quad, solve_ivp

from flows import closed_forms as forms
from flows.closed_forms import CLOSED_FORMS, ClosedForm

Array = NDArray[np.float64]
TIGHT: dict[str, Any] = {"method": "DOP853", "rtol": 1e-12, "atol": 1e-15}


@pytest.mark.parametrize("form", CLOSED_FORMS, ids=lambda form: form.name)
def test_sympy_proves_every_obligation(form: ClosedForm) -> None:
    assert form.zeros or form.nonnegative
    assert form.unproved() == ()


def test_names_are_unique() -> None:
    names = [form.name for form in CLOSED_FORMS]
    assert len(set(names)) == len(names)


def test_a_wrong_form_is_not_proved() -> None:
    form = next(form for form in CLOSED_FORMS if form.zeros)
    wrong = replace(form, zeros={"made wrong": sp.Symbol("t") + 1})
    assert wrong.unproved() == ("made wrong",)
    assert not wrong.proved


def aligned(times: Array, sigma: float, a0: float, b0: float, phi: Callable[[Any], Any]) -> Array:
    """s = a b of db/dt = phi((sigma - ab) a), da/dt = phi((sigma - ab) b), by SciPy."""

    def velocity(_: float, y: Array) -> Array:
        a, b = y
        return np.array([phi((sigma - a * b) * b), phi((sigma - a * b) * a)])

    path = solve_ivp(velocity, (0, times[-1]), [a0, b0], t_eval=times, **TIGHT)
    assert path.success
    return np.asarray(path.y[0] * path.y[1])


def test_gradient_flow_balanced() -> None:
    times = np.linspace(0, 6, 61)
    for sigma, s0 in ((1.0, 1e-4), (3.0, 1e-6), (2.0, 5.0)):
        expected = aligned(times, sigma, s0**0.5, s0**0.5, lambda g: g)
        assert forms.gradient_flow_balanced(times, sigma, s0) == pytest.approx(
            expected, rel=1e-9, abs=1e-12
        )


def test_gradient_flow_from_lora_s_start() -> None:
    times = np.linspace(0, 6, 61)
    for sigma, gamma in ((1.0, 1e-3), (5.0, 1e-2), (2.0, 1.5)):
        expected = aligned(times, sigma, gamma, 0.0, lambda g: g)
        measured = forms.gradient_flow_lora(times, sigma, gamma)
        assert measured == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_coupled_regularisation_shrinks_the_target() -> None:
    sigma, lam, s0, times = 3.0, 0.7, 1e-4, np.linspace(0, 5, 51)

    def velocity(_: float, y: Array) -> Array:
        a, b = y
        return np.array([(sigma - a * b) * b - lam * a, (sigma - a * b) * a - lam * b])

    path = solve_ivp(velocity, (0, 5), [s0**0.5, s0**0.5], t_eval=times, **TIGHT)
    expected = path.y[0] * path.y[1]
    measured = forms.regularised_gradient_flow(times, sigma, lam, s0)
    assert measured == pytest.approx(expected, rel=1e-9)
    assert forms.shrunk([5.0, 1.0, 0.3], 0.5).tolist() == [4.5, 0.5, 0.0]


def test_unit_rates_by_their_pieces() -> None:
    times = np.array([0.0, 0.25, 0.5])
    assert forms.same_sign(times, 0.5, 1.0).tolist() == [0.5, 0.9375, 1.5]
    assert forms.unit_rate_balanced(times, 0.5).tolist() == [0.25, 0.5625, 1.0]
    # a = -1/4 rises, b = 1 falls until a crosses zero at t = 1/4; then both grow.
    assert forms.opposite_signs(times, -0.25, 1.0).tolist() == [-0.25, 0.0, 0.25]


@given(
    sigma=st.floats(0.3, 8), beta=st.floats(1e-4, 0.3), share=st.floats(0.05, 0.95),
    start=st.floats(1e-6, 0.1),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_smoothed_arrival_is_the_quadrature(
    sigma: float, beta: float, share: float, start: float
) -> None:
    x0, level = start * sigma**0.5, share * sigma

    # In u = ln x the integrand sqrt(x^2 + beta^2 / (sigma - x^2)^2) has no pole at small x.
    def integrand(u: float) -> float:
        x2 = float(np.exp(2 * u))
        return float(np.hypot(np.exp(u), beta / (sigma - x2)))

    if level <= x0**2:
        return
    expected = quad(integrand, np.log(x0), np.log(level) / 2, epsabs=0, epsrel=1e-13, limit=400)[0]
    measured = float(forms.smoothed_arrival(level, sigma, beta, x0))
    assert measured == pytest.approx(expected, rel=1e-12)
    lag = float(forms.smoothed_lag(level, sigma, beta, x0))
    assert lag == pytest.approx(measured - (level**0.5 - x0), abs=1e-12)
    # The state at the arrival time is where the level is.
    assert float(forms.smoothed_state(measured, sigma, beta, x0)) == pytest.approx(
        level**0.5, rel=1e-11
    )


def test_smoothed_state_against_an_integration() -> None:
    sigma, beta, x0 = 2.0, 0.03, 1e-2
    times = np.linspace(0, 2.5, 26)

    def velocity(_: float, y: Array) -> Array:
        g = y * (sigma - y**2)
        return np.asarray(g / np.hypot(g, beta))

    path = solve_ivp(velocity, (0, 2.5), [x0], t_eval=times, **TIGHT)
    assert forms.smoothed_state(times, sigma, beta, x0) == pytest.approx(path.y[0], rel=1e-10)


@given(
    sigma=st.floats(0.3, 8), beta=st.floats(1e-4, 0.1), theta=st.floats(0.2, 0.8),
    start=st.floats(1e-5, 0.05),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_the_lag_lies_between_zero_and_its_bounds(
    sigma: float, beta: float, theta: float, start: float
) -> None:
    x0, level = start * sigma**0.5, (1 - theta) * sigma
    lag = float(forms.smoothed_lag(level, sigma, beta, x0))
    bound = float(forms.lag_bound(sigma, beta, x0, theta))
    majorant = float(forms.lag_majorant(level**0.5, sigma, beta, x0, theta))
    assert 0 <= lag <= majorant <= bound


def test_the_reference_lag() -> None:
    assert float(forms.smoothed_lag(0.5, 1.0, 0.01, 1e-3)) == pytest.approx(0.02096, abs=5e-6)
    assert float(forms.lag_bound(1.0, 0.01, 1e-3, 0.5)) == pytest.approx(0.0738, abs=5e-5)


def test_the_escape_lag_is_the_limit_of_the_quadrature() -> None:
    sigma, ratios = 2.0, []
    for beta in (1e-2, 1e-3, 1e-4):
        x0 = 1e-4 * beta
        lag = float(forms.smoothed_lag(0.5 * sigma, sigma, beta, x0))
        ratios.append(float(forms.escape_lag(beta, sigma, x0)) / lag)
    errors = np.abs(np.array(ratios) - 1)
    assert errors[-1] < 1e-4
    assert (np.diff(errors) < 0).all()


@pytest.mark.parametrize(
    ("arrival", "state"),
    [
        (lambda level: forms.gradient_flow_balanced_arrival(level, 3.0, 1e-4),
         lambda t: forms.gradient_flow_balanced(t, 3.0, 1e-4)),
        (lambda level: forms.gradient_flow_lora_arrival(level, 3.0, 1e-3),
         lambda t: forms.gradient_flow_lora(t, 3.0, 1e-3)),
        (lambda level: forms.same_sign_arrival(level, 0.1, 0.3),
         lambda t: forms.same_sign(t, 0.1, 0.3)),
        (lambda level: forms.opposite_signs_arrival(level, -0.1, 0.3),
         lambda t: forms.opposite_signs(t, -0.1, 0.3)),
        (lambda level: forms.unit_rate_arrival(level, 0.2),
         lambda t: forms.unit_rate_balanced(t, 0.2)),
    ],
    ids=["balanced", "lora", "same sign", "opposite signs", "unit rate"],
)  # fmt: skip
def test_arrivals_invert_the_states(
    arrival: Callable[[Array], Array], state: Callable[[Array], Array]
) -> None:
    levels = np.array([0.3, 1.0, 2.7])
    assert state(arrival(levels)) == pytest.approx(levels, rel=1e-11)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: forms.smoothed_arrival(0.5, 1.0, -0.1, 1e-3), "beta"),
        (lambda: forms.smoothed_arrival(0.5, 1.0, 0.1, 2.0), "x0"),
        (lambda: forms.smoothed_arrival(1.5, 1.0, 0.1, 1e-3), "level"),
        (lambda: forms.smoothed_arrival(1e-9, 1.0, 0.1, 1e-3), "only grows"),
        (lambda: forms.regularised_gradient_flow([1.0], 2.0, 2.0, 1e-3), "lam"),
    ],
)
def test_numbers_outside_a_form_s_domain_are_refused(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_a_form_says_what_it_takes() -> None:
    form = next(form for form in CLOSED_FORMS if len(form.arguments) > 1)
    with pytest.raises(TypeError, match="1 were given"):
        form(1.0)


@pytest.mark.parametrize(
    ("arrival", "level", "arguments"),
    [
        (forms.same_sign_arrival, 0.2, (0.5, 0.5)),
        (forms.unit_rate_arrival, 0.2, (0.5,)),
        (forms.gradient_flow_balanced_arrival, 0.2, (1.0, 0.25)),
        (forms.smoothed_arrival, 0.2, (1.0, 0.1, 0.5)),
    ],
)
def test_no_state_arrives_at_what_is_behind_it(
    arrival: Callable[..., Array], level: float, arguments: tuple[float, ...]
) -> None:
    """Some gave a time before the start."""
    assert arrival(0.25, *arguments) == pytest.approx(0.0, abs=1e-15)
    with pytest.raises(ValueError, match=r"level: at least the start, 0.25, is .*; given 0.2"):
        arrival(level, *arguments)


@pytest.mark.parametrize(("a0", "b0"), [(0.3, 0.5), (-0.5, 0.5), (-0.1, math.nan), (0.0, 1.0)])
def test_signs_are_told_as_they_were_given(a0: float, b0: float) -> None:
    message = f"numbers with -b0 < a0 < 0 are expected; given {a0:g} and {b0:g}"
    for form in (forms.opposite_signs, forms.opposite_signs_arrival):
        with pytest.raises(ValueError, match=message):
            form(1.0, a0, b0)
