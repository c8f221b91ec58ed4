"""AdamW with a rate a member has the bits of torch's, which has one rate."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import Parameter

from simulate.optimizers import MemberAdamW

SHAPES = [(3, 5, 7), (3, 4, 8), (3, 33), (3,)]
RATES = [1e-3, 0.1, 3.0]
OPTIONS: list[dict[str, Any]] = [
    {},
    {"betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.3},
    {"betas": (0.0, 0.5), "eps": 0.0, "weight_decay": 0.0},
]


def random(shape: tuple[int, ...], seed: int, dtype: torch.dtype) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


def parameters(dtype: torch.dtype) -> list[Parameter]:
    return [Parameter(random(shape, i, dtype)) for i, shape in enumerate(SHAPES)]


def run(optimizer: torch.optim.Optimizer, params: list[Parameter], steps: range) -> None:
    for step in steps:
        for i, p in enumerate(params):
            p.grad = random(p.shape, 100 + 10 * step + i, p.dtype)
        optimizer.step()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("options", OPTIONS)
def test_one_rate_has_the_bits_of_torch(options: dict[str, Any], dtype: torch.dtype) -> None:
    ours, theirs = parameters(dtype), parameters(dtype)
    run(MemberAdamW(ours, lr=0.03, **options), ours, range(7))
    run(torch.optim.AdamW(theirs, lr=0.03, foreach=False, **options), theirs, range(7))
    assert all(torch.equal(p, q) for p, q in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("options", OPTIONS)
def test_a_rate_a_member_has_the_bits_of_members_alone(
    options: dict[str, Any], dtype: torch.dtype
) -> None:
    ensemble = parameters(dtype)
    rates = torch.tensor(RATES, dtype=torch.float64)
    run(MemberAdamW(ensemble, lr=rates, **options), ensemble, range(7))
    for member, rate in enumerate(RATES):
        alone = [Parameter(p.detach()[member].clone()) for p in parameters(dtype)]
        optimizer = torch.optim.AdamW(alone, lr=rate, foreach=False, **options)
        for step in range(7):
            for i, (p, shape) in enumerate(zip(alone, SHAPES, strict=True)):
                p.grad = random(shape, 100 + 10 * step + i, dtype)[member].clone()
            optimizer.step()
        for p, q in zip(ensemble, alone, strict=True):
            assert torch.equal(p[member], q)


def test_groups_and_a_state_dict_in_mid_run_carry_on() -> None:
    def make(params: list[Parameter]) -> MemberAdamW:
        groups = [{"params": params[:2], "lr": 0.2}, {"params": params[2:], "eps": 0.1}]
        return MemberAdamW(groups, lr=torch.tensor(RATES))

    straight, resumed = parameters(torch.float64), parameters(torch.float64)
    run(make(straight), straight, range(6))
    first = make(resumed)
    run(first, resumed, range(3))
    second = make(resumed)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    run(second, resumed, range(3, 6))
    assert all(torch.equal(p, q) for p, q in zip(straight, resumed, strict=True))


def test_parameters_without_gradients_are_left_alone_and_closures_called() -> None:
    p, q = Parameter(torch.ones(2, 3)), Parameter(torch.ones(2, 3))
    optimizer = MemberAdamW([p, q], lr=0.1)

    def closure() -> float:
        loss = p.square().sum()
        loss.backward()
        return float(loss.detach())

    assert optimizer.step(closure) == 6
    assert torch.equal(q, torch.ones(2, 3))
    assert not torch.equal(p, q)


def test_a_gradient_with_nan_changes_nothing() -> None:
    params = parameters(torch.float32)
    optimizer = MemberAdamW(params)
    run(optimizer, params, range(2))
    before = copy.deepcopy([params, optimizer.state_dict()["state"]])
    for p in params:
        p.grad = torch.ones_like(p)
    params[1].grad[2, 0, 0] = torch.nan  # type: ignore[index]
    with pytest.raises(ValueError, match=r"gradient of parameter 1 of group 0.* in members \[2\]"):
        optimizer.step()
    assert all(torch.equal(p, q) for p, q in zip(params, before[0], strict=True))
    assert torch.equal(optimizer.state[params[0]]["exp_avg"], before[1][0]["exp_avg"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": -1.0}, "lr must be finite and >= 0, got -1"),
        ({"lr": torch.ones(2)}, r"lr must broadcast to the leading batch dimensions \(3,\)"),
        ({"betas": (0.9, 1.0)}, r"betas in \[0, 1\) are expected, got \(0.9, 1.0\)"),
        ({"eps": float("nan")}, "eps must be finite and >= 0, got nan"),
        ({"weight_decay": -0.1}, "weight_decay must be finite and >= 0"),
    ],
)
def test_bad_options_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MemberAdamW(parameters(torch.float32), **options)
    with pytest.raises(ValueError, match="did you mean 'betas'"):
        MemberAdamW([{"params": parameters(torch.float32), "beta": 0.9}])
