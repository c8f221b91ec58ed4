"""Exponents of a power law from runs of several lengths, with a bootstrap over seeds."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
RESAMPLES = 2000


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
        lengths: (N,), at least two, positive. values: (N, S) of S seeds, positive.
        seed: of the resamples.
    """
    x = np.log(lengths) - np.log(lengths).mean()
    weights = x / np.square(x).sum()
    count = values.shape[1]
    drawn = np.random.default_rng(seed).integers(count, size=(RESAMPLES, count))
    found = weights @ np.log(values[:, drawn].mean(-1))
    low, high = np.percentile(found, (2.5, 97.5))
    return Exponent(float(weights @ np.log(values.mean(1))), float(low), float(high))
