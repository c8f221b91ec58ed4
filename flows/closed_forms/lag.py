"""How far SpecGF with the square-root smoothing lags behind the unit rate, balanced.

Source: derived from the definitions of Kang et al. 2026, arXiv 2602.06385.
"""

from __future__ import annotations

import numpy as np
import sympy as sp
from numpy.typing import ArrayLike

from flows.closed_forms.form import (
    Array,
    ClosedForm,
    require_open_interval,
    require_positive_share,
)
from flows.closed_forms.smoothed import balanced_gradient

x, x0, c, g, beta, sigma = sp.symbols("x x0 c g beta sigma", positive=True)
# z = sqrt(1 + beta^2/g^2) - 1 >= 0, the excess of the slowness over 1, and v = g / beta.
z, theta, room = sp.symbols("z theta room", nonnegative=True)

_root = sp.sqrt(g**2 + beta**2)
_deviation = beta**2 / (_root * (_root + g))
_bound = beta**2 / (2 * g**2)
# With z as above dx/dt = 1/(1 + z) and beta^2/g^2 = (1 + z)^2 - 1.
_slack = ((1 + z) ** 2 - 1) / 2 - (1 - 1 / (1 + z))

RATE_DEVIATION = ClosedForm(
    name="rate deviation",
    formula="1 - dx/dt = 1 - g/\\sqrt{g^2 + \\beta^2}",
    arguments=(g, beta),
    expression=_deviation,
    zeros={"without its cancellation": _deviation - (1 - g / _root)},
    nonnegative={"never faster than unit rate": _deviation},
)

RATE_DEVIATION_BOUND = ClosedForm(
    name="rate deviation: bound",
    formula="0 \\le 1 - dx/dt \\le \\beta^2/(2 g^2)",
    arguments=(g, beta),
    expression=_bound,
    zeros={
        "slack in terms of z = sqrt(1 + beta^2/g^2) - 1": (_bound - (1 - g / _root))
        - _slack.subs(z, sp.sqrt(1 + beta**2 / g**2) - 1),
        "slack = (w - 1)^2 (w + 2) / (2 w), w = 1 + z": _slack - z**2 * (z + 3) / (2 * (1 + z)),
    },
    nonnegative={"slack": sp.factor(_slack)},
)

# The antiderivative of sqrt(1 + c^2/x^2) - 1 that vanishes at infinity.
_primitive = sp.sqrt(x**2 + c**2) - x - c * sp.asinh(c / x)
_majorant = _primitive - _primitive.subs(x, x0)
_c = beta / (theta * sigma)

LAG_MAJORANT = ClosedForm(
    name="lag: exact majorant",
    formula="F(x) - F(x_0),\\ F(x) = \\sqrt{x^2 + c^2} - x - c\\,\\mathrm{asinh}(c/x)",
    arguments=(x, x0, c),
    expression=_majorant,
    zeros={
        "dF/dx = sqrt(1 + c^2/x^2) - 1": sp.diff(_majorant, x) - (sp.sqrt(x**2 + c**2) / x - 1),
        "start": _majorant.subs(x, x0),
        # So beta/g <= c/x, c = beta/(theta sigma), while x^2 <= (1 - theta) sigma.
        "g - theta sigma x = x ((1 - theta) sigma - x^2)": balanced_gradient(x, sigma)
        - theta * sigma * x
        - x * ((1 - theta) * sigma - x**2),
    },
)

_y = sp.Symbol("y", positive=True)
_bound_of_c = c * sp.asinh(c / x0)

LAG_BOUND = ClosedForm(
    name="lag: bound",
    formula="0 \\le t - (x - x_0) \\le c\\,\\mathrm{asinh}(c/x_0),\\ c = \\beta/(\\theta \\sigma)",
    arguments=(x0, c),
    expression=_bound_of_c,
    zeros={
        "bound - majorant = sqrt(x0^2 + c^2) - x0 - F(x)": _bound_of_c
        - _majorant
        - (sp.sqrt(x0**2 + c**2) - x0 - _primitive),
        # F grows (its derivative is positive) to 0 at infinity, so it is negative before.
        "x dF/dx = sqrt(x^2 + c^2) - x = c^2 / (sqrt(x^2 + c^2) + x)": x * sp.diff(_primitive, x)
        - c**2 / (sp.sqrt(x**2 + c**2) + x),
        "F vanishes at infinity": sp.Limit(_primitive.subs(x, c / _y), _y, 0, "+"),
    },
    nonnegative={"dF/dx and sqrt(x^2 + c^2) - x": c**2 / (sp.sqrt(x**2 + c**2) + x)},
)

