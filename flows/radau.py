"""Radau IIA collocation methods, derived from their definition for any odd number of stages.

The nodes are the zeros of P_s - P_(s-1), shifted to (0, 1]; the last is 1, so that a step ends in
its last stage and stiff components end on the slow manifold (stiff accuracy). With Z_i the
increments of the stages, the equations are A^-1 Z / h = F(y + Z). With A = L U, U of unit diagonal,
L stands in for A where the stages are to be solved one after the other: I - L A^-1 is nilpotent.

Reference: Hairer, Wanner, Solving Ordinary Differential Equations II, IV.5 and IV.8.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.polynomial import Legendre, Polynomial
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Radau:
    """The method with s stages, order 2s - 1, on a device and in a dtype.

    Attributes:
        nodes: (s,), c. matrix: (s, s), A. inverse: A^-1.
        lower, lower_inverse: (s, s), L and its inverse, of positive diagonal.
        real: the real eigenvalue of A^-1.
        start_weight, error: the embedded quadrature of order s that also uses the velocity at the
            start, minus the method: h start_weight f_0 + error Z estimates the local error.
        powers, coefficients: (s,) and (s, s), of the Lagrange polynomials of the stages, which are
            0 at the start: polynomial j is the sum over k of coefficients_kj theta^powers_k.
        bend: (s,), half their second derivatives at the end.
    """

    nodes: Tensor
    matrix: Tensor
    inverse: Tensor
    lower: Tensor
    lower_inverse: Tensor
    real: float
    start_weight: float
    error: Tensor
    powers: Tensor
    coefficients: Tensor
    bend: Tensor

    @property
    def stages(self) -> int:
        return len(self.nodes)

    def basis_at(self, theta: Tensor) -> Tensor:
        """Values (..., s) at theta (...) of the Lagrange polynomials of the stages.

        The increments at t + theta h are their sum with Z; the start's own increment is 0.
        """
        return theta[..., None] ** self.powers @ self.coefficients

    @classmethod
    def on(cls, stages: int, like: Tensor) -> Radau:
        """The method in the dtype and on the device of ``like``."""
        method = _derive(stages)
        parts = {field.name: getattr(method, field.name) for field in fields(cls)}
        cast: dict[str, Any] = {
            name: x.to(like) for name, x in parts.items() if isinstance(x, Tensor)
        }
        return replace(method, **cast)


@cache
def _derive(stages: int) -> Radau:
    """The method in float64 on the CPU."""
    if stages < 1 or stages % 2 == 0:
        raise ValueError(f"stages: an odd number is expected; given {stages}")
    difference = Legendre.basis(stages) - Legendre.basis(stages - 1)
    roots = np.sort(difference.convert(kind=Polynomial).roots().real)
    nodes = (roots + 1) / 2
    nodes[-1] = 1.0
    # Collocation: A integrates the polynomials of degree below s exactly at every node.
    vandermonde = np.vander(nodes, stages, increasing=True)
    powers = np.arange(1, stages + 1)
    matrix = (nodes[:, None] ** powers / powers) @ np.linalg.inv(vandermonde)
    inverse = np.linalg.inv(matrix)
    eigenvalues = np.linalg.eigvals(inverse)
    real = float(eigenvalues[np.argmin(np.abs(eigenvalues.imag))].real)
    lower = _lower_of_crout(matrix)
    start_weight = 1 / real
    moments = 1 / powers - start_weight * (powers == 1)
    quadrature = np.linalg.solve(vandermonde.T, moments)
    coefficients = np.linalg.inv(nodes[:, None] ** powers)
    return Radau(
        nodes=torch.from_numpy(nodes),
        matrix=torch.from_numpy(matrix),
        inverse=torch.from_numpy(inverse),
        lower=torch.from_numpy(lower),
        lower_inverse=torch.from_numpy(np.linalg.inv(lower)),
        real=real,
        start_weight=start_weight,
        error=torch.from_numpy((quadrature - matrix[-1]) @ inverse),
        powers=torch.from_numpy(powers.astype(np.float64)),
        coefficients=torch.from_numpy(coefficients),
        bend=torch.from_numpy(powers * (powers - 1) / 2 @ coefficients),
    )


def _lower_of_crout(matrix: Array) -> Array:
    """L of matrix = L U with a unit diagonal in U: elimination by columns, without pivots."""
    rest, lower = matrix.copy(), np.zeros_like(matrix)
    for k in range(len(matrix)):
        lower[k:, k] = rest[k:, k]
        rest -= np.outer(rest[:, k], rest[k] / rest[k, k])
    return lower
