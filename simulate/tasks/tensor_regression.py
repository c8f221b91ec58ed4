"""Least squares for a tensor: linear measurements of a planted one of low multilinear rank."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from geometry.errors import require_between, require_nonnegative, require_positive_int
from geometry.unfolding import mode_products
from simulate.tasks.batches import sample_batches
from simulate.tasks.orthogonal_start import SAMPLES, Streams, orthonormal
from simulate.tasks.planted_tensors import planted_tensors


class TensorRegression:
    """y_i = <X_i, T> + noise for N samples, and 1/(2 N) sum_i (<X_i, W> - y_i)^2 to be minimised.

    X is Gaussian with a covariance C that is a Kronecker product of one matrix a mode, with
    eigenvalues equally spaced in logarithm and random eigenvectors, and T is scaled to
    <T, C T> = 1. W is a tensor like any other: nothing tells it of the rank. Samples and batches
    are functions of a member's seed and, batches, of the step.

    Args:
        shape, ranks, seeds: as in :func:`planted_tensors`; S seeds.
        samples: N.
        noise: standard deviation of the measurements' noise, >= 0.
        condition: of C, >= 1.
        batch_size: samples in a gradient, drawn with replacement; None for all of them.
        dtype, device: of all tensors. What is drawn is drawn in float64 on the CPU.

    Attributes:
        target: T, (S, n_1, .., n_d).

    Raises:
        ValueError: sizes, ranks, noise or condition out of these ranges.
    """

    def __init__(
        self,
        shape: Sequence[int],
        ranks: Sequence[int],
        seeds: Sequence[int],
        *,
        samples: int,
        noise: float = 0.0,
        condition: float = 1.0,
        batch_size: int | None = None,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str = "cpu",
    ) -> None:
        require_positive_int("samples", samples)
        require_nonnegative("noise", noise)
        require_between("condition", condition, 1.0, float("inf"))
        self.shape, self.seeds = tuple(shape), tuple(seeds)
        target, streams = planted_tensors(shape, ranks, seeds), Streams(seeds, SAMPLES)
        # Of the covariance: one a mode, (S, n, n).
        self._roots = [
            orthonormal(streams.gaussian(n, n))
            * torch.logspace(0, 1, n, base=condition ** (-0.5 / len(shape)), dtype=torch.float64)
            for n in shape
        ]
        self.target = target / self._energy(target).sqrt().reshape(-1, *[1] * len(shape))
        self._X = mode_products(streams.gaussian(samples, *shape), self._roots).flatten(2)
        clean = (self._X @ self.target.flatten(1)[..., None])[..., 0]
        y = clean + noise * streams.gaussian(samples)
        self.target, self._X, self._y, *self._roots = (
            x.to(dtype=dtype, device=device) for x in (self.target, self._X, y, *self._roots)
        )
        self._batches = (
            None if batch_size is None else sample_batches(samples, batch_size, seeds, device)
        )

    def loss(self, W: Tensor) -> Tensor:
        """1/(2 N) sum_i (<X_i, W> - y_i)^2, (..., S) for W (..., S, n_1, .., n_d)."""
        return _misfit(W.flatten(-len(self.shape)), self._X, self._y).square().mean(-1) / 2

    def gradient(self, W: Tensor, step: int) -> Tensor:
        """Of the loss, or of the batch of the step; what is before S shares the batch."""
        w, X, y = W.flatten(-len(self.shape)), self._X, self._y
        if self._batches:
            places = self._batches.positions(step)
            X, y = X.take_along_dim(places[..., None], 1), y.take_along_dim(places, 1)
        residual = _misfit(w, X, y)
        G = torch.einsum("...sn,snp->...sp", residual, X) / X.shape[1]
        return G.unflatten(-1, self.shape)

    def held_out_error(self, W: Tensor) -> Tensor:
        """<W - T, C (W - T)>, the expected square error of noiseless predictions: 1 at W = 0.

        (..., S) for W (..., S, n_1, .., n_d).
        """
        return self._energy(W - self.target)

    def _energy(self, W: Tensor) -> Tensor:
        """<W, C W>, (..., S)."""
        order = len(self.shape)
        moved = W.movedim(-order - 1, 0)
        rooted = mode_products(moved, [root.mT for root in self._roots])
        return rooted.flatten(-order).square().sum(-1).movedim(0, -1)


def _misfit(w: Tensor, X: Tensor, y: Tensor) -> Tensor:
    """<X_i, w> - y_i, (..., S, N)."""
    return torch.einsum("...sp,snp->...sn", w, X) - y
