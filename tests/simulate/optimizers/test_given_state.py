"""A state that is of something else, a parameter given twice, gradients no step can be made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn import Parameter

from simulate.optimizers import (
    FactorMuon,
    LoRAMuon,
    LoRARite,
    MemberAdamW,
    MemberSGD,
    Muon,
    Riemannion,
    Spectron,
    Tensorion,
)
from tests.geometry.test_msign import random_matrices

Make = Callable[..., torch.optim.Optimizer]
OF_MATRICES: dict[str, Make] = {
    "Muon": Muon,
    "MemberSGD": MemberSGD,
    "MemberAdamW": MemberAdamW,
    "Tensorion": Tensorion,
}
OF_PAIRS: dict[str, Make] = {
    each.__name__: each for each in (FactorMuon, LoRAMuon, LoRARite, Riemannion, Spectron)
}


def parameter(*shape: int, seed: int = 0) -> Parameter:
    p = Parameter(random_matrices(*shape, seed=seed))
    p.grad = random_matrices(*shape, seed=seed + 1)
    return p


def pair(m: int, n: int, r: int) -> tuple[Parameter, Parameter]:
    return parameter(m, r), parameter(r, n, seed=7)


# With the second the buffers would broadcast: weights were written before that came to light.
@pytest.mark.parametrize("shape", [(5, 4), (1, 3), (2, 4, 3)])
@pytest.mark.parametrize("name", OF_MATRICES)
def test_the_state_of_another_shape_is_refused_where_it_is_loaded(
    name: str, shape: tuple[int, ...]
) -> None:
    make = OF_MATRICES[name]
    other = make([parameter(*shape)], lr=0.1)
    other.step()
    W = parameter(4, 3)
    optimizer, before = make([W], lr=0.1), W.detach().clone()
    with pytest.raises(ValueError, match=r"parameter 0 of group 0: .* \(4, 3\) is expected; given"):
        optimizer.load_state_dict(other.state_dict())
    optimizer.step()
    fresh = Parameter(before.clone())
    fresh.grad = W.grad
    make([fresh], lr=0.1).step()
    assert torch.equal(W, fresh)


@pytest.mark.parametrize("name", OF_PAIRS)
def test_the_state_of_another_rank_is_refused_where_it_is_loaded(name: str) -> None:
    make = OF_PAIRS[name]
    other = make([pair(6, 5, 2)], lr=0.1)
    other.step()
    optimizer = make([pair(6, 5, 3)], lr=0.1)
    with pytest.raises(ValueError, match=r"pair 0: B of group 0: .* is expected; given"):
        optimizer.load_state_dict(other.state_dict())
    assert not optimizer.state


@pytest.mark.parametrize("name", [*OF_MATRICES, *OF_PAIRS])
def test_the_state_of_another_optimiser_is_refused(name: str) -> None:
    of_pairs = name in OF_PAIRS
    made = [pair(6, 5, 2), pair(6, 5, 2)] if of_pairs else [(parameter(6, 5),), (parameter(6, 5),)]
    mine, others = made
    adam = torch.optim.Adagrad(list(others))
    adam.step()
    optimizer = OF_PAIRS[name]([mine]) if of_pairs else OF_MATRICES[name](list(mine))
    with pytest.raises(ValueError, match=r"is expected; given .*sum \(6, .*nothing was loaded"):
        optimizer.load_state_dict(adam.state_dict())


@pytest.mark.filterwarnings("ignore:optimizer contains a parameter group with duplicate")
def test_a_parameter_is_given_once() -> None:
    W, (B, A), (_, C) = parameter(4, 4), pair(6, 5, 2), pair(6, 5, 2)
    cases: list[tuple[Make, list[Any], str]] = [
        (Muon, [W, W], "parameters 0 and 1 of group 0"),
        (MemberAdamW, [W, W], "parameters 0 and 1 of group 0"),
        (LoRAMuon, [(B, A), (B, C)], r"shape \(6, 2\) as parameters 0 and 2 of group 0"),
        (FactorMuon, [(W, W)], "parameters 0 and 1 of group 0"),
    ]
    for make, given, message in cases:
        with pytest.raises(ValueError, match=f"every parameter once is expected.*{message}"):
            make(given)
