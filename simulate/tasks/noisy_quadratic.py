"""The noisy quadratic: half the squared distance from a matrix, with Gaussian gradient noise."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from geometry.errors import require_finite, require_matrices, require_nonnegative


class NoisyQuadratic:
    """L(W) = 1/2 ||W - Y||_F^2 for E members, and its gradient W - Y + noise N.

    The entries of N are standard normal, a function of the member's seed and of the step alone: not
    of the other members, of the device, or of what was asked for before.

    Args:
        target: Y, (m, n) for all members or (E, m, n), finite. Its dtype and device are those of
            everything.
        noise: >= 0, the standard deviation of an entry.
        seeds: one for each of the E members, 0 <= seed < 2^64.

    Raises:
        ValueError: another shape than these, entries that are not finite, noise negative.
    """

    def __init__(self, target: Tensor, *, noise: float, seeds: Sequence[int]) -> None:
        require_matrices("target", target)
        require_finite("target", target)
        require_nonnegative("noise", noise)
        self.seeds = tuple(seeds)
        if target.shape[:-2] not in ((), (len(self.seeds),)):
            raise ValueError(
                f"target: (m, n), or (E, m, n) for the {len(self.seeds)} seeds, is expected; "
                f"given {tuple(target.shape)}"
            )
        self.target, self.noise = target, noise

    def loss(self, W: Tensor) -> Tensor:
        """1/2 ||W - Y||_F^2 without noise, (E,) for W (E, m, n)."""
        return (W - self.target).square().sum((-2, -1)) / 2

    def gradient(self, W: Tensor, step: int) -> Tensor:
        """W - Y + noise N of the step, (E, m, n)."""
        m, n = self.target.shape[-2:]
        drawn = np.stack([_normal(seed, step, m, n) for seed in self.seeds])
        return W - self.target + self.noise * torch.from_numpy(drawn).to(self.target)

    def give(self, B: Tensor, A: Tensor, step: int) -> None:
        """Set the gradients of factors B (E, m, r) and A (E, r, n) of W = B A."""
        b, a = B.detach(), A.detach()
        G = self.gradient(b @ a, step)
        B.grad, A.grad = G @ a.mT, b.mT @ G


def _normal(seed: int, step: int, m: int, n: int) -> np.ndarray:
    # Philox is a function of key and counter; a step has 2^192 values of the counter to itself.
    generator = np.random.Generator(np.random.Philox(key=seed, counter=[0, 0, 0, step]))
    return generator.standard_normal((m, n))
