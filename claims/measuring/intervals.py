"""Statistics that claims share: means and slopes with intervals."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Array = NDArray[np.float64]


def slope_with_interval(x: Array, y: Array, confidence: float = 0.95) -> tuple[float, Array]:
    """The least-squares slope of y (..., N) on x (N,), all series pooled, and its t-interval.

    Args:
        x: (N,). y: (..., N); every series has an intercept of its own.

    Returns:
        The slope and its interval (2,).
    """
    series = np.atleast_2d(np.asarray(y, dtype=float).reshape(-1, len(x)))
    centred_x = np.tile(x - x.mean(), (len(series), 1))
    centred_y = series - series.mean(axis=1, keepdims=True)
    total = float((centred_x**2).sum())
    slope = float((centred_x * centred_y).sum() / total)
    freedom = series.size - len(series) - 1
    if freedom < 1:
        raise ValueError(f"a slope's interval needs three points or more; given {series.shape}")
    residual = float(((centred_y - slope * centred_x) ** 2).sum())
    half = float(stats.t.ppf(0.5 + confidence / 2, freedom)) * (residual / freedom / total) ** 0.5
    return slope, np.array([slope - half, slope + half])


def mean_with_interval(values: Array, confidence: float = 0.95) -> tuple[float, float, float]:
    """The mean of values (N,), and both ends of its t-interval."""
    values = np.asarray(values, dtype=float)
    half = float(stats.t.ppf(0.5 + confidence / 2, len(values) - 1) * stats.sem(values))
    mean = float(values.mean())
    return mean, mean - half, mean + half


def geometric_mean_with_interval(
    values: Array, confidence: float = 0.95
) -> tuple[float, float, float]:
    """The geometric mean of positive values (N,), and both ends of its t-interval."""
    mean, low, high = mean_with_interval(np.log(np.asarray(values, dtype=float)), confidence)
    return float(np.exp(mean)), float(np.exp(low)), float(np.exp(high))


def resampled_means(values: Array, seed: int, draws: int = 2000) -> Array:
    """Bootstrap: means over members drawn with replacement, the same ones for everything else.

    Args:
        values: (..., S), S members.
        seed: of the draws.

    Returns:
        (draws, ...).
    """
    count = values.shape[-1]
    chosen = np.random.default_rng(seed).integers(count, size=(draws, count))
    weights = np.stack([np.bincount(row, minlength=count) for row in chosen]) / count
    return np.moveaxis(np.asarray(values) @ weights.T, -1, 0)


def percentile_interval(values: Array, confidence: float = 0.95) -> Array:
    """The middle share of values (draws, ...): its ends, (2, ...)."""
    outside = (1 - confidence) / 2
    return np.quantile(values, (outside, 1 - outside), axis=0)
