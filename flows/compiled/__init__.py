"""Optional compiled paths for spectral flows and implicit steps: reduced, CPU, float64, numba.

Importing this needs no numba; asking for a result does, and says so where numba is missing.
"""

from flows.compiled.arguments import KernelUnavailable, available, why_unavailable
from flows.compiled.calls import (
    Factorisation,
    compiled_factorisation,
    compiled_solution,
    compiled_spectrum,
    compiled_velocity,
)
from flows.compiled.marching import CompiledIteration, CompiledMarcher, Ended
from flows.compiled.sharing import lanes_by_threads

__all__ = [
    "CompiledIteration",
    "CompiledMarcher",
    "Ended",
    "Factorisation",
    "KernelUnavailable",
    "available",
    "compiled_factorisation",
    "compiled_solution",
    "compiled_spectrum",
    "compiled_velocity",
    "lanes_by_threads",
    "why_unavailable",
]
