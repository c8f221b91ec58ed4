"""What a step costs in memory: everything that it makes is seen."""

from __future__ import annotations

import torch

from simulate.optimizers import LoRAMuon, LoRARite
from simulate.step_costs import Trace, numbers_kept, with_gradient


def test_entries_and_bytes_of_the_largest_are_seen_apart() -> None:
    x = torch.ones(10, 10)
    with Trace() as seen:
        x + x
        x[0].double()
        x[:8, :8].double()
    # 100 entries of 4 bytes, 64 of 8.
    assert (seen.largest, seen.largest_bytes) == (100, 512)
    assert seen.operations["add"] == 1


def test_what_is_kept_is_counted_without_steps() -> None:
    pair = with_gradient(9, 2), with_gradient(2, 7)
    optimizer = LoRAMuon([pair])
    assert numbers_kept(optimizer) == 0
    optimizer.step()
    assert numbers_kept(optimizer) == (9 + 7) * 2
    rite = LoRARite([pair])
    rite.step()
    assert numbers_kept(rite) > 2 * (9 + 7) * 2


def test_parameters_are_drawn_by_their_seed() -> None:
    one, other = with_gradient(3, 4, dtype=torch.float64), with_gradient(3, 4)
    assert torch.equal(one.float(), other)
    assert one.grad is not None
    assert not torch.equal(one.grad, one)
    assert not torch.equal(with_gradient(3, 4, seed=1), other)
