"""What every optimiser of matrices does as a torch.optim.Optimizer, and what it rejects."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import Parameter

from simulate.optimizers import (
    LowRankMSGD,
    LowRankMuon,
    MatrixOptimizer,
    MemberSGD,
    Muon,
    NotFiniteError,
    SpectralDescent,
    Tensorion,
)

Make = Callable[..., MatrixOptimizer]
KINDS: dict[str, Make] = {
    "muon": lambda params, lr=0.02: Muon(params, lr=lr),
    "muon by polar express": lambda params, lr=0.02: Muon(
        params, lr=lr, nesterov=False, orthogonalizer="polar_express", adjust_lr_fn="spectral"
    ),
    "spectral descent": lambda params, lr=0.02: SpectralDescent(params, lr, weight_decay=0.1),
    "sgd": lambda params, lr=0.02: MemberSGD(params, lr=lr, momentum=0.9),
    "low-rank msgd": lambda params, lr=0.02: LowRankMSGD(params, lr, rank=2),
    "low-rank muon": lambda params, lr=0.02: LowRankMuon(
        params, lr, rank=1, sketch="gaussian", oversampling=1, nesterov=True, orthogonalizer="muon"
    ),
    "tensorion": lambda params, lr=0.02: Tensorion(params, lr=lr, order=2),
    "smoothed": lambda params, lr=0.02: SpectralDescent(params, lr, beta=0.5),
}
SHAPES = [(5, 7), (8, 3), (5, 7), (2, 3, 6, 6), (8, 3), (18, 20)]

every_kind = pytest.mark.parametrize("make", KINDS.values(), ids=KINDS.keys())


def random(*shape: int, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)


def parameters(dtype: torch.dtype = torch.float64) -> list[Parameter]:
    return [Parameter(random(*shape, seed=i, dtype=dtype)) for i, shape in enumerate(SHAPES)]


def give_gradients(params: list[Parameter], step: int) -> None:
    for i, p in enumerate(params):
        p.grad = random(*p.shape, seed=100 * (step + 1) + i, dtype=p.dtype)


def run(optimizer: MatrixOptimizer, params: list[Parameter], steps: range) -> None:
    for step in steps:
        give_gradients(params, step)
        optimizer.step()


def same(ours: list[Parameter], theirs: list[Parameter]) -> bool:
    return all(torch.equal(W, V) for W, V in zip(ours, theirs, strict=True))


@every_kind
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_state_dict_in_mid_run_continues_bit_for_bit(make: Make, dtype: torch.dtype) -> None:
    uninterrupted, resumed = parameters(dtype), parameters(dtype)
    run(make(uninterrupted, lr=0.05), uninterrupted, range(8))
    first = make(resumed, lr=0.05)
    run(first, resumed, range(4))
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second = make(resumed, lr=9.0)
    second.load_state_dict(torch.load(file))
    run(second, resumed, range(4, 8))
    assert same(resumed, uninterrupted)
    assert {state["step"] for state in second.state.values()} == {8}


@every_kind
def test_deepcopy_and_pickle_in_mid_run(make: Make) -> None:
    params = parameters()
    optimizer = make(params)
    run(optimizer, params, range(3))
    copied = copy.deepcopy((params, optimizer))
    pickled = pickle.loads(pickle.dumps((params, optimizer)))
    run(optimizer, params, range(3, 6))
    for its_params, its_optimizer in (copied, pickled):
        assert not same(its_params, params)
        run(its_optimizer, its_params, range(3, 6))
        assert same(its_params, params)


@every_kind
def test_closure_is_called_with_gradients_enabled(make: Make) -> None:
    params = parameters()
    optimizer, calls = make(params), []

    def closure() -> float:
        optimizer.zero_grad()
        loss = sum((p * random(*p.shape, seed=7)).sum() for p in params)
        assert isinstance(loss, Tensor)
        loss.backward()
        calls.append(torch.is_grad_enabled())
        return float(loss.detach())

    expected = parameters()
    for p in expected:
        p.grad = random(*p.shape, seed=7)
    make(expected).step()
    with torch.no_grad():
        loss = optimizer.step(closure)
    assert calls == [True]
    assert loss == pytest.approx(
        sum(float((p.detach() * random(*p.shape, seed=7)).sum()) for p in parameters())
    )
    assert same(params, expected)


@every_kind
def test_schedulers_set_the_rate(make: Make) -> None:
    rates = [0.1, 0.05, 0.025, 0.0125]
    for start in (0.1, torch.tensor(0.1, dtype=torch.float64)):
        scheduled, by_hand = parameters(), parameters()
        optimizer, other = make(scheduled, lr=start), make(by_hand, lr=0.1)
        scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
        for step, rate in enumerate(rates):
            other.param_groups[0]["lr"] = rate
            run(optimizer, scheduled, range(step, step + 1))
            run(other, by_hand, range(step, step + 1))
            scheduler.step()
        assert same(scheduled, by_hand)


# What low-rank ones draw hangs on the group.
@pytest.mark.parametrize("make", [KINDS[name] for name in KINDS if "low-rank" not in name])
def test_groups_have_options_of_their_own(make: Make) -> None:
    params, expected = parameters(), parameters()
    optimizer = make([{"params": params[:2], "lr": 0.3}])
    optimizer.add_param_group({"params": params[2:], "weight_decay": 0.5})
    alone = make(expected[:2], lr=0.3), make(expected[2:])
    alone[1].param_groups[0]["weight_decay"] = 0.5
    for step in range(3):
        give_gradients(params, step)
        give_gradients(expected, step)
        for each in (optimizer, *alone):
            each.step()
    assert same(params, expected)


def test_named_parameters_and_parameters_without_gradients() -> None:
    params = parameters()
    optimizer = Muon([(f"layer {i}", p) for i, p in enumerate(params)])
    params[0].grad = random(5, 7, seed=1)
    optimizer.step()
    assert not torch.equal(params[0], parameters()[0])
    assert same(params[1:], parameters()[1:])
    assert list(optimizer.state) == [params[0]]
    assert optimizer.param_groups[0]["param_names"][2] == "layer 2"


@pytest.mark.parametrize("kind", KINDS)
def test_a_pair_is_not_taken_for_a_parameter_and_its_name(kind: str) -> None:
    pair = Parameter(random(5, 2, seed=1)), Parameter(random(2, 7, seed=2))
    with pytest.raises(ValueError, match=r"pair \(B, A\) is for optimisers of pairs"):
        KINDS[kind]([pair])


def test_torchs_steps_hooks_and_zero_grad_work() -> None:
    params, seen = parameters(), []
    optimizer = SpectralDescent(params, 0.1)
    optimizer.register_step_post_hook(lambda *_: seen.append("stepped"))
    run(optimizer, params, range(2))
    optimizer.zero_grad()
    assert seen == ["stepped", "stepped"]
    assert all(p.grad is None for p in params)


def snapshot(optimizer: MatrixOptimizer) -> tuple[list[Tensor], dict[str, Any]]:
    weights = [p.detach().clone() for group in optimizer.param_groups for p in group["params"]]
    return weights, copy.deepcopy(optimizer.state_dict())


def unchanged(optimizer: MatrixOptimizer, before: tuple[list[Tensor], dict[str, Any]]) -> bool:
    weights, saved = snapshot(optimizer)
    states, earlier = saved["state"], before[1]["state"]
    return (
        all(torch.equal(W, V) for W, V in zip(weights, before[0], strict=True))
        and states.keys() == earlier.keys()
        and all(
            torch.equal(torch.as_tensor(states[i][name]), torch.as_tensor(earlier[i][name]))
            for i in states
            for name in states[i]
        )
    )


@every_kind
@pytest.mark.parametrize("taken", [0, 3])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_bad_gradient_changes_nothing(make: Make, taken: int, bad: float) -> None:
    params = parameters()
    optimizer = make([{"params": params[:2]}, {"params": params[2:]}])
    run(optimizer, params, range(taken))
    give_gradients(params, taken)
    before = snapshot(optimizer)
    assert params[3].grad is not None
    params[3].grad[1, 0, 2, 2] = bad
    message = (
        r"the gradient of parameter 1 of group 1, shape \(2, 3, 6, 6\), must be finite, got 1 NaN "
        rf"or infinite entries of 216, the first of them in ensemble member \(1, 0\), at step "
        rf"{taken + 1}; nothing was updated"
    )
    with pytest.raises(ValueError, match=message):
        optimizer.step()
    assert unchanged(optimizer, before)
    params[3].grad[1, 0, 2, 2] = 0.0
    optimizer.step()
    assert not unchanged(optimizer, before)


def test_an_overflowing_update_changes_nothing() -> None:
    params = parameters()
    optimizer = Muon(params)
    run(optimizer, params, range(2))
    before = snapshot(optimizer)
    assert params[1].grad is not None
    params[1].grad.fill_(1e300)  # finite, but not in bfloat16
    with pytest.raises(
        ValueError, match=r"the new value of parameter 1 of group 0, shape \(8, 3\)"
    ):
        optimizer.step()
    assert unchanged(optimizer, before)


def test_a_rate_that_is_infinite_in_the_dtype_of_the_weights_is_an_update_that_overflows() -> None:
    W = Parameter(torch.ones(4, 3))
    W.grad = torch.ones_like(W)
    optimizer = Muon([W], lr=1e39)
    with pytest.raises(NotFiniteError, match="the new value of parameter 0 of group 0"):
        optimizer.step()
    assert bool((W == 1).all())


W = torch.zeros(2, 3, 4, 5)


@every_kind
@pytest.mark.parametrize(
    ("parameter", "options", "message"),
    [
        (torch.zeros(3), {}, r"parameter 0 of group 0 must have shape \(..., m, n\), got shape"),
        (torch.zeros(2, 2, dtype=torch.int64), {}, "floating-point dtype, got torch.int64"),
        (torch.zeros(2, 2, dtype=torch.complex64), {}, "floating-point dtype, got torch.complex64"),
        (torch.zeros(0, 2), {}, "matrices with m, n >= 1"),
        (W, {"lr": -0.1}, "lr must be finite and >= 0, got -0.1"),
        (W, {"lr": float("nan")}, "lr must be finite and >= 0, got nan"),
        (W, {"lr": torch.tensor([0.1, -0.1, 0.1])}, "every lr must be finite and >= 0"),
        (W, {"lr": torch.tensor([1, 2, 3])}, "lr must have a floating-point dtype"),
        (W, {"lr": torch.ones(2)}, r"batch dimensions \(2, 3\), got shape \(2,\)"),
        (W, {"lr": torch.ones(1, 1, 1)}, r"batch dimensions \(2, 3\), got shape \(1, 1, 1\)"),
        (W[0, 0], {"lr": torch.ones(3)}, r"batch dimensions \(\), got shape \(3,\)"),
        (W, {"weight_decay": -1.0}, "weight_decay must be finite and >= 0, got -1.0"),
        (W, {"weight_decy": 1.0}, "unknown option of .*; did you mean 'weight_decay'"),
    ],
)
def test_rejects_and_keeps_no_group(
    make: Make, parameter: Tensor, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        make([{"params": [parameter], **options}])
    optimizer = make(parameters())
    with pytest.raises(ValueError, match=message.replace("group 0", "group 1")):
        optimizer.add_param_group({"params": [parameter], **options})
    assert len(optimizer.param_groups) == 1


@every_kind
def test_options_changed_later_are_checked_at_the_step(make: Make) -> None:
    params = parameters()
    optimizer = make(params)
    give_gradients(params, 0)
    optimizer.param_groups[0]["lr"] = -1.0
    with pytest.raises(ValueError, match="lr must be finite and >= 0"):
        optimizer.step()
    assert same(params, parameters())


def test_sparse_gradients_are_rejected() -> None:
    p = Parameter(torch.zeros(3, 3))
    p.grad = torch.eye(3).to_sparse()
    with pytest.raises(ValueError, match=r"parameter 0 of group 0 must be dense, got torch.sparse"):
        SpectralDescent([p], 0.1).step()


def test_an_empty_ensemble_is_no_error() -> None:
    for dtype in (torch.float32, torch.bfloat16):
        p = Parameter(torch.zeros(0, 3, 2, dtype=dtype))
        p.grad = torch.zeros_like(p)
        optimizer = Muon([p])
        optimizer.step()
        assert optimizer.state[p]["momentum_buffer"].shape == (0, 3, 2)
