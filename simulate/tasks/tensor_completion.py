"""Completion: some entries of a planted tensor of low multilinear rank are seen, others wanted."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from geometry.errors import require_nonnegative
from simulate.tasks.batches import sample_batches
from simulate.tasks.orthogonal_start import SAMPLES, Streams
from simulate.tasks.planted_tensors import planted_tensors


class TensorCompletion:
    """1/2 of the mean square of W - T - noise over the entries that are seen.

    W is a tensor like any other: nothing tells it of the rank, and the gradient of an entry that is
    not seen is 0. What there is at unseen entries is the optimiser's doing alone. Which are seen
    and their noise are functions of a member's seed, a batch also of the step.

    Args:
        shape, ranks, seeds: as in :func:`planted_tensors`; S seeds.
        share: of the entries that are seen, in (0, 1); each has one seen and one unseen at least.
        noise: standard deviation in a seen entry, >= 0; the tensor's root mean square is 1.
        batch_size: seen entries in a gradient, drawn with replacement; None for all of them.
        dtype, device: of all tensors. What is drawn is drawn in float64 on the CPU.

    Attributes:
        target: T, (S, n_1, .., n_d). seen: alike, bool.

    Raises:
        ValueError: sizes, ranks, share or noise out of these ranges.
    """

    def __init__(
        self,
        shape: Sequence[int],
        ranks: Sequence[int],
        seeds: Sequence[int],
        *,
        share: float,
        noise: float = 0.0,
        batch_size: int | None = None,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str = "cpu",
    ) -> None:
        require_nonnegative("noise", noise)
        self.shape, self.seeds = tuple(shape), tuple(seeds)
        target = planted_tensors(shape, ranks, seeds)
        entries = math.prod(shape)
        count = round(share * entries)
        if not 0 < count < entries:
            raise ValueError(f"share: some of {entries} entries, not all, expected, got {share}")
        streams = Streams(seeds, SAMPLES)
        places = streams.gaussian(entries).argsort(1)[:, :count]
        mask = torch.zeros(len(seeds), entries, dtype=torch.bool)
        seen = mask.scatter_(1, places, value=True).unflatten(1, self.shape)
        data = target + noise * streams.gaussian(*shape)
        self.target, self._data = (x.to(dtype=dtype, device=device) for x in (target, data))
        self.seen, self._places = seen.to(device), places.to(device)
        self._batches = (
            None if batch_size is None else sample_batches(count, batch_size, seeds, device)
        )

    def loss(self, W: Tensor) -> Tensor:
        """1/2 of the mean square over what is seen, (..., S) for W (..., S, n_1, .., n_d)."""
        return self._mean_square(W - self._data, self.seen) / 2

    def gradient(self, W: Tensor, step: int) -> Tensor:
        """Of the loss, or of the batch of the step, (..., S, n_1, .., n_d)."""
        if not self._batches:
            return self.seen * (W - self._data) / self._places.shape[1]
        places = self._places.gather(1, self._batches.positions(step))
        drawn = torch.zeros_like(self.target).flatten(1)
        drawn.scatter_add_(1, places, torch.full_like(drawn, 1 / places.shape[1]))
        return drawn.reshape(self.target.shape) * (W - self._data)

    def held_out_error(self, W: Tensor) -> Tensor:
        """Mean square of W - T over unseen entries by that of T: 1 at W = 0; (..., S)."""
        unseen = ~self.seen
        return self._mean_square(W - self.target, unseen) / self._mean_square(self.target, unseen)

    def _mean_square(self, D: Tensor, chosen: Tensor) -> Tensor:
        squares = (chosen * D).flatten(-len(self.shape)).square().sum(-1)
        return squares / chosen.flatten(1).sum(1)
