"""Radau IIA collocation methods, derived from their definition for any odd number of stages.

The nodes are the zeros of P_s - P_(s-1), shifted to (0, 1]; the last is 1, so that a step ends in
its last stage and stiff components end on the slow manifold (stiff accuracy). With Z_i the
increments of the stages, the equations are A^-1 Z / h = F(y + Z). A^-1 has one real eigenvalue and
(s - 1) / 2 complex pairs; in its real eigenbasis the stages decouple into one real and (s - 1) / 2
complex systems with the matrix (z - J), z an eigenvalue over h.

Reference: Hairer, Wanner, Solving Ordinary Differential Equations II, IV.5 and IV.8.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

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
        to_blocks, from_blocks: (s, s), T^-1 and T; T^-1 A^-1 T is block diagonal.
        real: the real eigenvalue of A^-1.
        shifts: (s,) complex, the eigenvalue of each row's block; partner: (s,), the other row of a
            complex pair (itself for the real one); sign: (s,), 0, or -1 and 1 within a pair.
        start_weight, error: the embedded quadrature of order s that also uses the velocity at the
            start, minus the method: h start_weight f_0 + error Z estimates the local error.
        weights: (s + 1,), barycentric, of the polynomial through the start and the stages.
    """

    nodes: Tensor
    matrix: Tensor
    inverse: Tensor
    to_blocks: Tensor
    from_blocks: Tensor
    real: float
    shifts: Tensor
    partner: Tensor
    sign: Tensor
    start_weight: float
    error: Tensor
    weights: Tensor

    @property
    def stages(self) -> int:
        return len(self.nodes)

    def basis_at(self, theta: Tensor) -> Tensor:
        """Values (..., s) at theta (...) of the Lagrange polynomials of the stages.

        The increments at t + theta h are their sum with Z; the start's own increment is 0.
        """
        points = torch.cat([self.nodes.new_zeros(1), self.nodes])
        apart = theta[..., None] - points
        columns = []
        for node in range(1, len(points)):
            others = torch.cat([apart[..., :node], apart[..., node + 1 :]], dim=-1)
            columns.append(others.prod(-1) * self.weights[node])
        return torch.stack(columns, dim=-1)

    @classmethod
    def on(cls, stages: int, like: Tensor) -> Radau:
        """The method in the dtype and on the device of ``like``."""
        parts = _derive(stages)

        def cast(x: NDArray[np.floating]) -> Tensor:
            return torch.as_tensor(x, dtype=like.dtype, device=like.device)

        return cls(
            nodes=cast(parts.nodes),
            matrix=cast(parts.matrix),
            inverse=cast(parts.inverse),
            to_blocks=cast(np.linalg.inv(parts.basis)),
            from_blocks=cast(parts.basis),
            real=parts.real,
            shifts=torch.complex(cast(parts.shifts.real), cast(parts.shifts.imag)),
            partner=torch.as_tensor(parts.partner, device=like.device),
            sign=cast(parts.sign),
            start_weight=parts.start_weight,
            error=cast(parts.error),
            weights=cast(parts.weights),
        )


@dataclass(frozen=True)
class _Parts:
    nodes: Array
    matrix: Array
    inverse: Array
    basis: Array
    real: float
    shifts: NDArray[np.complex128]
    partner: NDArray[np.int64]
    sign: Array
    start_weight: float
    error: Array
    weights: Array


@cache
def _derive(stages: int) -> _Parts:
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
    eigenvalues, vectors = np.linalg.eig(inverse)
    single = int(np.argmin(np.abs(eigenvalues.imag)))
    real = float(eigenvalues[single].real)
    columns, shifts, partner, sign = [vectors[:, single].real], [complex(real)], [0], [0.0]
    for index in np.flatnonzero(eigenvalues.imag > 1e-9):
        # A^-1 (u + iv) = (a + ib)(u + iv), so w_1 u + w_2 v is moved by w_1 + i w_2 -> (a - ib)(.).
        columns += [vectors[:, index].real, vectors[:, index].imag]
        shifts += [eigenvalues[index].conjugate()] * 2
        partner += [len(partner) + 1, len(partner)]
        sign += [-1.0, 1.0]
    start_weight = 1 / real
    moments = 1 / powers - start_weight * (powers == 1)
    quadrature = np.linalg.solve(vandermonde.T, moments)
    points = np.append(0.0, nodes)
    gaps = points[:, None] - points + np.eye(stages + 1)
    return _Parts(
        nodes=nodes,
        matrix=matrix,
        inverse=inverse,
        basis=np.stack(columns, axis=1),
        real=real,
        shifts=np.array(shifts),
        partner=np.array(partner),
        sign=np.array(sign),
        start_weight=start_weight,
        error=(quadrature - matrix[-1]) @ inverse,
        weights=1 / gaps.prod(1),
    )
