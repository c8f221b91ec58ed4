"""An optional compiled path for the velocity of a spectral flow: reduced, CPU, float64, numba.

Importing this needs no numba; asking for a velocity does, and says so where numba is missing.
"""

from flows.compiled.calls import (
    KernelUnavailable,
    available,
    compiled_spectrum,
    compiled_velocity,
    why_unavailable,
)

__all__ = [
    "KernelUnavailable",
    "available",
    "compiled_spectrum",
    "compiled_velocity",
    "why_unavailable",
]
