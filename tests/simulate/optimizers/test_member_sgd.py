"""SGD of an ensemble: torch.optim.SGD's bits at each member's rate."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import Parameter

from simulate.optimizers import MemberSGD

RATES = (1e-3, 0.1, 3.0)


def drawn(seed: int, dtype: torch.dtype) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(len(RATES), 5, 9, generator=generator, dtype=torch.float64).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_members_have_the_bits_of_torchs_sgd(momentum: float, dtype: torch.dtype) -> None:
    ensemble = Parameter(drawn(0, dtype))
    alone = [Parameter(W.detach().clone()) for W in ensemble]
    ours = MemberSGD([ensemble], lr=torch.tensor(RATES, dtype=torch.float64), momentum=momentum)
    theirs = [
        torch.optim.SGD([W], lr=lr, momentum=momentum) for W, lr in zip(alone, RATES, strict=True)
    ]
    for step in range(1, 20):
        ensemble.grad = drawn(step, dtype)
        for W, G in zip(alone, ensemble.grad, strict=True):
            W.grad = G.clone()
        for optimizer in (ours, *theirs):
            optimizer.step()
        for W, V in zip(ensemble, alone, strict=True):
            assert torch.equal(W, V)


def test_decay_is_decoupled() -> None:
    W = Parameter(drawn(0, torch.float64))
    W.grad, start = torch.zeros_like(W), W.detach().clone()
    MemberSGD([W], lr=0.5, momentum=0.9, weight_decay=0.1).step()
    torch.testing.assert_close(W.detach(), 0.95 * start)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"momentum": 1.0}, r"momentum must lie in \[0, 1\), got 1\.0"),
        ({"weight_decay": -1.0}, "weight_decay must be finite and >= 0, got -1.0"),
        ({"lr": torch.tensor([0.1, 0.2])}, "lr must broadcast to the leading batch dimensions"),
    ],
)
def test_bad_options_are_named(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MemberSGD([Parameter(drawn(0, torch.float64))], **wrong)
