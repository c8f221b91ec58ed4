"""Ensembles train, and each member as if it were alone; those that diverge leave."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from simulate.optimizers import LoRARite, MemberAdamW
from simulate.schedules import cosine_decay, linear_decay
from simulate.training import EnsembleTraining
from simulate.training_record import Member, TrainingRecord
from tests.simulate.runs import OPTIMIZERS, RATES, architecture, corpus, language, training

each_optimizer = pytest.mark.parametrize("name", OPTIMIZERS)
WIDER = {"width": 32, "length": 32, "heads": 4}


def weights(run: EnsembleTraining) -> list[Tensor]:
    return [p.detach().clone() for p in run.model.parameters()]


def bitwise(one: list[Tensor], other: list[Tensor]) -> bool:
    return all(torch.equal(p, q) for p, q in zip(one, other, strict=True))


@each_optimizer
def test_every_optimiser_gets_below_the_best_without_context(name: str) -> None:
    run = training(
        name,
        [(RATES[name], 0), (2 * RATES[name], 1)],
        sizes=WIDER,
        batch_size=8,
        dtype=torch.float32,
        schedule=linear_decay(150, warmup=10),
    )
    record = run.run(150, validate_at=[0, 150])
    unigram, least = float(language().context_optima(0)[0]), language().entropy_rate
    # A start knows nothing.
    assert bool((record.validation[0] > unigram).all())
    assert bool((record.validation[150] < unigram - 0.1).all())
    assert bool((record.validation[150] > least - 0.05).all())
    assert record.diverged == {}


# On the CPU that this was written on, members have the bits that they have alone. A batched product
# may round otherwise elsewhere: to change every weight of a start by one unit in the last place
# moves the weights by at most 1.2e-14 after 20 steps, of any of these optimisers. Each of 20 steps
# adds tens of roundings of that size: 1e-11.
APART = 1e-11


@each_optimizer
def test_a_member_is_trained_as_if_alone(name: str) -> None:
    members = [(RATES[name], 3), (0.3 * RATES[name], 2**40), (2 * RATES[name], 3)]
    ensemble = training(name, members)
    ensemble.run(20, validate_at=[20])
    for place, member in enumerate(members):
        alone = training(name, [member])
        alone.run(20, validate_at=[20])
        torch.testing.assert_close(
            ensemble.record.losses[:, place], alone.record.losses[:, 0], rtol=0, atol=APART
        )
        torch.testing.assert_close(
            ensemble.record.validation[20][place],
            alone.record.validation[20][0],
            rtol=0,
            atol=APART,
        )
        for p, q in zip(ensemble.model.parameters(), alone.model.parameters(), strict=True):
            torch.testing.assert_close(p[place], q[0], rtol=0, atol=APART)
    # The members are not alike.
    assert float(ensemble.record.losses[-1].diff().abs().min()) > 1e-4


@each_optimizer
def test_the_same_ensemble_twice_has_the_same_bits(name: str) -> None:
    runs = [training(name, [(RATES[name], 0), (0.01, 1)], dtype=torch.float32) for _ in range(2)]
    for run in runs:
        run.run(10)
    assert torch.equal(runs[0].record.losses, runs[1].record.losses)
    assert bitwise(weights(runs[0]), weights(runs[1]))


def by_its_loss(run: EnsembleTraining) -> None:
    with torch.no_grad():
        run.model.embedding[1] *= 1e4


def by_nan(run: EnsembleTraining) -> None:
    with torch.no_grad():
        run.model.positions[1, 0, 0] = torch.nan


def by_its_gradient(run: EnsembleTraining) -> None:
    def spoil(gradient: Tensor) -> Tensor:
        spoilt = gradient.clone()
        if len(gradient) == 3:
            spoilt[1, 0, 0] = torch.inf
        return spoilt

    run.model.positions.register_hook(spoil)


@pytest.mark.parametrize("name", ["LoRAMuon", "Muon", "AdamW on factors"])
@pytest.mark.parametrize(
    ("diverge", "reason"),
    [
        (by_its_loss, r"the loss, \S+, exceeds 10\.1"),
        (by_nan, "the loss is nan"),
        (by_its_gradient, "the gradient has NaN or infinite entries"),
    ],
)
def test_a_member_that_diverges_leaves_and_the_others_do_not_notice(
    name: str, diverge: Callable[[EnsembleTraining], None], reason: str
) -> None:
    members = [(RATES[name], 0), (RATES[name], 1), (RATES[name] / 2, 2)]
    run, others = training(name, members), training(name, [members[0], members[2]])
    run.run(4)
    diverge(run)
    spoilt = run.model.embedding.detach()[1].clone()
    record = run.run(12, validate_at=[12])
    others.run(12, validate_at=[12])

    assert list(record.diverged) == [1]
    gone = record.diverged[1]
    assert gone.step == 4
    assert re.fullmatch(reason, gone.reason)
    assert torch.equal(gone.parameters["embedding"], spoilt)
    assert run.active == [0, 2]
    # It costs nothing any more.
    assert run.model.members == 2
    for optimizer in run._optimizers:
        for state in optimizer.state.values():
            assert all(len(x) == 2 for x in state.values() if isinstance(x, Tensor) and x.ndim)

    assert record.losses.shape == (12, 3)
    assert bool(record.losses[5:, 1].isnan().all())
    assert bool(record.validation[12][1].isnan())
    assert record.tokens.tolist() == [12 * 64, 4 * 64, 12 * 64]
    torch.testing.assert_close(record.losses[:, [0, 2]], others.record.losses, rtol=0, atol=APART)
    for p, q in zip(run.model.parameters(), others.model.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=0, atol=APART)


def test_rates_that_are_too_great_diverge_by_themselves_and_a_run_may_lose_all() -> None:
    run = training(
        "LoRAMuon",
        [(0.05, 0), (0.05, 1)],
        others=lambda p: MemberAdamW(p, lr=torch.tensor([1e3, 1e4], dtype=torch.float64)),
    )
    record = run.run(10, validate_at=[0, 10])
    assert sorted(record.diverged) == [0, 1]
    assert run.active == []
    assert record.losses.shape[0] == 1 + max(gone.step for gone in record.diverged.values()) < 10
    assert sorted(record.validation) == [0]
    assert all(
        gone.loss > 3 * math.log(run.model.architecture.vocabulary)
        for gone in record.diverged.values()
    )


@pytest.mark.parametrize("name", ["FactorMuon", "LoRAMuon", "Spectron", "Muon"])
@pytest.mark.parametrize(("dtype", "apart"), [(torch.float32, 1e-4), (torch.bfloat16, 1e-1)])
def test_a_member_whose_update_overflows_leaves_alone(
    name: str, dtype: torch.dtype, apart: float
) -> None:
    # The rate is infinite in these dtypes.
    members = [(RATES[name], 0), (1e39, 1), (RATES[name], 2)]
    run = training(name, members, dtype=dtype)
    record = run.run(5)
    others = training(name, [members[0], members[2]], dtype=dtype).run(5)
    assert {i: (gone.step, gone.reason) for i, gone in record.diverged.items()} == {
        1: (0, "the update overflows")
    }
    torch.testing.assert_close(record.losses[:, [0, 2]], others.losses, rtol=0, atol=apart)


def failing_for(place: int) -> Callable[[Tensor], Tensor]:
    """Of the gradients of three members, those of one so large that their squares overflow."""

    def enlarge(gradient: Tensor) -> Tensor:
        if len(gradient) < 3:
            return gradient
        enlarged = gradient.clone()
        enlarged[place] *= 1e200
        return enlarged

    return enlarge


def rite(pairs: list[Any], lr: Tensor) -> LoRARite:
    return LoRARite(pairs, lr=lr)


def test_a_member_whose_factorisation_fails_leaves_alone() -> None:
    members = [(0.01, 0), (0.02, 1), (0.005, 2)]
    run, others = (
        training("LoRAMuon", each, optimizer=rite) for each in (members, [members[0], members[2]])
    )
    beside = training("LoRAMuon", members, optimizer=rite)
    for each in (run, beside):
        each.run(4)
    run.model.roles()[0][0][0].register_hook(failing_for(1))
    with torch.no_grad():
        beside.model.positions[1, 0, 0] = torch.nan
    for each in (run, beside, others):
        each.run(12, validate_at=[12])

    assert [*run.record.diverged] == [1]
    gone = run.record.diverged[1]
    assert gone.step == 4
    assert gone.reason.startswith("a factorisation failed: linalg.")
    assert gone.loss == float(run.record.losses[4, 1])
    assert run.active == [0, 2]
    assert run.model.members == 2
    assert run.record.tokens.tolist() == [12 * 64, 4 * 64, 12 * 64]
    # As one from which it was taken for another reason, to the bit, and as one without it.
    left = [0, 2]
    assert torch.equal(run.record.losses[:, left], beside.record.losses[:, left])
    assert bitwise(weights(run), weights(beside))
    torch.testing.assert_close(run.record.losses[:, left], others.record.losses, rtol=0, atol=APART)
    for p, q in zip(run.model.parameters(), others.model.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=0, atol=APART)


def test_a_member_alone_whose_factorisation_fails_is_recorded_alike() -> None:
    run = training("LoRAMuon", [(0.02, 1)], optimizer=rite)
    run.run(2)
    factor = run.model.roles()[0][0][0]
    factor.register_hook(lambda gradient: 1e200 * gradient)
    record = run.run(5, validate_at=[5])
    assert [*record.diverged] == [0]
    assert record.diverged[0].step == 2
    assert record.diverged[0].reason.startswith("a factorisation failed: linalg.")
    assert run.active == []
    assert record.losses.shape == (3, 1)


def test_rates_follow_the_schedule() -> None:
    run = training("Muon", [(0.1, 0), (0.2, 1)], schedule=linear_decay(4))
    found = []
    for step in range(1, 5):
        run.run(step)
        layers, others = (optimizer.param_groups[0]["lr"] for optimizer in run._optimizers)
        found.append([*layers.tolist(), others])
    expected = [[0.1 * x, 0.2 * x, 3e-3 * x] for x in (1, 0.75, 0.5, 0.25)]
    torch.testing.assert_close(torch.tensor(found), torch.tensor(expected))


def test_a_schedule_that_ends_too_soon_is_told_before_any_step() -> None:
    run = training("Muon", [(0.1, 0)], schedule=cosine_decay(4))
    with pytest.raises(ValueError, match=r"step must lie in \[0, 4\], got 9"):
        run.run(10)
    assert (run.step, len(run.record.loss_rows)) == (0, 0)
    assert run.run(4).losses.shape == (4, 1)


def test_what_is_recorded() -> None:
    seen: list[int] = []

    def progress(record: TrainingRecord) -> None:
        seen.append(len(record.loss_rows))

    run = training("AdamW", [(0.01, 0), (0.01, 1)])
    first = run.run(3, validate_at=[0, 2, 5], progress=progress)
    seconds = first.seconds
    record = run.run(5, validate_at=[0, 2, 5], progress=progress)
    assert record is first
    assert seen == [1, 2, 3, 4, 5]
    assert record.members == (Member(0.01, 0), Member(0.01, 1))
    assert sorted(record.validation) == [0, 2, 5]
    assert record.losses.shape == (5, 2)
    assert record.tokens.tolist() == [5 * 4 * 16] * 2
    assert record.seconds > seconds > 0
    assert bool((record.validation[5] < record.validation[0]).all())


def test_validation_is_the_mean_over_all_windows() -> None:
    run = training("Muon", [(0.1, 0)], evaluation_tokens=1500)
    inputs, targets = (part[None] for part in run._windows)
    # More windows than are evaluated at once, and no multiple of it.
    assert inputs.shape == (1, 93, 16)
    expected = run.model.token_losses(inputs, targets).mean()
    torch.testing.assert_close(run.validation_losses()[0], expected.detach())


def test_an_optimiser_without_some_of_the_layers_is_refused() -> None:
    with pytest.raises(ValueError, match="SGD: all 12 parameters are expected, got 6 of them"):
        training("LoRAMuon", [(0.1, 0)], optimizer=lambda pairs, lr: torch.optim.SGD(pairs, 0.1))


def test_bad_input_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="members: at least one"):
        training("Muon", [])
    for rate in (-0.1, math.nan, math.inf):
        with pytest.raises(ValueError, match="the rate of a member must be finite and >= 0, got"):
            training("Muon", [(0.1, 0), (rate, 1)])
    with pytest.raises(ValueError, match="rank: at most min"):
        architecture("LoRAMuon", rank=17)
    with pytest.raises(ValueError, match=f"{len(corpus().vocabulary)} characters, is expected"):
        EnsembleTraining(
            corpus(),
            architecture("Muon").__class__(vocabulary=5, length=8),
            [(0.1, 0)],
            OPTIMIZERS["Muon"],
            batch_size=2,
        )
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="this machine has no CUDA device"):
        training("Muon", [(0.1, 0)], device="cuda")
