"""Gradient flow in closed form: the balanced start and LoRA's.

On the aligned manifold gradient flow is db/dt = (sigma - ab) a, da/dt = (sigma - ab) b. It
conserves a^2 - b^2, and a^2 + b^2 = sqrt(4 s^2 + (a^2 - b^2)^2) for s = ab, so ds/dt = (sigma - s)
(a^2 + b^2) is an equation in s alone.

Source: derived; the balanced case is the logistic growth of Saxe, McClelland, Ganguli 2014, arXiv
1312.6120.
"""

from __future__ import annotations

import numpy as np
import sympy as sp
from numpy.typing import ArrayLike
from sympy.codegen.cfunctions import expm1

from flows.closed_forms.form import (
    Array,
    ClosedForm,
    require_at_least,
    require_nonnegative_array,
    require_open_interval,
)

t, sigma, gamma, s0 = sp.symbols("t sigma gamma s0", positive=True)
level = sp.Symbol("level", positive=True)


def balanced_velocity(s: sp.Expr, target: sp.Expr) -> sp.Expr:
    """ds/dt = 2 s (sigma - s), where a = b."""
    return 2 * s * (target - s)


_logistic = sigma / (1 + (sigma / s0 - 1) * sp.exp(-2 * sigma * t))

BALANCED = ClosedForm(
    name="gradient flow, balanced",
    formula="s = \\sigma / (1 + (\\sigma/s_0 - 1) e^{-2 \\sigma t})",
    arguments=(t, sigma, s0),
    expression=_logistic,
    zeros={
        "ds/dt = 2 s (sigma - s)": sp.diff(_logistic, t) - balanced_velocity(_logistic, sigma),
        "start": _logistic.subs(t, 0) - s0,
    },
)

_logistic_arrival = sp.log(level * (sigma - s0) / (s0 * (sigma - level))) / (2 * sigma)

BALANCED_ARRIVAL = ClosedForm(
    name="gradient flow, balanced: arrival",
    formula="t = \\ln(s (\\sigma - s_0) / (s_0 (\\sigma - s))) / (2 \\sigma)",
    arguments=(level, sigma, s0),
    expression=_logistic_arrival,
    zeros={
        "s(t) = level": _logistic.subs(t, _logistic_arrival) - level,
        "t(s0) = 0": _logistic_arrival.subs(level, s0),
    },
)


_k = sp.sqrt(4 * sigma**2 + gamma**4)
_plus, _minus = (-(gamma**2) + _k) / (2 * sigma), (-(gamma**2) - _k) / (2 * sigma)
_q = _plus / _minus * sp.exp(-_k * t)
_ratio = (_plus - _minus * _q) / (1 - _q)

# The ratio u = b/a follows the Riccati equation du/dt = (sigma - s)(1 - u^2), where
# s = gamma^2 u / (1 - u^2); the equation is du/dt = sigma (1 - u^2) - gamma^2 u.
LORA_RATIO = ClosedForm(
    name="gradient flow, LoRA start: the ratio of the factors",
    formula="u = (u_+ - u_- q)/(1 - q),\\ q = (u_+/u_-) e^{-kt},\\ k = \\sqrt{4 \\sigma^2 + "
    "\\gamma^4},\\ u_\\pm = (-\\gamma^2 \\pm k)/(2 \\sigma)",
    arguments=(t, sigma, gamma),
    expression=_ratio,
    zeros={
        "du/dt = sigma (1 - u^2) - gamma^2 u": sp.diff(_ratio, t)
        - sigma * (1 - _ratio**2)
        + gamma**2 * _ratio,
        "start": _ratio.subs(t, 0),
    },
)

_u = sp.Symbol("u")
_product, _squares = gamma**2 * _u / (1 - _u**2), gamma**2 * (1 + _u**2) / (1 - _u**2)

# gamma^2 u / (1 - u^2) loses the digits of 1 - u^2, of order gamma^2. Multiplied out, with
# e = exp(-kt), all its terms are positive.
_decay = sp.exp(-_k * t)
_grown = -expm1(-_k * t)
_lora = (
    sigma
    * gamma**2
    * _grown
    * (_k * (1 + _decay) + gamma**2 * _grown)
    / (8 * sigma**2 * _decay + gamma**4 * (1 + _decay**2) + _k * gamma**2 * _grown * (1 + _decay))
)


def _reduce(residual: sp.Expr) -> sp.Expr:
    """``residual`` as a rational function of exp(-kt) and the two roots, modulo their squares."""
    decay, k, root = sp.symbols("decay k root", positive=True)
    flat = sp.expand_func(residual).subs(_decay, decay).subs(_k, k).subs(_root, root)
    numerator = sp.expand(sp.numer(sp.together(flat)))
    for symbol, square in ((k, _k**2), (root, _root**2)):
        numerator = sp.expand(sp.rem(numerator, symbol**2 - square, symbol))
    return numerator


