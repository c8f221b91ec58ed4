"""Minibatches for an ensemble of models, and the windows that all of them are evaluated on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from geometry.errors import require_positive_int

Windows = tuple[Tensor, Tensor]
STEPS_AT_ONCE = 64


class Batches:
    """Windows at random places of a text, drawn for every member of an ensemble by its own seed.

    Where the windows of a step lie is a function of the member's seed and the step alone (and of
    the sizes): not of the other members, the device, or the steps that were asked for before. A
    run that is resumed draws what it would have drawn.

    Args:
        tokens: (n,) int64, n > length.
        length: characters in a window.
        batch_size: windows of a member in a step.
        seeds: one for each of the E members, 0 <= seed < 2^64.
        device: where the windows are wanted; by default where the tokens are.

    Raises:
        ValueError: for tokens of other shapes or dtypes, too few of them, no or negative seeds.
    """

    def __init__(
        self,
        tokens: Tensor,
        *,
        length: int,
        batch_size: int,
        seeds: Sequence[int],
        device: torch.device | str | None = None,
    ) -> None:
        require_positive_int("batch_size", batch_size)
        self._windows = _require_text(tokens, length).to(device).unfold(0, length + 1, 1)
        self.batch_size = batch_size
        self.seeds = tuple(seeds)
        if not self.seeds or not all(
            isinstance(seed, int) and 0 <= seed < 2**64 for seed in self.seeds
        ):
            raise ValueError(f"seeds: at least one in 0..2^64 - 1 is expected, got {self.seeds}")
        self._block = -1
        self._positions = torch.empty(0, dtype=torch.int64)

    def at(self, step: int) -> Windows:
        """Inputs and targets of a step, each (E, batch_size, length) int64 on the device.

        Targets are the inputs moved by one character.
        """
        windows = self._windows[self.positions(step)]
        return windows[..., :-1], windows[..., 1:]

    def positions(self, step: int) -> Tensor:
        """(E, batch_size) int64 on the device: where in the tokens the windows of a step begin."""
        if step < 0:
            raise ValueError(f"step must be >= 0, got {step}")
        block, within = divmod(step, STEPS_AT_ONCE)
        if block != self._block:
            drawn = np.stack([self._raw(seed, block) for seed in self.seeds], axis=1)
            # The remainder favours the first places by less than n / 2^64.
            places = (drawn % np.uint64(len(self._windows))).astype(np.int64)
            self._positions = torch.from_numpy(places).to(self._windows.device)
            self._block = block
        return self._positions[within]

    def _raw(self, seed: int, block: int) -> np.ndarray:
        """(STEPS_AT_ONCE, batch_size) random bits of a block of steps.

        Philox is a function of key and counter; a block has 2^64 values of the counter to itself.
        """
        bits = np.random.Philox(key=seed, counter=[0, block, 0, 0])
        return bits.random_raw((STEPS_AT_ONCE, self.batch_size))


def sample_batches(
    count: int,
    batch_size: int,
    seeds: Sequence[int],
    device: torch.device | str | None = None,
) -> Batches:
    """Batches of single samples: ``positions`` are their places among ``count``."""
    require_positive_int("count", count)
    places = torch.arange(count + 1)
    return Batches(places, length=1, batch_size=batch_size, seeds=seeds, device=device)


def evaluation_windows(
    tokens: Tensor,
    *,
    length: int,
    most_tokens: int | None = None,
    device: torch.device | str | None = None,
) -> Windows:
    """The windows one after another from the beginning of a text, the same for everybody.

    Args:
        tokens: (n,) int64, n > length.
        length: characters in a window.
        most_tokens: how many targets there are at most; by default what the text has.
        device: where the windows are wanted; by default where the tokens are.

    Returns:
        Inputs and targets, each (windows, length) int64: no character is a target twice, and what
        is left at the end and fills no window is left out.

    Raises:
        ValueError: for tokens of other shapes or dtypes, or where not one window fits.
    """
    text = _require_text(tokens, length)
    count = (len(text) - 1) // length
    if most_tokens is not None:
        count = min(count, most_tokens // length)
        if count < 1:
            raise ValueError(f"most_tokens: at least {length} are expected, got {most_tokens}")
    windows = text.to(device).unfold(0, length + 1, length)[:count]
    return windows[:, :-1], windows[:, 1:]


def _require_text(tokens: Tensor, length: int) -> Tensor:
    require_positive_int("length", length)
    if tokens.ndim != 1 or tokens.dtype != torch.int64:
        raise ValueError(
            f"tokens: shape (n,) and int64 are expected, got {tuple(tokens.shape)}, {tokens.dtype}"
        )
    if len(tokens) <= length:
        raise ValueError(f"tokens: more than length = {length} are expected, got {len(tokens)}")
    return tokens