_escape = beta / sigma * (sp.log(2 * beta / (sigma * x0)) - 1)

ESCAPE_LAG = ClosedForm(
    name="escape lag",
    formula="\\tau = (\\beta/\\sigma) [\\ln(2 \\beta/(\\sigma x_0)) - 1]",
    arguments=(beta, sigma, x0),
    expression=_escape,
    zeros={
        # -F(x0) with theta = 1 is the whole lag of dx/dt = g/sqrt(g^2 + beta^2), g = sigma x.
        "limit of -F(x0) - tau as x0 -> 0, c = beta/sigma": sp.Limit(
            sp.expand_log(-_primitive.subs(x, x0) - _escape.subs(beta, c * sigma)), x0, 0, "+"
        ),
    },
)

FORMS = (RATE_DEVIATION, RATE_DEVIATION_BOUND, LAG_MAJORANT, LAG_BOUND, ESCAPE_LAG)


def rate_deviation(gradient: ArrayLike, beta: ArrayLike) -> Array:
    """1 - dx/dt = beta^2 / (r (r + g)), r = sqrt(g^2 + beta^2): how far below unit rate."""
    gradient = require_open_interval("gradient", gradient, 0.0, np.inf)
    return RATE_DEVIATION(gradient, require_open_interval("beta", beta, 0.0, np.inf))


def rate_deviation_bound(gradient: ArrayLike, beta: ArrayLike) -> Array:
    """beta^2 / (2 g^2) >= 1 - dx/dt.

    Derivation: with w = sqrt(1 + beta^2/g^2) the two are (w^2 - 1)/2 and 1 - 1/w, and differ by
    (w - 1)^2 (w + 2) / (2 w) >= 0.
    """
    gradient = require_open_interval("gradient", gradient, 0.0, np.inf)
    return RATE_DEVIATION_BOUND(gradient, require_open_interval("beta", beta, 0.0, np.inf))


def lag_majorant(
    state: ArrayLike, sigma: ArrayLike, beta: ArrayLike, x0: ArrayLike, theta: ArrayLike
) -> Array:
    """F(x) - F(x0) >= t - (x - x0) while x^2 <= (1 - theta) sigma.

    Derivation: there g >= theta sigma x, so the lag is at most the integral of
    sqrt(1 + c^2/x^2) - 1 with c = beta / (theta sigma); F is its antiderivative.
    """
    state = require_open_interval("state", state, 0.0, np.inf)
    x0 = require_open_interval("x0", x0, 0.0, np.inf)
    return LAG_MAJORANT(state, x0, _slope(sigma, beta, theta))


def lag_bound(sigma: ArrayLike, beta: ArrayLike, x0: ArrayLike, theta: ArrayLike) -> Array:
    """c asinh(c / x0), c = beta / (theta sigma), at least the lag while x^2 <= (1 - theta) sigma.

    Derivation: :func:`lag_majorant` is at most -F(x0) = c asinh(c / x0) - (sqrt(x0^2 + c^2) - x0).
    """
    x0 = require_open_interval("x0", x0, 0.0, np.inf)
    return LAG_BOUND(x0, _slope(sigma, beta, theta))


def escape_lag(beta: ArrayLike, sigma: ArrayLike, x0: ArrayLike) -> Array:
    """tau = (beta/sigma) [ln(2 beta / (sigma x0)) - 1], for x0 << beta/sigma << sqrt(sigma).

    Derivation: the lag is gathered where x is of the order of beta/sigma, where g = sigma x; its
    integral from x0 to infinity is -F(x0) with c = beta/sigma, and tau its limit for small x0.
    """
    sigma = require_open_interval("sigma", sigma, 0.0, np.inf)
    beta = require_open_interval("beta", beta, 0.0, np.inf)
    return ESCAPE_LAG(beta, sigma, require_open_interval("x0", x0, 0.0, np.inf))


def _slope(sigma: ArrayLike, beta: ArrayLike, theta: ArrayLike) -> Array:
    sigma = require_open_interval("sigma", sigma, 0.0, np.inf)
    theta = require_positive_share("theta", theta)
    return require_open_interval("beta", beta, 0.0, np.inf) / (theta * sigma)
