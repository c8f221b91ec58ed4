"""The structured Jacobian that makes implicit steps cheap: solved by two r x r eigenproblems.

The velocity of a spectral flow is -G P^-1 for each factor, P = (G^T G + beta^2)^(1/2) (or its like
for another smoothing) an r x r matrix, its metric. Its stiffness is P^-1 ~ 1/beta in the directions
of modes that have converged. Two things are left out of the derivative: the change of P, and the
second-order part E dA^T, E^T dB of the Hessian. What remains is the Gauss–Newton Hessian behind a
frozen metric,

    J_W (dB, dA) = -( (dB A + B dA) A^T P_B^-1, P_A^-1 B^T (dB A + B dA) ).

Let X^T P_B X = I, X^T A A^T X = diag(lambda) and Y^T P_A Y = I, Y^T B^T B Y = diag(mu), B' = B Y,
A' = X^T A, rho_B = R_B P_B X and rho_A = Y^T P_A R_A. With dB = b X^T and dA = Y a the system
(z - J_W)(dB, dA) = (R_B, R_A) reads

    b (z + lambda) + B' a A'^T = rho_B,    (z + mu) a + B'^T b A' = rho_A,

and falls apart entry by entry for Z = a A'^T, because B' and A' have orthogonal columns and rows:

    z (z + mu_i + lambda_j) Z_ij = (z + lambda_j) (rho_A A'^T)_ij - lambda_j (B'^T rho_B)_ij;

b and a follow from Z. No matrix is larger than r x r, every product is exact in B and A however
misaligned they are, and another shift z costs no new decomposition.

Freezing P overstates the stiffness of (left open, right converged) entries, where the singular
vectors of G turn instead of its singular values changing. The left singular vectors of modes that
have not converged are therefore projected out, and their rows are solved by themselves
(:mod:`flows.turning_modes`), where the solution leaves their singular values nearly as they are. A
mode that arrives stays among the pencils, coupled to the other factor: with p frozen where it is
now, it lands where it belongs.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from flows.compiled import Factorisation
from flows.spectrum import Spectrum
from flows.turning_modes import PARTS as TURNING
from flows.turning_modes import TurningModes

PARTS = (*TURNING, "basis", "dual", "rates", "states")


@dataclass(frozen=True)
class FrozenMetric:
    """The factorisation of z - J_W at states of L lanes, for any z.

    Attributes:
        turning: the modes that are solved by themselves.
        basis: (L, 2, r, r), X and Y. dual: P_B X and P_A Y.
        rates: (L, 2, r), lambda and mu.
        states: (L, 2, d, r), B' and A'^T.
    """

    turning: TurningModes
    basis: Tensor
    dual: Tensor
    rates: Tensor
    states: Tensor

    @classmethod
    def at(
        cls,
        pair: Tensor,
        spectrum: Spectrum,
        beta: Tensor,
        shifts: Tensor,
        residual: Tensor,
    ) -> FrozenMetric:
        """The factorisation at states ``pair`` (L, 2, d, r), B above A^T.

        Args:
            spectrum: of the gradients at these states. beta: the smoothing scale, () or (L,).
            shifts, residual: (L,) and (L, 2, d, r), z and R of the system that says which modes
                arrive. Where R is 0 none does.
        """
        V, p = spectrum.vectors, spectrum.metric
        turning = TurningModes.at(pair, spectrum, beta).that_stay(shifts, residual, p)
        left = turning.left
        closed = pair - left @ (left.mT @ pair)
        whitening = V * p.rsqrt()[..., None, :]
        # B is moved by A's Gram matrix and A by B's.
        matrix = whitening.mT @ (closed.mT @ closed).flip(1) @ whitening
        # LAPACK would refuse the whole batch for one lane that is not finite.
        rates, rotation = torch.linalg.eigh(matrix.nan_to_num(0.0, 0.0, 0.0))
        basis = whitening @ rotation
        return cls(
            turning,
            basis=basis,
            dual=(V * p.sqrt()[..., None, :]) @ rotation,
            rates=rates.clamp_min(0),
            states=closed @ basis.flip(1),
        )

    @classmethod
    def of_parts(cls, parts: Iterable[Tensor]) -> FrozenMetric:
        """From the tensors in the order of :data:`PARTS`."""
        tensors = tuple(parts)
        count = len(TURNING)
        return cls(TurningModes(*tensors[:count]), *tensors[count:])

    @property
    def parts(self) -> Factorisation:
        """The tensors, in the order of :data:`PARTS`."""
        own = self.turning
        turning = own.left, own.vectors, own.grams, own.weights
        return *turning, self.basis, self.dual, self.rates, self.states

    def select(self, lanes: Tensor | slice) -> FrozenMetric:
        """The factorisation of some of the lanes; a view where they are a slice."""
        return FrozenMetric.of_parts(part[lanes] for part in self.parts)

    def put(self, lanes: Tensor, other: FrozenMetric) -> None:
        """Replace the factorisation of some of the lanes."""
        for mine, theirs in zip(self.parts, other.parts, strict=True):
            mine[lanes] = theirs

    def solve(self, shifts: Tensor, residual: Tensor) -> Tensor:
        """(z - J_W)^-1 R for one shift z > 0 a lane, (L,); R (L, 2, d, r)."""
        z, left = shifts[:, None, None], self.turning.left
        rate, mu = self.rates[:, 0, None, :], self.rates[:, 1, :, None]
        B, A = self.states.unbind(1)
        rho_B, rho_A = ((residual - left @ (left.mT @ residual)) @ self.dual).unbind(1)
        from_A, from_B = rho_A.mT @ A, B.mT @ rho_B
        Z = ((z + rate) * from_A - rate * from_B) / (z * (z + mu + rate))
        b = (rho_B - B @ Z) / (z + rate)
        a = (rho_A - A @ ((from_B - mu * Z) / (z + rate)).mT) / (z + mu.mT)
        solved: Tensor = torch.stack([b, a], dim=1) @ self.basis.mT
        return solved + self.turning.solve(shifts, residual)
