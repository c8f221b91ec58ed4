"""The smoothed balanced form in numbers: Gauss's rule in the logistic coordinate, and back."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from flows.closed_forms.form import (
    Array,
    ClosedForm,
    require_at_least,
    require_nonnegative_array,
    require_open_interval,
)
from flows.closed_forms.smoothed import LAG_DENSITY, STATE, TIME_DENSITY

NODES, WEIGHTS = np.polynomial.legendre.leggauss(16)
PANEL = 2.0
# Here 1 - x^2/sigma = exp(-40): x is sqrt(sigma) in float64.
CONVERGED = 40.0


def smoothed_arrival(level: ArrayLike, sigma: ArrayLike, beta: ArrayLike, x0: ArrayLike) -> Array:
    """The time from x0 to sqrt(level), x0^2 < level < sigma, to 1e-12 relative; all broadcast.

    t = integral of sqrt(1 + beta^2/g^2) dx, taken in the coordinate in which it is smooth.
    """
    return _between(TIME_DENSITY, level, sigma, beta, x0)


def smoothed_lag(level: ArrayLike, sigma: ArrayLike, beta: ArrayLike, x0: ArrayLike) -> Array:
    """The arrival minus that at unit rate, t - (sqrt(level) - x0), without its cancellation."""
    return _between(LAG_DENSITY, level, sigma, beta, x0)


def smoothed_state(times: ArrayLike, sigma: ArrayLike, beta: ArrayLike, x0: ArrayLike) -> Array:
    """x(t) from x(0) = x0 < sqrt(sigma), to 1e-12 relative; all arguments broadcast.

    The inverse of t(w): the panel is looked up in the cumulated times, the root within it found by
    Newton's method, kept in a bracket. Where 1 - x^2/sigma is below exp(-40), x = sqrt(sigma) is
    returned, which float64 cannot tell from it.
    """
    arrays = _checked(sigma, beta, x0)
    shape = np.broadcast_shapes(np.shape(times), *(array.shape for array in arrays))
    t = np.broadcast_to(require_nonnegative_array("times", times), shape).ravel()
    sigma, beta, x0 = (np.broadcast_to(array, shape).ravel() for array in arrays)

    start = _logit(x0**2, sigma)
    count = max(1, int(np.ceil((CONVERGED - start).max(initial=0.0) / PANEL)))
    width = np.maximum(CONVERGED - start, 0.0) / count
    edges = start[:, None] + width[:, None] * np.arange(count)
    spent = _integral(TIME_DENSITY, edges, edges + width[:, None], sigma[:, None], beta[:, None])
    reached = np.concatenate([np.zeros((len(t), 1)), np.cumsum(spent, axis=1)], axis=1)
    panel = np.minimum((reached[:, 1:] <= t[:, None]).sum(axis=1), count - 1)
    lane = np.arange(len(t))
    origin = edges[lane, panel]
    w = _root(t - reached[lane, panel], spent[lane, panel], origin, width, sigma, beta)
    state = np.where(t < reached[:, -1], STATE(w, sigma), np.sqrt(sigma))
    # At t = 0 the coordinate and back would cost the last digit.
    return np.where(t == 0, x0, state).reshape(shape)


def _root(
    left: Array, spent: Array, origin: Array, width: Array, sigma: Array, beta: Array
) -> Array:
    """w with integral from origin to w equal to ``left``, bracketed by the panel."""
    low, high = origin.copy(), origin + width
    w = origin + width * np.clip(left / np.where(spent > 0, spent, 1.0), 0.0, 1.0)
    for _ in range(60):
        excess = _integral(TIME_DENSITY, origin, w, sigma, beta) - left
        low, high = np.where(excess <= 0, w, low), np.where(excess > 0, w, high)
        newton = w - excess / TIME_DENSITY(w, sigma, beta)
        following = np.where((newton >= low) & (newton <= high), newton, (low + high) / 2)
        done = bool(np.all(np.abs(following - w) <= 1e-15 * np.maximum(1.0, np.abs(w))))
        w = following
        if done:
            break
    return w


def _between(
    density: ClosedForm, level: ArrayLike, sigma: ArrayLike, beta: ArrayLike, x0: ArrayLike
) -> Array:
    sigma, beta, x0 = _checked(sigma, beta, x0)
    level = require_open_interval("level", level, 0.0, sigma)
    require_at_least("level", level, x0**2)
    level, sigma, beta, x0 = np.broadcast_arrays(level, sigma, beta, x0)
    start, end = _logit(x0**2, sigma), _logit(level, sigma)
    count = max(1, int(np.ceil((end - start).max(initial=0.0) / PANEL)))
    width = (end - start)[..., None] / count
    edges = start[..., None] + width * np.arange(count)
    parts = _integral(density, edges, edges + width, sigma[..., None], beta[..., None])
    return np.asarray(parts.sum(axis=-1))


def _integral(density: ClosedForm, low: Array, high: Array, sigma: Array, beta: Array) -> Array:
    """The integral of a density over one panel, elementwise."""
    half = (high - low)[..., None] / 2
    points = low[..., None] + half * (1 + NODES)
    values = density(points, sigma[..., None], beta[..., None])
    return np.asarray((half * values) @ WEIGHTS)


def _logit(level: Array, sigma: Array) -> Array:
    return np.asarray(np.log(level) - np.log(sigma - level))


def _checked(sigma: ArrayLike, beta: ArrayLike, x0: ArrayLike) -> tuple[Array, Array, Array]:
    sigma = require_open_interval("sigma", sigma, 0.0, np.inf)
    beta = require_open_interval("beta", beta, 0.0, np.inf)
    return sigma, beta, require_open_interval("x0", x0, 0.0, np.sqrt(sigma))
