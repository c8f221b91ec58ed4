"""Members that are kept do what they would have done; the others leave no trace."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from itertools import chain
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import Parameter

from simulate.optimizers import (
    MemberAdamW,
    Muon,
    SpectralDescent,
    Tensorion,
    keep_members,
)
from tests.simulate.optimizers.test_pair_optimizers import OF_PAIRS

Pairs = list[tuple[Parameter, Parameter]]
Make = Callable[[Pairs, Any], torch.optim.Optimizer]


def on_factors(kind: Callable[..., torch.optim.Optimizer]) -> Make:
    return lambda pairs, lr: kind(list(chain(*pairs)), lr=lr)


OF_MATRICES = (MemberAdamW, Muon, SpectralDescent)
KINDS: dict[str, Make] = {
    **{kind.__name__: kind for kind in OF_PAIRS},
    **{kind.__name__: on_factors(kind) for kind in OF_MATRICES},
    "Tensorion": on_factors(partial(Tensorion, order=2)),
}
RATES = [0.01, 0.02, 0.03, 0.04]


def random(*shape: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def pairs_of(members: list[int]) -> Pairs:
    return [
        (
            Parameter(random(4, 7, 3, seed=i)[members]),
            Parameter(random(4, 3, 6, seed=10 + i)[members]),
        )
        for i in range(2)
    ]


def run(optimizer: torch.optim.Optimizer, pairs: Pairs, members: list[int], steps: range) -> None:
    for step in steps:
        for i, p in enumerate(chain(*pairs)):
            p.grad = random(4, *p.shape[1:], seed=100 + 10 * step + i)[members]
        optimizer.step()


@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS.keys())
def test_those_kept_go_on_as_if_alone(make: Make) -> None:
    kept = [3, 1]
    rates = torch.tensor(RATES, dtype=torch.float64)
    pairs = pairs_of([0, 1, 2, 3])
    optimizer = make(pairs, rates)
    run(optimizer, pairs, [0, 1, 2, 3], range(3))
    keep_members(optimizer, torch.tensor(kept))
    assert torch.equal(optimizer.param_groups[0]["lr"], rates[kept])
    run(optimizer, pairs, kept, range(3, 6))

    expected = pairs_of(kept)
    run(make(expected, rates[kept]), expected, kept, range(6))
    for p, q in zip(chain(*pairs), chain(*expected), strict=True):
        # Of the same matrices; a batched product may round by what else is in the batch.
        torch.testing.assert_close(p, q, rtol=0, atol=1e-12)


def test_gradients_are_kept_and_parameters_stay_the_same_objects() -> None:
    W = Parameter(random(4, 2, 2, seed=0))
    optimizer = MemberAdamW([W], lr=0.1)
    (W.square().sum()).backward()
    before = W.detach().clone()
    keep_members(optimizer, torch.tensor([2]))
    assert optimizer.param_groups[0]["params"][0] is W
    assert torch.equal(W, before[[2]])
    assert W.grad is not None
    assert torch.equal(W.grad, 2 * before[[2]])
    optimizer.zero_grad()
    (W.square().sum()).backward()
    assert torch.equal(W.grad, 2 * before[[2]])


@pytest.mark.parametrize("members", [[], [4], [-1], [[0]]])
def test_members_that_are_not_there(members: list[Any]) -> None:
    optimizer = MemberAdamW([Parameter(random(4, 2, seed=0))])
    with pytest.raises(ValueError, match=r"members in 0\.\.3 are expected"):
        keep_members(optimizer, torch.tensor(members, dtype=torch.int64))


def test_a_state_without_members_is_refused_and_nothing_changed() -> None:
    W = Parameter(random(4, 2, seed=0))
    optimizer = MemberAdamW([W])
    optimizer.state[W]["moment"] = torch.ones(2)
    before = copy.deepcopy(W)
    with pytest.raises(ValueError, match=r"moment: 4 members are expected .* got shape \(2,\)"):
        keep_members(optimizer, torch.tensor([0]))
    assert torch.equal(W, before)
