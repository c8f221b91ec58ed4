"""Options that are no numbers or out of range, and gradients that no step can be made of."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn import Parameter

from simulate.optimizers import (
    LoRAMuon,
    LoRARite,
    LowRankMSGD,
    MemberAdamW,
    MemberSGD,
    Muon,
    Riemannion,
    RiemannLoRA,
    SpectralDescent,
    Tensorion,
)
from tests.geometry.test_msign import random_matrices

Make = Callable[..., torch.optim.Optimizer]


def matrix(*shape: int) -> Parameter:
    p = Parameter(random_matrices(*shape, seed=0))
    p.grad = random_matrices(*shape, seed=1)
    return p


def pair() -> tuple[Parameter, Parameter]:
    return matrix(6, 2), matrix(2, 5)


@pytest.mark.parametrize("lr", ["0.1", None, [0.1], 1j])
@pytest.mark.parametrize("make", [Muon, MemberAdamW, Tensorion, LoRAMuon])
def test_a_rate_is_a_number(make: Make, lr: Any) -> None:
    given = [pair()] if make is LoRAMuon else [matrix(4, 3)]
    with pytest.raises(ValueError, match=r"lr must be a number, got (str|NoneType|list|complex) "):
        make(given, lr=lr)


@pytest.mark.parametrize("make", [Muon, MemberSGD, LoRAMuon])
def test_options_that_all_members_share_are_no_tensors_of_members(make: Make) -> None:
    given = [pair()] if make is LoRAMuon else [matrix(2, 4, 3)]
    several = torch.tensor([0.1, 0.2])
    with pytest.raises(ValueError, match=r"weight_decay must be a number, got Tensor of shape"):
        make(given, weight_decay=several)
    if make is not Muon:
        with pytest.raises(ValueError, match=r"momentum must be a number, got Tensor of shape"):
            make(given, momentum=several)


# In a step these came to light when moments had been written.
@pytest.mark.parametrize("betas", [0.9, (0.9,), (0.9, 0.99, 0.999), "ab", None])
@pytest.mark.parametrize("make", [MemberAdamW, LoRARite])
def test_betas_are_two(make: Make, betas: Any) -> None:
    with pytest.raises(ValueError, match=r"two betas in \[0, 1\) are expected, got"):
        make([pair()] if make is LoRARite else [matrix(4, 3)], betas=betas)


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (LoRAMuon, {"damping": -1.0}, "damping must be finite and >= 0"),
        (LoRAMuon, {"root": "newton_schulz", "damping": 1e-9}, "damping must be at least 1e-05"),
        (LoRAMuon, {"scale": math.inf}, "scale must be finite and > 0"),
        (Riemannion, {"scale": math.inf}, "scale must be finite and > 0"),
        (RiemannLoRA, {"eps": math.inf}, "eps must be finite and >= 0"),
        (LoRARite, {"eps": math.inf}, "eps must be finite and >= 0"),
        (LoRARite, {"eps": "small"}, "eps must be a number, got str 'small'"),
    ],
)
def test_options_are_looked_at_when_they_are_given(
    make: Make, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        make([pair()], **options)


def test_no_members_need_no_rates() -> None:
    none = torch.zeros(0)
    W = matrix(0, 4, 3)
    Muon([W], lr=none).step()
    MemberAdamW([W], lr=none).step()
    Tensorion([W], lr=none, order=2).step()
    Muon([W], momentum=none).step()


def test_sparse_gradients_are_refused_before_anything_is_written() -> None:
    W, (B, A) = matrix(4, 3), pair()
    assert W.grad is not None
    assert A.grad is not None
    W.grad, A.grad = W.grad.to_sparse(), A.grad.to_sparse()
    adam, muon = MemberAdamW([W]), LoRAMuon([(B, A)])
    with pytest.raises(ValueError, match="the gradient of parameter 0 of group 0 must be dense"):
        adam.step()
    with pytest.raises(ValueError, match="the gradient of A of pair 0 must be dense"):
        muon.step()
    assert not adam.state
    assert not muon.state


def test_seeds_may_be_of_inference_mode() -> None:
    """They do not say whether they were written to, so nothing drawn ahead is taken for theirs."""
    with torch.inference_mode():
        seed = torch.tensor([3, 5])
        W = matrix(2, 4, 3)
        optimizer = LowRankMSGD([W], 0.1, 1, seed=seed)
        optimizer.step()
        seed.copy_(torch.tensor([7, 9]))
        optimizer.step()
    V = matrix(2, 4, 3)
    LowRankMSGD([V], 0.1, 1, seed=torch.tensor([3, 5])).step()
    second = LowRankMSGD([V], 0.1, 1, seed=torch.tensor([7, 9]))
    second.state[V]["step"] = 1
    second.step()
    assert torch.equal(W, V)


def test_scales_of_members_are_looked_at_when_they_are_given() -> None:
    W = matrix(3, 4, 5)
    with pytest.raises(ValueError, match=r"beta must broadcast to the leading .* \(3,\), got"):
        SpectralDescent([W], 0.1, beta=torch.tensor([0.1, 0.2]))
    for wrong in (math.nan, 0.0, -1.0, math.inf):
        with pytest.raises(ValueError, match="every beta must be finite and > 0"):
            SpectralDescent([W], 0.1, beta=torch.tensor([0.1, wrong, 1.0]))


@pytest.mark.parametrize("unfolding", [0, None, (0.0,), (True,), "onlin"])
def test_modes_of_an_unfolding_are_whole_numbers(unfolding: Any) -> None:
    """0.0 is equal to 0: taken for it once, it was what (0,) came to from then on."""
    with pytest.raises(ValueError, match="unfolding"):
        Tensorion([matrix(3, 4, 5)], unfolding=unfolding)
    Tensorion([matrix(3, 4, 5)], unfolding=(0,)).step()
