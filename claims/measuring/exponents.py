"""Exponents of a power law from runs of several lengths, with a bootstrap over seeds."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from claims.measuring.intervals import Array, percentile_interval, resampled_means


class Exponent(NamedTuple):
    """The exponent p of mean ~ K^p, and the ends of its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def exponent(lengths: Array, values: Array, seed: int) -> Exponent:
    """By least squares through the logarithms of the means over seeds.

    Seeds are resampled whole, all lengths of a seed together.

    Args:
        lengths: (N,), at least two, positive. values: (N, S) of S seeds, of positive means.
        seed: of the resamples.
    """
    low, high = percentile_interval(log_slopes(lengths, resampled_means(values, seed)))
    return Exponent(float(log_slopes(lengths, values.mean(-1))), float(low), float(high))


def log_slopes(lengths: Array, values: Array) -> Array:
    """Of least squares through log values (..., N) on log lengths (N,), (...)."""
    x = np.log(lengths) - np.log(lengths).mean()
    return np.asarray((np.log(values) * x).sum(-1) / (x * x).sum())
