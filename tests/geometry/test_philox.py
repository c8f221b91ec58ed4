"""Philox: its authors' test vectors, uniformity, and independence of what is drawn together."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from geometry.philox import philox, uniforms

# Random123, kat_vectors, philox4x32 10: counter, key, result.
KNOWN = (
    ("00000000 00000000 00000000 00000000", "00000000 00000000",
     "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff",
     "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0",
     "d16cfe09 94fdcceb 5001e420 24126ea1"),
)  # fmt: skip


def words(text: str) -> tuple[Tensor, ...]:
    return tuple(torch.tensor(int(word, 16)) for word in text.split())


@pytest.mark.parametrize(("counter", "key", "result"), KNOWN)
def test_gives_what_its_authors_print(counter: str, key: str, result: str) -> None:
    assert philox(words(counter), words(key)) == words(result)


def test_the_numbers_are_uniform_and_never_an_end() -> None:
    drawn = uniforms(torch.tensor([0, 1, -1, 2**62]), 20_001, step=3, stream=5)
    assert drawn.shape == (4, 20_001)
    assert drawn.dtype == torch.float64
    assert drawn.min() > 0
    assert drawn.max() < 1
    for row in drawn.numpy():
        assert stats.kstest(row, "uniform").pvalue > 1e-3
    flat = drawn.flatten().numpy()
    for lag in (1, 2, 3, 4, 20_001):
        assert abs(np.corrcoef(flat[:-lag], flat[lag:])[0, 1]) < 4 / len(flat) ** 0.5


def test_a_number_hangs_on_seed_step_stream_and_place_alone(device: torch.device) -> None:
    seeds = torch.tensor([3, 4, 5], device=device)
    steps = torch.arange(7, device=device)
    together = uniforms(seeds[:, None], 11, step=steps, stream=2)
    assert together.shape == (3, 7, 11)
    assert together.device.type == device.type
    for place, seed in enumerate((3, 4, 5)):
        alone = uniforms(torch.tensor(seed), 5, step=6, stream=2)
        assert torch.equal(together[place, 6, :5].cpu(), alone)
    assert len(together.unique()) == together.numel()


def test_seeds_steps_and_streams_give_other_numbers() -> None:
    seed = torch.tensor(1)
    drawn = [
        uniforms(seed, 8),
        uniforms(seed, 8, step=1),
        uniforms(seed, 8, stream=1),
        uniforms(seed + 2**32, 8),
        uniforms(seed, 8, step=2**32),
        uniforms(-seed, 8),
    ]
    assert len(torch.cat(drawn).unique()) == 48


def test_bad_input_is_told() -> None:
    with pytest.raises(ValueError, match=r"int64 tensor, got torch\.float32"):
        uniforms(torch.ones(2), 3)
    with pytest.raises(ValueError, match="got int"):
        uniforms(7, 3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="count must be a positive int"):
        uniforms(torch.tensor(1), 0)
