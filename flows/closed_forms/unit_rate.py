"""beta -> 0: factors that move at unit rate, until the mode reaches its target.

On the aligned manifold B = U diag(b) Q, A = Q^T diag(a) V^T a mode follows db/dt = phi((sigma -
ab) a), da/dt = phi((sigma - ab) b). For beta -> 0, phi is the sign, and below the target the factor
sigma - ab is positive: db/dt = sign(a), da/dt = sign(b). The forms hold until s = ab = sigma; there
the flow stops.

Source: derived from the definitions of Kang et al. 2026, arXiv 2602.06385.
"""

from __future__ import annotations

import numpy as np
import sympy as sp
from numpy.typing import ArrayLike

from flows.closed_forms.form import (
    Array,
    ClosedForm,
    require_at_least,
    require_nonnegative_array,
    shown,
)

t, level, a0, b0, x0 = sp.symbols("t level a0 b0 x0", positive=True)
# Opposite signs: a0 = -depth and b0 = depth + surplus.
depth, surplus = sp.symbols("depth surplus", positive=True)
moment = sp.Symbol("t", real=True)

_a, _b = a0 + t, b0 + t

SAME_SIGN = ClosedForm(
    name="unit rate, same sign",
    formula="s = (a_0 + t)(b_0 + t)",
    arguments=(t, a0, b0),
    expression=_a * _b,
    zeros={
        "ds/dt = |a| + |b|, with a - b conserved": sp.diff(_a * _b, t)
        - sp.sqrt(sp.factor(4 * _a * _b + (a0 - b0) ** 2)),
        "da/dt = sign b": sp.diff(_a, t) - sp.sign(_b),
        "db/dt = sign a": sp.diff(_b, t) - sp.sign(_a),
        "start": (_a * _b).subs(t, 0) - a0 * b0,
    },
)

_arrival = sp.sqrt(level + (a0 - b0) ** 2 / 4) - (a0 + b0) / 2

SAME_SIGN_ARRIVAL = ClosedForm(
    name="unit rate, same sign: arrival",
    formula="t^* = -(a_0 + b_0)/2 + \\sqrt{\\sigma + (a_0 - b_0)^2/4}",
    arguments=(level, a0, b0),
    expression=_arrival,
    zeros={"s(t*) = level": (a0 + _arrival) * (b0 + _arrival) - level},
)

BALANCED = ClosedForm(
    name="unit rate, balanced",
    formula="s = (\\sqrt{s_0} + t)^2",
    arguments=(t, x0),
    expression=(x0 + t) ** 2,
    zeros={
        "ds/dt = 2 sqrt(s)": sp.diff((x0 + t) ** 2, t) - 2 * sp.sqrt((x0 + t) ** 2),
        "start": ((x0 + t) ** 2).subs(t, 0) - x0**2,
        "same sign with a0 = b0": SAME_SIGN.expression.subs({a0: x0, b0: x0}) - (x0 + t) ** 2,
    },
)

BALANCED_ARRIVAL = ClosedForm(
    name="unit rate, balanced: arrival",
    formula="t^* = \\sqrt{\\sigma} - \\sqrt{s_0}",
    arguments=(level, x0),
    expression=sp.sqrt(level) - x0,
    zeros={"s(t*) = level": BALANCED.expression.subs(t, sp.sqrt(level) - x0) - level},
)

_a_up = moment - depth
_b_down = surplus + sp.Abs(moment - depth)

OPPOSITE_SIGNS = ClosedForm(
    name="unit rate, opposite signs",
    formula="a = a_0 + t,\\ b = b_0 + a_0 + |a_0 + t|\\ (a_0 < 0 < a_0 + b_0)",
    arguments=(moment, depth, surplus),
    expression=_a_up * _b_down,
    zeros={
        "da/dt = sign b": sp.diff(_a_up, moment) - sp.sign(_b_down),
        "db/dt = sign a": sp.diff(_b_down, moment) - sp.sign(_a_up),
        "start": (_a_up * _b_down).subs(moment, 0) + depth * (depth + surplus),
        "a + b is conserved until the smaller crosses zero": (_a_up + _b_down).subs(
            sp.Abs(moment - depth), depth - moment
        )
        - surplus,
        "a crosses zero at t = |a0|": _a_up.subs(moment, depth),
        "on the stable manifold (surplus 0) the saddle is reached at t = |a0|": _b_down.subs(
            {surplus: 0, moment: depth}
        ),
    },
)

