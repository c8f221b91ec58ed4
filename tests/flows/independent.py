"""References that share no code with the package: NumPy formulas, SciPy's integrators, mpmath."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import mpmath
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.integrate import solve_ivp

from flows import MatrixFactorization

Array = NDArray[np.float64]
Spectral = Callable[[Array], Array]

REFERENCE_RTOL, REFERENCE_ATOL = 1e-12, 1e-13


def sqrt_sign(beta: float) -> Spectral:
    return lambda s: s / np.hypot(s, beta)


def tanh_sign(beta: float) -> Spectral:
    return lambda s: np.tanh(s / beta)


def identity(s: Array) -> Array:
    return s


@dataclass(frozen=True)
class Flow:
    """dB/dt = -phi(G_B) - decay B and its mirror image, phi acting on singular values."""

    target: Array
    phi: Spectral
    l2: float = 0.0
    decay: float = 0.0

    def direction(self, gradient: Array) -> Array:
        if self.phi is identity:
            return gradient
        u, s, vt = np.linalg.svd(gradient, full_matrices=False)
        return np.asarray((u * self.phi(s)) @ vt)

    def velocity(self, B: Array, A: Array) -> tuple[Array, Array]:
        residual = B @ A - self.target
        return (
            -self.direction(residual @ A.T + self.l2 * B) - self.decay * B,
            -self.direction(B.T @ residual + self.l2 * A) - self.decay * A,
        )

    def solve(self, B: Array, A: Array, times: Sequence[float] | Array, **options: Any) -> Any:
        """SciPy's solution object by DOP853 at 1e-12, on the factors themselves."""
        m, r = B.shape

        def rhs(_: float, y: Array) -> Array:
            velocity = self.velocity(y[: m * r].reshape(m, r), y[m * r :].reshape(r, -1))
            return np.concatenate([part.ravel() for part in velocity])

        return solve_ivp(
            rhs,
            (0.0, float(times[-1])),
            np.concatenate([B.ravel(), A.ravel()]),
            method="DOP853",
            t_eval=np.asarray(times),
            rtol=REFERENCE_RTOL,
            atol=REFERENCE_ATOL,
            **options,
        )

    def products(self, B: Array, A: Array, times: Sequence[float] | Array) -> Array:
        """B A at the times, (T, m, n)."""
        m, r = B.shape
        states = self.solve(B, A, times).y.T
        return np.stack([y[: m * r].reshape(m, r) @ y[m * r :].reshape(r, -1) for y in states])


def dense_target(problem: MatrixFactorization) -> Array:
    target = (problem.left * problem.singular_values) @ problem.right.mT
    return np.asarray(target.cpu().to(torch.float64).numpy())


def exact_loss(problem: MatrixFactorization, B: torch.Tensor, A: torch.Tensor) -> mpmath.mpf:
    """The objective in 40 digits, from the stored factors of the target."""
    with mpmath.workdps(40):
        b, a, u, v = (mpmath.matrix(x.cpu().tolist()) for x in (B, A, problem.left, problem.right))
        sigma = mpmath.diag(problem.singular_values.cpu().tolist())
        residual = b * a - u * sigma * v.T

        def squares(x: mpmath.matrix) -> mpmath.mpf:
            return mpmath.fsum(entry**2 for entry in x)

        return (squares(residual) + problem.l2 * (squares(b) + squares(a))) / 2


def as_arrays(start: tuple[torch.Tensor, torch.Tensor]) -> tuple[Array, Array]:
    B, A = (factor.detach().cpu().to(torch.float64).numpy() for factor in start)
    return np.asarray(B), np.asarray(A)
