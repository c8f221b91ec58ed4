"""SpecGF with the square-root smoothing, balanced: time as an integral over the state.

With a = b = x the mode follows dx/dt = g / sqrt(g^2 + beta^2), g = x (sigma - x^2). Its inverse is
an integral, t = integral of sqrt(1 + beta^2/g^2) dx, singular at both ends. In the logistic
coordinate w = ln(x^2 / (sigma - x^2)), where dx/dw = g / (2 sigma), it is not:

    t = 1/(2 sigma) integral of sqrt(g^2 + beta^2) dw.

(w is the time of gradient flow, times 2 sigma.) The integrand is analytic for |Im w| < pi/2
whatever the parameters: g^2 = sigma^3 e^w / (1 + e^w)^3 is a negative number only where
arg(1 + e^w) = (pi + Im w)/3, and that argument is below Im w. On a panel of half-width 1, Gauss's
rule with n nodes then errs like rho^(-2n), rho = pi/2 + sqrt(1 + pi^2/4) = 3.43: 16 nodes give
7e-18.

Source: derived from the definitions of Kang et al. 2026, arXiv 2602.06385.
"""

from __future__ import annotations

import sympy as sp

from flows.closed_forms.form import ClosedForm

x, x0, sigma, beta = sp.symbols("x x0 sigma beta", positive=True)
w, _xi = sp.symbols("w xi", real=True)


def balanced_gradient(state: sp.Expr, target: sp.Expr) -> sp.Expr:
    """g = x (sigma - x^2): the gradient of both factors where a = b = x."""
    return state * (target - state**2)


def balanced_velocity(state: sp.Expr, target: sp.Expr) -> sp.Expr:
    """dx/dt = g / sqrt(g^2 + beta^2)."""
    g = balanced_gradient(state, target)
    return g / sp.sqrt(g**2 + beta**2)


_slowness = sp.sqrt(1 + beta**2 / balanced_gradient(x, sigma) ** 2)
_time = sp.Integral(_slowness.subs(x, _xi), (_xi, x0, x))

IMPLICIT = ClosedForm(
    name="smoothed, balanced",
    formula="t(x) = \\int_{x_0}^x \\sqrt{1 + \\beta^2/g^2}\\,d\\xi,\\ g = \\xi(\\sigma - \\xi^2)",
    arguments=(x, sigma, beta),
    expression=_slowness,
    zeros={
        # Squared: below the target both factors are positive.
        "(dt/dx)^2 (dx/dt)^2 = 1": sp.diff(_time, x) ** 2 * balanced_velocity(x, sigma) ** 2 - 1,
        "t(x0) = 0": _time.subs(x, x0).doit(),
    },
)

_state = sp.sqrt(sigma / (1 + sp.exp(-w)))
# g in terms of w, without the cancellation of sigma - x^2.
_gradient = sigma ** sp.Rational(3, 2) / (sp.sqrt(1 + sp.exp(-w)) * (1 + sp.exp(w)))
_root = sp.sqrt(_gradient**2 + beta**2)

STATE = ClosedForm(
    name="smoothed, balanced: state in the logistic coordinate",
    formula="x = \\sqrt{\\sigma / (1 + e^{-w})}",
    arguments=(w, sigma),
    expression=_state,
    zeros={
        "w = ln(x^2 / (sigma - x^2))": _state**2 / (sigma - _state**2) - sp.exp(w),
        "g = x (sigma - x^2)": _gradient - balanced_gradient(_state, sigma),
        "dx/dw = g / (2 sigma)": sp.diff(_state, w) - _gradient / (2 * sigma),
    },
)

TIME_DENSITY = ClosedForm(
    name="smoothed, balanced: time in the logistic coordinate",
    formula="dt/dw = \\sqrt{g^2 + \\beta^2} / (2 \\sigma)",
    arguments=(w, sigma, beta),
    expression=_root / (2 * sigma),
    zeros={
        "(dt/dw)^2 = (dt/dx)^2 (dx/dw)^2": (_root / (2 * sigma)) ** 2
        - (_slowness.subs(x, _state) * sp.diff(_state, w)) ** 2,
    },
)

# sqrt(g^2 + beta^2) - g without its cancellation.
_lag_density = beta**2 / (2 * sigma * (_root + _gradient))

LAG_DENSITY = ClosedForm(
    name="smoothed, balanced: lag in the logistic coordinate",
    formula="d(t - x)/dw = \\beta^2 / (2 \\sigma (\\sqrt{g^2 + \\beta^2} + g))",
    arguments=(w, sigma, beta),
    expression=_lag_density,
    zeros={
        "dt/dw - dx/dw": _lag_density - (_root / (2 * sigma) - _gradient / (2 * sigma)),
    },
)

FORMS = (IMPLICIT, STATE, TIME_DENSITY, LAG_DENSITY)