_opposite_arrival = depth - surplus / 2 + sp.sqrt(level + surplus**2 / 4)

OPPOSITE_SIGNS_ARRIVAL = ClosedForm(
    name="unit rate, opposite signs: arrival",
    formula="t^* = |a_0| - (a_0 + b_0)/2 + \\sqrt{\\sigma + (a_0 + b_0)^2/4}",
    arguments=(level, depth, surplus),
    expression=_opposite_arrival,
    zeros={
        # After the crossing both grow, from (0, surplus): the case of the same sign.
        "s(t*) = level": (_opposite_arrival - depth) * (surplus + _opposite_arrival - depth)
        - level,
    },
)

FORMS = (
    SAME_SIGN,
    SAME_SIGN_ARRIVAL,
    BALANCED,
    BALANCED_ARRIVAL,
    OPPOSITE_SIGNS,
    OPPOSITE_SIGNS_ARRIVAL,
)


def same_sign(times: ArrayLike, a0: ArrayLike, b0: ArrayLike) -> Array:
    """s(t) = (a0 + t)(b0 + t) for a0, b0 >= 0, up to the arrival; all arguments broadcast.

    Derivation: both velocities are sign(...) = 1 while ab < sigma.
    """
    a0, b0 = require_nonnegative_array("a0", a0), require_nonnegative_array("b0", b0)
    return SAME_SIGN(require_nonnegative_array("times", times), a0, b0)


def same_sign_arrival(level: ArrayLike, a0: ArrayLike, b0: ArrayLike) -> Array:
    """t* = -(a0 + b0)/2 + sqrt(level + (a0 - b0)^2 / 4), the root of (a0 + t)(b0 + t) = level.

    The level is a0 b0 at least, for the state only grows.
    """
    a0, b0 = require_nonnegative_array("a0", a0), require_nonnegative_array("b0", b0)
    return SAME_SIGN_ARRIVAL(require_at_least("level", level, a0 * b0), a0, b0)


def unit_rate_balanced(times: ArrayLike, x0: ArrayLike) -> Array:
    """s(t) = (x0 + t)^2, balanced: :func:`same_sign` with a0 = b0 = x0, up to the arrival."""
    x0 = require_nonnegative_array("x0", x0)
    return BALANCED(require_nonnegative_array("times", times), x0)


def unit_rate_arrival(level: ArrayLike, x0: ArrayLike) -> Array:
    """sqrt(level) - x0: the time at which (x0 + t)^2 reaches ``level``, x0^2 at least."""
    x0 = require_nonnegative_array("x0", x0)
    return BALANCED_ARRIVAL(require_at_least("level", level, x0**2), x0)


def opposite_signs(times: ArrayLike, a0: ArrayLike, b0: ArrayLike) -> Array:
    """s(t) for a0 < 0 < b0 with a0 + b0 > 0, up to the arrival.

    db/dt = sign(a) = -1 and da/dt = sign(b) = 1, so a + b is conserved until a, the smaller one,
    crosses zero at t = |a0|. From then on both grow: b = a0 + b0 + |a0 + t| says both. The form
    with the signs exchanged is the same with the names exchanged. With a0 + b0 = 0 both vanish at
    t = |a0|: the stable manifold of the saddle at zero, which this function refuses.
    """
    smaller = _negative(a0, b0)
    times = require_nonnegative_array("times", times)
    return OPPOSITE_SIGNS(times, -smaller, np.asarray(b0, float) + smaller)


def opposite_signs_arrival(level: ArrayLike, a0: ArrayLike, b0: ArrayLike) -> Array:
    """|a0| + the arrival from (0, a0 + b0), for a0 < 0 < a0 + b0."""
    smaller = _negative(a0, b0)
    level = require_nonnegative_array("level", level)
    return OPPOSITE_SIGNS_ARRIVAL(level, -smaller, np.asarray(b0, float) + smaller)


def _negative(a0: ArrayLike, b0: ArrayLike) -> Array:
    """a0 as an array; ValueError unless -b0 < a0 < 0 everywhere."""
    smaller, larger = np.asarray(a0, float), np.asarray(b0, float)
    if not bool(np.all((smaller < 0) & (smaller + larger > 0) & np.isfinite(larger))):
        raise ValueError(
            f"a0, b0: numbers with -b0 < a0 < 0 are expected; given {shown(smaller)} and "
            f"{shown(larger)}"
        )
    return smaller
