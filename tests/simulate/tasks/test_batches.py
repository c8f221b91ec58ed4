"""Batches depend on seed and step alone; evaluation windows cover a text once."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from simulate.tasks import Batches, evaluation_windows

TEXT = torch.arange(1000)


def batches(
    seeds: list[int], tokens: torch.Tensor = TEXT, device: torch.device | None = None
) -> Batches:
    return Batches(tokens, length=16, batch_size=8, seeds=seeds, device=device)


def test_targets_are_the_inputs_moved_by_one(device: torch.device) -> None:
    drawn = batches([3, 1, 4], device=device)
    inputs, targets = drawn.at(7)
    assert inputs.shape == targets.shape == (3, 8, 16)
    assert inputs.dtype is targets.dtype is torch.int64
    assert inputs.device.type == targets.device.type == device.type
    # The text counts up, so a token is its own place.
    assert torch.equal(targets, inputs + 1)
    assert torch.equal(inputs[..., 0], drawn.positions(7))
    assert torch.equal(inputs.diff(dim=-1), torch.ones_like(inputs[..., 1:]))


def test_every_device_draws_the_same(device: torch.device) -> None:
    here, there = batches([0, 5]), batches([0, 5], device=device)
    for step in (0, 63, 64, 1000):
        assert torch.equal(here.at(step)[0], there.at(step)[0].cpu())


@settings(deadline=None, max_examples=30)
@given(
    others=st.lists(st.integers(0, 2**64 - 1), max_size=4),
    seed=st.integers(0, 2**64 - 1),
    step=st.integers(0, 10**6),
)
def test_a_member_does_not_depend_on_the_others(others: list[int], seed: int, step: int) -> None:
    alone, among = batches([seed]), batches([*others, seed, *others])
    assert torch.equal(alone.at(step)[0][0], among.at(step)[0][len(others)])


@settings(deadline=None, max_examples=20)
@given(steps=st.lists(st.integers(0, 300), min_size=1, max_size=10))
def test_a_step_does_not_depend_on_those_before(steps: list[int]) -> None:
    used = batches([7])
    for step in steps:
        assert torch.equal(used.at(step)[0], batches([7]).at(step)[0])


def test_steps_and_members_differ() -> None:
    drawn = batches([0, 1])
    seen = {tuple(row) for step in range(200) for row in drawn.positions(step).tolist()}
    assert len(seen) == 400


def test_every_place_is_as_likely() -> None:
    drawn = Batches(torch.arange(20), length=5, batch_size=50, seeds=[0, 1])
    places = torch.cat([drawn.positions(step).flatten() for step in range(300)])
    counts = torch.bincount(places, minlength=15)
    assert len(counts) == 15
    expected = len(places) / 15
    z = (counts - expected) / (expected * 14 / 15) ** 0.5
    assert float(z.abs().max()) < 4


def test_draws_of_members_and_steps_are_uncorrelated() -> None:
    drawn = Batches(torch.arange(10_000), length=5, batch_size=4000, seeds=[0, 1])
    rows = torch.cat([drawn.positions(step) for step in (0, 1, 64)]).double()
    correlations = torch.corrcoef(rows) - torch.eye(6)
    assert float(correlations.abs().max()) < 4.5 / 4000**0.5


def test_the_draws_are_philox_by_seed_and_block() -> None:
    """A run of today is resumed tomorrow: the draws themselves are part of the promise."""
    bits = np.random.Philox(key=9, counter=2 << 64).random_raw((64, 8))
    expected = [int(value) % 984 for value in bits[5]]
    assert batches([9]).positions(2 * 64 + 5)[0].tolist() == expected


def test_the_shortest_text_has_one_place() -> None:
    inputs, targets = batches([0], torch.arange(17)).at(0)
    assert torch.equal(inputs, torch.arange(16).expand(1, 8, 16))
    assert torch.equal(targets, torch.arange(1, 17).expand(1, 8, 16))


def test_evaluation_windows_cover_a_text_once(device: torch.device) -> None:
    inputs, targets = evaluation_windows(TEXT, length=16, device=device)
    assert inputs.shape == targets.shape == (62, 16)
    assert inputs.device.type == device.type
    assert torch.equal(inputs.flatten().cpu(), torch.arange(62 * 16))
    assert torch.equal(targets.flatten().cpu(), torch.arange(62 * 16) + 1)


@pytest.mark.parametrize(("most", "windows"), [(16, 1), (31, 1), (32, 2), (10**9, 62)])
def test_evaluation_windows_stop_at_the_number_of_tokens(most: int, windows: int) -> None:
    limited = evaluation_windows(TEXT, length=16, most_tokens=most)
    every = evaluation_windows(TEXT, length=16)
    assert len(limited[0]) == windows
    assert all(torch.equal(a, b[:windows]) for a, b in zip(limited, every, strict=True))


@pytest.mark.parametrize(("characters", "windows"), [(17, 1), (32, 1), (33, 2)])
def test_a_last_window_needs_its_last_target(characters: int, windows: int) -> None:
    assert len(evaluation_windows(torch.arange(characters), length=16)[0]) == windows


def test_what_is_no_text_is_refused() -> None:
    for tokens, message in (
        (TEXT.int(), "int64 are expected"),
        (TEXT[None], r"shape \(n,\)"),
        (TEXT[:16], "more than length = 16 are expected, got 16"),
    ):
        with pytest.raises(ValueError, match=message):
            batches([0], tokens)
        with pytest.raises(ValueError, match=message):
            evaluation_windows(tokens, length=16)


def test_sizes_seeds_and_steps_out_of_range_are_refused() -> None:
    for seeds in ([], [-1], [2**64], [0.5]):
        with pytest.raises(ValueError, match="seeds: at least one in"):
            batches(seeds)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="step must be >= 0, got -1"):
        batches([0]).at(-1)
    with pytest.raises(ValueError, match="length must be a positive int"):
        evaluation_windows(TEXT, length=0)
    with pytest.raises(ValueError, match="batch_size must be a positive int"):
        Batches(TEXT, length=4, batch_size=0, seeds=[0])
    with pytest.raises(ValueError, match="most_tokens: at least 16 are expected, got 15"):
        evaluation_windows(TEXT, length=16, most_tokens=15)
