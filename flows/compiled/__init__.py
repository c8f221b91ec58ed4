"""Optional compiled paths for spectral flows and implicit steps: reduced, CPU, float64, numba.

Importing this needs no numba; asking for a result does, and says so where numba is missing.
"""

from flows.compiled.calls import (
    CompiledMarcher,
    Factorisation,
    KernelUnavailable,
    available,
    compiled_correction,
    compiled_factorisation,
    compiled_solution,
    compiled_spectrum,
    compiled_velocity,
    why_unavailable,
)

__all__ = [
    "CompiledMarcher",
    "Factorisation",
    "KernelUnavailable",
    "available",
    "compiled_correction",
    "compiled_factorisation",
    "compiled_solution",
    "compiled_spectrum",
    "compiled_velocity",
    "why_unavailable",
]
