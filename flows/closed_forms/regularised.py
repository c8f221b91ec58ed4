"""Coupled l2: the balanced dynamics are those without it, with sigma - lam in the place of sigma.

The gradients are G_B + lam B = E A^T + lam B and B^T E + lam A.

Source: derived from the definitions of Kang et al. 2026, arXiv 2602.06385.
"""

from __future__ import annotations

import numpy as np
import sympy as sp
from numpy.typing import ArrayLike

from flows.closed_forms import gradient_flow, smoothed
from flows.closed_forms.form import (
    Array,
    ClosedForm,
    require_nonnegative_array,
    require_open_interval,
)

lam, s0 = sp.symbols("lam s0", positive=True)
x, t, beta, sigma = smoothed.x, gradient_flow.t, smoothed.beta, smoothed.sigma

# On the aligned manifold with a = b = x, G_B + lam B is (x^2 - sigma) x + lam x.
_gradient = smoothed.balanced_gradient(x, sigma) - lam * x
_shrunk = sigma - lam

GRADIENT = ClosedForm(
    name="regularised, balanced: gradient",
    formula="x(\\sigma - x^2) - \\lambda x = x((\\sigma - \\lambda) - x^2)",
    arguments=(x, sigma, lam),
    expression=smoothed.balanced_gradient(x, _shrunk),
    zeros={"the coupled gradient": _gradient - smoothed.balanced_gradient(x, _shrunk)},
)

IMPLICIT = ClosedForm(
    name="regularised, smoothed, balanced",
    formula="t(x) = \\int_{x_0}^x \\sqrt{1 + \\beta^2/g^2}\\,d\\xi,\\ "
    "g = \\xi(\\sigma - \\lambda - \\xi^2)",
    arguments=(x, sigma, lam, beta),
    expression=smoothed.IMPLICIT.expression.subs(sigma, _shrunk),
    zeros={
        "(dt/dx)^2 (dx/dt)^2 = 1": smoothed.IMPLICIT.expression.subs(sigma, _shrunk) ** 2
        * (_gradient**2 / (_gradient**2 + beta**2))
        - 1,
    },
)

_logistic = gradient_flow.BALANCED.expression.subs(gradient_flow.sigma, _shrunk)

FLOW = ClosedForm(
    name="regularised gradient flow, balanced",
    formula="s = \\mu / (1 + (\\mu/s_0 - 1) e^{-2 \\mu t}),\\ \\mu = \\sigma - \\lambda",
    arguments=(t, sigma, lam, gradient_flow.s0),
    expression=_logistic,
    zeros={
        # ds/dt = 2 x dx/dt, x^2 = s.
        "ds/dt = 2 x (x (sigma - s) - lam x)": sp.diff(_logistic, t)
        - sp.expand(2 * x * _gradient).subs(x, sp.sqrt(_logistic)),
        "start": _logistic.subs(t, 0) - gradient_flow.s0,
    },
)

_m, _r, _n = sp.symbols("m r n", integer=True, positive=True)
_B, _A, _E = (
    sp.MatrixSymbol("B", _m, _r),
    sp.MatrixSymbol("A", _r, _n),
    sp.MatrixSymbol("E", _m, _n),
)
_G_B, _G_A = _E * _A.T + lam * _B, _B.T * _E + lam * _A


def _reduce_matrices(residual: sp.MatrixExpr) -> sp.Expr:
    left = sp.expand(residual.doit()).doit()
    return sp.Integer(0) if left.is_ZeroMatrix else left


BALANCE = ClosedForm(
    name="regularised: critical points are balanced",
    formula="B^\\top (G_B + \\lambda B) - (G_A + \\lambda A) A^\\top = "
    "\\lambda (B^\\top B - A A^\\top)",
    arguments=(),
    expression=_B.T * _G_B - _G_A * _A.T,
    zeros={
        "lam times the imbalance": _B.T * _G_B - _G_A * _A.T - lam * (_B.T * _B - _A * _A.T),
    },
    reduce=_reduce_matrices,
)

FORMS = (GRADIENT, IMPLICIT, FLOW, BALANCE)


def shrunk(sigma: ArrayLike, lam: ArrayLike) -> Array:
    """(sigma - lam)_+: the spectrum of the global minimum.

    Derivation: a critical point is balanced, so a kept mode has x (sigma - lam - x^2) = 0, and is
    worth (sigma - lam)_+^2 / 2.
    """
    sigma = require_nonnegative_array("sigma", sigma)
    return np.maximum(sigma - require_nonnegative_array("lam", lam), 0.0)


def regularised_gradient_flow(
    times: ArrayLike, sigma: ArrayLike, lam: ArrayLike, s0: ArrayLike
) -> Array:
    """Balanced GF with coupled l2: the logistic with mu = sigma - lam, lam not sigma.

    For lam > sigma mu is negative and the mode dies out like exp(2 mu t).
    """
    sigma = require_open_interval("sigma", sigma, 0.0, np.inf)
    lam = require_nonnegative_array("lam", lam)
    if bool(np.any(sigma == lam)):
        raise ValueError("lam: a number other than sigma is expected, for the formula is 0/0 there")
    s0 = require_open_interval("s0", s0, 0.0, np.inf)
    return FLOW(require_nonnegative_array("times", times), sigma, lam, s0)
