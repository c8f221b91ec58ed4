"""Continuous time: the matrix-factorization problem, its flows and their integrators."""

from flows.choice import Kernel
from flows.errors import IntegrationError
from flows.fields import Field, gradient_flow, orthogonalized_flow, spectral_flow
from flows.integrate import integrate
from flows.problem import MatrixFactorization
from flows.trajectory import Trajectory

__all__ = [
    "Field",
    "IntegrationError",
    "Kernel",
    "MatrixFactorization",
    "Trajectory",
    "gradient_flow",
    "integrate",
    "orthogonalized_flow",
    "spectral_flow",
]
