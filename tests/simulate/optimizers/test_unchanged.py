"""A group is checked again when something in it has changed, and only then."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from simulate.optimizers import LowRankMuon, Muon, keep_members
from simulate.optimizers.unchanged import Contents

Group = dict[str, Any]


def optimizer() -> LowRankMuon:
    W = nn.Parameter(torch.zeros(2, 6, 5, dtype=torch.float64))
    W.grad = torch.randn(2, 6, 5, generator=torch.Generator().manual_seed(0)).double()
    rates = torch.tensor([0.1, 0.2], dtype=torch.float64)
    return LowRankMuon([W], rates, 2, momentum=torch.full_like(rates, 0.5))


def counted(monkeypatch: pytest.MonkeyPatch, of: LowRankMuon) -> list[str]:
    called: list[str] = []
    for name in ("require_group", "require_options"):
        check = getattr(of, name)

        def wrapped(given: Any, name: str = name, check: Callable[[Any], None] = check) -> None:
            called.append(name)
            check(given)

        monkeypatch.setattr(of, name, wrapped)
    return called


def test_what_does_not_change_is_checked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made = optimizer()
    called = counted(monkeypatch, made)
    for _ in range(3):
        made.step()
    assert called == []
    made.param_groups[0]["lr"] = made.param_groups[0]["lr"].clone()
    made.step()
    made.step()
    assert called == ["require_group", "require_options"]
    keep_members(made, torch.tensor([1]))
    made.step()
    assert len(called) == 4


def spoil_rate(group: Group) -> None:
    group["lr"][0] = -1.0


def spoil_momentum(group: Group) -> None:
    group["momentum"].fill_(1.0)


def spoil_seed(group: Group) -> None:
    # Equal to the seed that was there, and none.
    group["seed"] = False


def spoil_rank(group: Group) -> None:
    group["params"][0].data = torch.zeros(2, 1, 5, dtype=torch.float64)
    group["params"][0].grad = torch.ones(2, 1, 5, dtype=torch.float64)


def spoil_sketch(group: Group) -> None:
    group["sketch"] = "colums"


@pytest.mark.parametrize(
    "spoil", [spoil_rate, spoil_momentum, spoil_seed, spoil_rank, spoil_sketch]
)
def test_what_becomes_unsound_is_told_and_told_again(spoil: Callable[[Group], None]) -> None:
    made = optimizer()
    made.step()
    made.param_groups[0]["params"][0].grad = None
    spoil(made.param_groups[0])
    for _ in range(2):
        with pytest.raises(ValueError, match=r"lr|momentum|seed|rank|sketch"):
            made.step()


def test_an_option_that_is_written_to_in_place_has_changed() -> None:
    made = Muon([nn.Parameter(torch.zeros(3, 3))], orthogonalizer="polar_express")
    (group,) = made.param_groups
    seen = Contents(group)
    assert seen.are_those_of(group)
    group["orthogonalizer_parameters"]["lower_bound"] = 2.0
    assert not seen.are_those_of(group)
    with pytest.raises(ValueError, match="lower_bound"):
        made.step()


def test_more_options_other_parameters_and_inference_tensors_have_changed() -> None:
    p, q = (nn.Parameter(torch.zeros(3, 3)) for _ in range(2))
    group: Group = {"params": [p], "lr": 0.1}
    seen = Contents(group)
    assert seen.are_those_of({"params": [p], "lr": 0.1})
    for other in (
        {"params": [p], "lr": 0.2},
        {"params": [p], "lr": 0.1, "initial_lr": 0.1},
        {"params": [p], "rate": 0.1},
        {"params": [q], "lr": 0.1},
        {"params": [p, q], "lr": 0.1},
    ):
        assert not seen.are_those_of(other)
    with torch.inference_mode():
        group["lr"] = torch.tensor(0.1)
    assert not Contents(group).are_those_of(group)
