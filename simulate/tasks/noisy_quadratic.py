"""The noisy quadratic: a distance from a matrix, curved or not, and its gradient with noise."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from geometry.errors import require_finite, require_matrices, require_nonnegative
from simulate.noise import Noise

# Noise is drawn for so many numbers' worth of steps at a time: a step alone is mostly overhead.
_BLOCK = 1 << 17

Curvature = tuple[Tensor, Tensor]


class NoisyQuadratic:
    """L(W) = 1/2 tr (W - Y)^T A (W - Y) B for E members, with gradient A (W - Y) B + noise.

    Without a curvature A and B are the identity: half the squared distance. The noise is a
    function of the member's seed and of the step alone: not of the other members, of the device,
    or of what was asked for before.

    Args:
        target: Y, (m, n) for all members or (E, m, n), finite. Its dtype and device are those of
            everything.
        noise: a law with its scale, or a number >= 0, the standard deviation of Gaussian entries.
        seeds: one for each of the E members, 0 <= seed < 2^64. Members with the same seed have
            the same noise.
        curvature: (A, B), symmetric positive semidefinite, (m, m) and (n, n), for all members or
            with E before.

    Raises:
        ValueError: another shape than these, entries that are not finite, noise negative, a
            curvature that is not symmetric or has a negative eigenvalue.
    """

    def __init__(
        self,
        target: Tensor,
        *,
        noise: float | Noise,
        seeds: Sequence[int],
        curvature: Curvature | None = None,
    ) -> None:
        require_matrices("target", target)
        require_finite("target", target)
        if not isinstance(noise, Noise):
            require_nonnegative("noise", noise)
            noise = Noise(scale=noise)
        self.seeds = tuple(seeds)
        if target.shape[:-2] not in ((), (len(self.seeds),)):
            raise ValueError(
                f"target: (m, n), or (E, m, n) for the {len(self.seeds)} seeds, is expected; "
                f"given {tuple(target.shape)}"
            )
        if curvature is not None:
            for name, size, X in zip("AB", target.shape[-2:], curvature, strict=True):
                _require_curvature(name, X, (len(self.seeds), size, size))
        self.target, self.noise, self.curvature = target, noise, curvature
        # The upper half of the unsigned seeds has the bits of negative ones.
        signed = [(seed + (1 << 63)) % (1 << 64) - (1 << 63) for seed in self.seeds]
        self._keys = torch.tensor(signed, dtype=torch.int64, device=target.device)
        self._steps_drawn = range(0)
        self._drawn = target.new_zeros(0)

    def loss(self, W: Tensor) -> Tensor:
        """1/2 tr (W - Y)^T A (W - Y) B without noise, (..., E) for W (..., E, m, n)."""
        difference = W - self.target
        return (difference * self._curved(difference)).sum((-2, -1)) / 2

    def exact_gradient(self, W: Tensor) -> Tensor:
        """A (W - Y) B, (..., E, m, n)."""
        return self._curved(W - self.target)

    def gradient(self, W: Tensor, step: int) -> Tensor:
        """The exact one with the noise of the step, (..., E, m, n); what is before E shares it."""
        return self.with_noise(self.exact_gradient(W), step)

    def with_noise(self, exact: Tensor, step: int, members: slice = slice(None)) -> Tensor:
        """Exact gradients (..., e, m, n) of some of the members, with their noise of the step."""
        if self.noise.silent:
            return exact
        amplitude, noise = self.noise.amplitude(exact), self._noise_of(step)[members]
        if isinstance(amplitude, Tensor):
            return torch.addcmul(exact, amplitude, noise)
        return torch.add(exact, noise, alpha=amplitude)

    def give(self, B: Tensor, A: Tensor, step: int) -> None:
        """Set the gradients of factors B (E, m, r) and A (E, r, n) of W = B A."""
        b, a = B.detach(), A.detach()
        G = self.gradient(b @ a, step)
        B.grad, A.grad = G @ a.mT, b.mT @ G

    @property
    def frobenius_smoothness(self) -> Tensor:
        """The least L with ||grad L(W) - grad L(V)||_F <= L ||W - V||_F: of A times of B, (...)."""
        left, right = self._spectra()
        return left[..., -1] * right[..., -1]

    @property
    def spectral_smoothness(self) -> Tensor:
        """The least L with L(W + D) <= L(W) + <grad L(W), D> + L/2 ||D||_2^2, (...).

        max tr D^T A D B over ||D||_2 <= 1 is the sum of the products of the eigenvalues, both from
        the largest on: von Neumann's trace inequality, attained by the D that takes the
        eigenvectors of B to those of A. It is also the constant of the nuclear norm of the
        gradient.
        """
        left, right = self._spectra()
        rank = min(self.target.shape[-2:])
        return (left[..., -rank:] * right[..., -rank:]).sum(-1)

    def _spectra(self) -> tuple[Tensor, Tensor]:
        if self.curvature is None:
            m, n = self.target.shape[-2:]
            return self.target.new_ones(m), self.target.new_ones(n)
        left, right = self.curvature
        return torch.linalg.eigvalsh(left), torch.linalg.eigvalsh(right)

    def _curved(self, difference: Tensor) -> Tensor:
        if self.curvature is None:
            return difference
        return self.curvature[0] @ difference @ self.curvature[1]

    def _noise_of(self, step: int) -> Tensor:
        if step not in self._steps_drawn:
            m, n = self.target.shape[-2:]
            count = max(1, _BLOCK // (len(self.seeds) * m * n))
            first = step - step % count
            self._steps_drawn = range(first, first + count)
            steps = torch.arange(first, first + count, device=self.target.device)
            self._drawn = self.noise.draw(self._keys, m, n, steps).to(self.target)
        return self._drawn[step - self._steps_drawn.start]


def _require_curvature(name: str, X: Tensor, shape: tuple[int, int, int]) -> None:
    require_matrices(name, X)
    require_finite(name, X)
    if tuple(X.shape) not in (shape, shape[1:]):
        raise ValueError(f"{name}: {shape[1:]} or {shape} is expected; given {tuple(X.shape)}")
    eigenvalues = torch.linalg.eigvalsh(X)
    rounding = 8 * shape[-1] * torch.finfo(X.dtype).eps * float(eigenvalues.abs().max())
    if float((X - X.mT).abs().max()) > rounding or float(eigenvalues.min()) < -rounding:
        raise ValueError(
            f"{name} must be symmetric and positive semidefinite, got eigenvalues down to "
            f"{float(eigenvalues.min()):g} and {float((X - X.mT).abs().max()):g} of asymmetry"
        )