LORA = ClosedForm(
    name="gradient flow, LoRA start",
    formula="s = \\gamma^2 u / (1 - u^2)",
    arguments=(t, sigma, gamma),
    expression=_lora,
    zeros={
        "s = gamma^2 u / (1 - u^2)": _lora - _product.subs(_u, _ratio),
        "ds/dt = (sigma - s)(a^2 + b^2)": sp.diff(_lora, t)
        - (sigma - _lora) * _squares.subs(_u, _ratio),
        "(a^2 + b^2)^2 = 4 s^2 + gamma^4": _squares**2 - 4 * _product**2 - gamma**4,
        "start": _lora.subs(t, 0),
    },
    reduce=_reduce,
)

_root = sp.sqrt(4 * level**2 + gamma**4)
_cross = sigma * _root + level * _k
_rest = gamma**2 * (sigma - level)
_lora_arrival = sp.log((_rest + _cross) / (_rest * (1 + gamma**2 * (sigma + level) / _cross))) / _k

LORA_ARRIVAL = ClosedForm(
    name="gradient flow, LoRA start: arrival",
    formula="t = \\ln((\\rho + c)/(\\rho (1 + \\gamma^2 (\\sigma + s)/c)))/k,\\ "
    "\\rho = \\gamma^2 (\\sigma - s),\\ c = \\sigma \\sqrt{4 s^2 + \\gamma^4} + s k",
    arguments=(level, sigma, gamma),
    expression=_lora_arrival,
    zeros={
        "dt/ds (sigma - s) sqrt(4 s^2 + gamma^4) = 1": sp.diff(_lora_arrival, level)
        * (sigma - level)
        * _root
        - 1,
        "start": sp.simplify(_lora_arrival.subs(level, 0)),
    },
    reduce=_reduce,
)

FORMS = (BALANCED, BALANCED_ARRIVAL, LORA_RATIO, LORA, LORA_ARRIVAL)


def gradient_flow_balanced(times: ArrayLike, sigma: ArrayLike, s0: ArrayLike) -> Array:
    """s(t) = sigma / (1 + (sigma/s0 - 1) exp(-2 sigma t)), from a = b = sqrt(s0).

    Derivation: logit(s / sigma) grows at the rate 2 sigma.
    """
    sigma = require_open_interval("sigma", sigma, 0.0, np.inf)
    s0 = require_open_interval("s0", s0, 0.0, np.inf)
    return BALANCED(require_nonnegative_array("times", times), sigma, s0)


def gradient_flow_balanced_arrival(level: ArrayLike, sigma: ArrayLike, s0: ArrayLike) -> Array:
    """The time at which :func:`gradient_flow_balanced` is at ``level``, s0 <= level < sigma."""
    sigma = require_open_interval("sigma", sigma, 0.0, np.inf)
    s0 = require_open_interval("s0", s0, 0.0, sigma)
    require_at_least("level", level, s0)
    return BALANCED_ARRIVAL(require_open_interval("level", level, 0.0, sigma), sigma, s0)


def gradient_flow_lora(times: ArrayLike, sigma: ArrayLike, gamma: ArrayLike) -> Array:
    """s(t) from b = 0 and a = gamma, LoRA's start on the aligned manifold.

    s = gamma^2 u / (1 - u^2), where u = b/a solves the Riccati equation du/dt = sigma (1 - u^2) -
    gamma^2 u from 0, for a^2 - b^2 = gamma^2 is conserved. Computed without its cancellation.
    """
    sigma = require_open_interval("sigma", sigma, 0.0, np.inf)
    gamma = require_open_interval("gamma", gamma, 0.0, np.inf)
    return LORA(require_nonnegative_array("times", times), sigma, gamma)


def gradient_flow_lora_arrival(level: ArrayLike, sigma: ArrayLike, gamma: ArrayLike) -> Array:
    """The time at which :func:`gradient_flow_lora` is at ``level``, 0 < level < sigma.

    Derivation: u = 2 s / (gamma^2 + sqrt(4 s^2 + gamma^4)), and kt is the logarithm of
    u_+ (u - u_-) / (-u_- (u_+ - u)); u_+ - u is written without its cancellation.
    """
    sigma = require_open_interval("sigma", sigma, 0.0, np.inf)
    gamma = require_open_interval("gamma", gamma, 0.0, np.inf)
    return LORA_ARRIVAL(require_open_interval("level", level, 0.0, sigma), sigma, gamma)
