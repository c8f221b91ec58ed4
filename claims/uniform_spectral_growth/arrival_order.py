"""In which order modes arrive."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from claims.measuring.intervals import Array


def increases_with(keys: Array, values: Array) -> NDArray[np.bool_]:
    """Whether values (..., k) increase strictly with keys (k,); inf is never before anything."""
    ordered = values[..., np.argsort(keys)]
    return np.asarray((np.diff(ordered, axis=-1) > 0).all(-1) & np.isfinite(ordered).all(-1))
