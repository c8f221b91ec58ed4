"""Members stepped one by one: what each gets alone, whatever memory the ensemble has."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from simulate.optimizers import LoRAMuon, OneByOne


def drawn(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("transposed", [False, True])
def test_members_of_parameters_get_what_they_get_alone(transposed: bool) -> None:
    values, gradients = drawn(2, 3, 5, 4), [drawn(2, 3, 5, 4, seed=seed) for seed in (1, 2)]
    W = nn.Parameter(values.mT.contiguous().mT if transposed else values.clone())
    ensemble = OneByOne([W], torch.optim.Adam, lr=0.1)
    for G in gradients:
        W.grad = G
        ensemble.step()
    for member in ((0, 0), (1, 2)):
        alone = nn.Parameter(values[member].clone())
        optimizer = torch.optim.Adam([alone], lr=0.1)
        for G in gradients:
            alone.grad = G[member].clone()
            optimizer.step()
        assert torch.equal(W[member], alone)


def test_pairs_stay_pairs() -> None:
    B, A = (nn.Parameter(drawn(*shape)) for shape in ((3, 6, 2), (3, 2, 5)))
    one_by_one = tuple(nn.Parameter(p.detach().clone()) for p in (B, A))
    for p, q in zip((B, A), one_by_one, strict=True):
        p.grad = drawn(*p.shape, seed=3)
        q.grad = p.grad.clone()
    LoRAMuon([(B, A)], lr=0.1).step()
    OneByOne([one_by_one], LoRAMuon, lr=0.1).step()
    for p, q in zip((B, A), one_by_one, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-13, atol=1e-13)


def test_a_gradient_is_theirs_to_overwrite() -> None:
    W = nn.Parameter(drawn(2, 3, 3))
    G = drawn(2, 3, 3, seed=1)
    W.grad = G.clone()

    class Spoiling(torch.optim.SGD):
        def step(self, closure: object = None) -> None:  # type: ignore[override]
            super().step()
            for group in self.param_groups:
                for p in group["params"]:
                    p.grad.zero_()

    OneByOne([W], Spoiling, lr=1.0).step()
    assert torch.equal(W.grad, G)


def test_every_member_has_its_rate() -> None:
    W = nn.Parameter(torch.zeros(2, 3, 4, 4, dtype=torch.float64))
    rates = torch.tensor([0.1, 0.2, 0.4], dtype=torch.float64)
    W.grad = drawn(2, 3, 4, 4)
    OneByOne([W], torch.optim.SGD, lr=rates).step()
    assert torch.equal(W.detach(), -rates[:, None, None] * W.grad)
    with pytest.raises(ValueError, match=r"lr must broadcast .* \(2, 3\), got shape \(2,\)"):
        OneByOne([W], torch.optim.SGD, lr=rates[:2])


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match=r"leading dimensions \(2,\).*given shape \(3, 4, 4\)"):
        OneByOne([nn.Parameter(drawn(2, 4, 4)), nn.Parameter(drawn(3, 4, 4))], torch.optim.Adam)
    optimizer = OneByOne([nn.Parameter(drawn(2, 4, 4))], torch.optim.Adam)
    with pytest.raises(ValueError, match="a gradient is expected of every parameter"):
        optimizer.step()


class Still(torch.optim.SGD):
    """Forgets to write what it computes."""

    def step(self, closure: object = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            group["params"] = [p - group["lr"] * p.grad for p in group["params"]]


def test_a_step_that_moves_nothing_is_told() -> None:
    W = nn.Parameter(drawn(2, 3, 3))
    W.grad = drawn(2, 3, 3, seed=1)
    with pytest.raises(ValueError, match="first step of Still moves none of the parameters"):
        OneByOne([W], Still, lr=1.0).step()


def test_a_step_may_move_nothing_at_rate_0_along_no_gradient_and_later() -> None:
    W = nn.Parameter(drawn(2, 3, 3))
    W.grad = torch.zeros_like(W)
    OneByOne([W], Still, lr=1.0).step()
    W.grad = drawn(2, 3, 3, seed=1)
    OneByOne([W], Still, lr=0.0).step()
    twice = OneByOne([W], torch.optim.SGD, lr=1.0)
    twice.step()
    W.grad.fill_(1e-300)
    twice.step()


class Stepping(torch.optim.SGD):
    """Does something else after its step."""

    def __init__(self, params: Any, lr: float, after: Any) -> None:
        super().__init__(params, lr=lr)
        self.after = after

    def step(self, closure: object = None) -> None:  # type: ignore[override]
        super().step()
        for p in self.param_groups[0]["params"]:
            self.after(p)


@pytest.mark.parametrize(
    ("after", "left"),
    [
        # It would have been spread over the columns again.
        (lambda p: setattr(p, "data", p.data[:, :1]), "3 x 1 in torch.float64"),
        (lambda p: setattr(p, "data", p.data.bfloat16()), "3 x 4 in torch.bfloat16"),
    ],
)
def test_a_step_that_leaves_another_parameter_is_told(
    after: Callable[[nn.Parameter], Any], left: str
) -> None:
    W = nn.Parameter(drawn(2, 3, 4))
    W.grad = drawn(2, 3, 4, seed=1)
    with pytest.raises(ValueError, match=f"step left {left}; 3 x 4 in torch.float64 was handed"):
        OneByOne([W], partial(Stepping, after=after), lr=1.0).step()


def test_what_others_raise_is_told_with_what_they_were_handed() -> None:
    W = nn.Parameter(drawn(2, 3, 4))
    W.grad = drawn(2, 3, 4, seed=1)
    with pytest.raises(TypeError, match="not callable") as raised:
        OneByOne([W], partial(Stepping, after=None), lr=1.0).step()
    assert raised.value.__notes__ == [
        "Stepping.step() was called without a closure, gradients in .grad, with parameters 3 x 4 "
        "in torch.float64."
    ]
    with pytest.raises(TypeError, match="unexpected keyword") as raised:
        OneByOne([W], partial(torch.optim.SGD, betas=3), lr=1.0)  # type: ignore[call-arg]
    assert raised.value.__notes__[0].startswith("An optimiser was asked for, with parameters 3 x 4")
