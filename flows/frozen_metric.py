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
misaligned they are, and another shift z, a complex one too, costs no new decomposition.

Freezing P overstates the stiffness of (left slow, right fast) entries, where the singular vectors
of G turn instead of its singular values changing. The slow left singular vectors are therefore
projected out: along them the flow is not stiff and the Jacobian is taken as 0. A mode is slow where
p exceeds both 3 beta and what the flow can take off its singular value in one step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from flows.radau import Radau
from flows.spectrum import Spectrum

FAST = 3.0


@dataclass(frozen=True)
class FrozenMetric:
    """The factorisation of z - J_W at states of L lanes, for any z.

    Attributes:
        slow: (L, 2, d, r), slow left singular vectors of both gradients; zero columns elsewhere.
        basis: (L, 2, r, r), X and Y. dual: P_B X and P_A Y.
        rates: (L, 2, r), lambda and mu.
        states: (L, 2, d, r), B' and A'^T.
    """

    slow: Tensor
    basis: Tensor
    dual: Tensor
    rates: Tensor
    states: Tensor

    @classmethod
    def at(cls, pair: Tensor, spectrum: Spectrum, beta: Tensor, reach: Tensor) -> FrozenMetric:
        """The factorisation at states ``pair`` (L, 2, d, r), B above A^T.

        Args:
            spectrum: of the gradients at these states.
            beta: the smoothing scale, () or (L,). reach: (L,), the flow time a step may cover.
        """
        V, s, p = spectrum.vectors, spectrum.singular_values, spectrum.metric
        grams = pair.mT @ pair
        speed = (((grams + grams.flip(1)) @ V) * V).sum(-2)
        slow = (p > FAST * beta.reshape(-1, 1, 1)) & (p > speed * reach[:, None, None])
        left = (spectrum.gradient @ V) * (slow / torch.where(slow, s, 1.0))[..., None, :]
        fast = pair - left @ (left.mT @ pair)
        whitening = V * p.rsqrt()[..., None, :]
        # B is moved by A's Gram matrix and A by B's.
        matrix = whitening.mT @ (fast.mT @ fast).flip(1) @ whitening
        # LAPACK would refuse the whole batch for one lane that is not finite.
        rates, rotation = torch.linalg.eigh(matrix.nan_to_num(0.0, 0.0, 0.0))
        basis = whitening @ rotation
        return cls(
            slow=left,
            basis=basis,
            dual=(V * p.sqrt()[..., None, :]) @ rotation,
            rates=rates.clamp_min(0),
            states=fast @ basis.flip(1),
        )

    def select(self, lanes: Tensor) -> FrozenMetric:
        """The factorisation of some of the lanes."""
        return FrozenMetric(*(getattr(self, field.name)[lanes] for field in fields(self)))

    def put(self, lanes: Tensor, other: FrozenMetric) -> None:
        """Replace the factorisation of some of the lanes."""
        for field in fields(self):
            getattr(self, field.name)[lanes] = getattr(other, field.name)

    def solve(self, shifts: Tensor, residual: Tensor) -> Tensor:
        """(z - J_W)^-1 R for one real shift a lane, (L,); R (L, 2, d, r)."""
        shift = shifts.to(residual.dtype)[None, :, None, None]
        return self._solve(shift, residual[None], lambda x, factor: x * _widened(factor, x))[0]

    def solve_blocks(self, method: Radau, step: Tensor, residual: Tensor) -> Tensor:
        """The decoupled systems of a collocation step, (s, L, 2, d, r), z = shifts / step.

        Row k of a complex pair is its real or imaginary part; ``step`` is (L,).
        """
        sign = method.sign[:, None, None, None]

        def times(x: Tensor, factor: Tensor) -> Tensor:
            re, im = (_widened(part, x) for part in (factor.real, factor.imag * sign))
            return torch.addcmul(x * re, x[method.partner], im)

        shift = (method.shifts[:, None] / step)[:, :, None, None]
        return self._solve(shift, residual, times)

    def _solve(
        self, z: Tensor, residual: Tensor, times: Callable[[Tensor, Tensor], Tensor]
    ) -> Tensor:
        rate, mu = self.rates[:, 0, None, :], self.rates[:, 1, :, None]
        B, A = self.states.unbind(1)
        along = self.slow @ (self.slow.mT @ residual)
        rho_B, rho_A = ((residual - along) @ self.dual).unbind(2)
        from_A, from_B = rho_A.mT @ A, B.mT @ rho_B
        inverse = (z * (z + mu + rate)).reciprocal()
        Z = times(from_A, (z + rate) * inverse) - times(from_B, rate * inverse)
        by_B, by_A = (z + rate).reciprocal(), (z + mu.mT).reciprocal()
        b = times(rho_B - B @ Z, by_B)
        a = times(rho_A - A @ times(from_B - mu * Z, by_B).mT, by_A)
        solved: Tensor = torch.stack([b, a], dim=2) @ self.basis.mT
        return solved + times(along, z.reciprocal())


def _widened(factor: Tensor, like: Tensor) -> Tensor:
    """A factor (s, L, ., .) with the axes that ``like`` (s, L, ..., ., .) has in between."""
    extra = (1,) * (like.ndim - factor.ndim)
    return factor.reshape(*factor.shape[:2], *extra, *factor.shape[2:])
