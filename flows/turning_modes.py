"""Modes that have not converged: their rows of the Jacobian, each solved by itself.

Where a singular value s of a gradient G is far above beta, its velocity is 1 whatever s is, and
what changes is where the singular vectors point: the row u^T dB of a mode moves by the derivative
of the polar factor, in the basis V of the right singular vectors

    d(u_i^T T(G) v_j) = K_ij u_i^T dG v_j,    dG = dB A A^T,

    K_ij = (s_i f_i - s_j f_j) / (s_i^2 - s_j^2),    K_ii = f'(s_i),

which is 1 / s_i against converged modes: a mode near an arrival turns as fast as it arrives. For
the smoothing s / p, p = (s^2 + beta^2)^(1/2), K_ij = (1 + beta^2 / (p_i p_j)) / (p_i + p_j); for
another it is this with its own p, close enough for an iteration, and its own f'. What moves the row
by way of the other factor, u^T B dA, and by way of entry (j, i) of U^T dG V is left out: both are
small beside converged modes. A row w in the basis V then obeys

    w (z + S K_i) = rho,    S = V^T A A^T V,    K_i = diag(K_i1, ..., K_ir),

and with H = K_i^(1/2) one Cholesky factorisation solves it: (z + H S H) k = H S rho,
w = (rho - H k) / z. Most modes are so far from zero that H S H is small beside z; of their rows
k = H S rho / z is as much as is needed.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from flows.rules import RULES
from flows.spectrum import Spectrum

PARTS = ("left", "vectors", "grams", "weights")


@dataclass(frozen=True)
class TurningModes:
    """The rows of L lanes that are solved by themselves, B's at index 0, those of A^T at 1.

    Attributes:
        left: (L, 2, d, r), left singular vectors u_i; zero columns for all other modes.
        vectors: (L, 2, r, r), V. grams: (L, 2, r, r), S = V^T A A^T V and V^T B^T B V.
        weights: (L, 2, r, r), H: the square roots of K, row i those of mode i.
    """

    left: Tensor
    vectors: Tensor
    grams: Tensor
    weights: Tensor

    @classmethod
    def at(cls, pair: Tensor, spectrum: Spectrum, beta: Tensor) -> TurningModes:
        """All modes that are not as good as converged, at states ``pair`` (L, 2, d, r).

        Args:
            spectrum: of the gradients at these states. beta: the smoothing scale, () or (L,).
        """
        V, s, p = spectrum.vectors, spectrum.singular_values, spectrum.metric
        scale = beta.reshape(-1, 1, 1)
        open_ = p > RULES.open * scale
        left = (spectrum.gradient @ V) * (open_ / torch.where(open_, s, 1.0))[..., None, :]
        one, other = p[..., :, None], p[..., None, :]
        turning = (1 + scale[..., None] ** 2 / (one * other)) / (one + other)
        own = torch.eye(p.shape[-1], dtype=torch.bool, device=p.device)
        weights = torch.where(own, spectrum.slope[..., None], turning).sqrt()
        # B is moved by A's Gram matrix and A by B's.
        return cls(left, V.contiguous(), V.mT @ (pair.mT @ pair).flip(1) @ V, weights)

    def rows(self, shifts: Tensor, residual: Tensor) -> Tensor:
        """w_i of every mode, rows of (L, 2, r, r), for residuals (L, 2, d, r) and z > 0 (L,)."""
        z = shifts[:, None, None, None]
        rho, H = self.left.mT @ residual @ self.vectors, self.weights
        matrix = H[..., :, None] * self.grams[..., None, :, :] * H[..., None, :]
        diagonal = matrix.diagonal(dim1=-2, dim2=-1)
        nearly = diagonal.sum(-1, keepdim=True) <= RULES.nearly * z
        diagonal.add_(z)
        # LAPACK would refuse the whole batch for one lane that is not finite.
        factor, _ = torch.linalg.cholesky_ex(matrix)
        given = (rho @ self.grams) * H
        k = torch.where(nearly, given / z, torch.cholesky_solve(given[..., None], factor)[..., 0])
        return (rho - k * H) / z

    def that_stay(self, shifts: Tensor, residual: Tensor, metric: Tensor) -> TurningModes:
        """Only the modes whose singular values the solution leaves nearly as they are.

        A mode that arrives is to be moved by much of its metric p (L, 2, r) or more: there the
        velocity is no longer what this derivative makes of it.
        """
        moved = (self.rows(shifts, residual) * self.grams).sum(-1)
        stays = moved.abs() < RULES.trusted * metric
        left = torch.where(stays[..., None, :], self.left, 0.0)
        return TurningModes(left, self.vectors, self.grams, self.weights)

    def solve(self, shifts: Tensor, residual: Tensor) -> Tensor:
        """The share of the rows in (z - J)^-1 R, (L, 2, d, r)."""
        return self.left @ self.rows(shifts, residual) @ self.vectors.mT
