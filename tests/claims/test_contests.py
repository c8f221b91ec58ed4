"""Contests of optimisers that are not what they are called decide nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from torch import Tensor

import geometry.lora
import geometry.tensor
import simulate.optimizers.momentum
import simulate.optimizers.orthogonalizing
import simulate.optimizers.pair_optimizer
import simulate.optimizers.sketching
import simulate.optimizers.spectron
from claims import REGISTRY
from claims.lora_muon.steps_written_out import IN_FLOAT32
from claims.measuring import adapter_contest
from claims.measuring.written_out import DRAWN_ANEW, WRITTEN_OUT
from claims.registry import Setting
from geometry.gauge import Pair
from simulate.optimizers import LoRAMuon, MemberAdamW, MemberSGD
from simulate.optimizers.pair_optimizer import Batch, State
from tests.claims.low_rank_orthogonalization.test_parity import TINY as ON_IMAGES
from tests.claims.riemannlora.test_finetune import TINY as FINE_TUNED
from tests.claims.tensorion.test_convergence import TINY as ON_TENSORS
from tests.claims.test_learning_rates import TINY as ON_TEXT
from tests.claims.test_small_sizes import SMALL
from tests.claims.test_wrong_code import Broken, everywhere

RESCALED = "nats gained over layers that stay as they begin, least"
SPECTRUM = {
    "seeds": 2, "tokens": 2_000, "length": 8, "width": 8, "depth": 1, "batch": 2, "pretraining": 3,
    "steps": 3, "recorded": 3, "evaluation": 64, "rates": (0.1, 0.3, 1.0),
}  # fmt: skip


def no_momentum_of_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    averaged = simulate.optimizers.pair_optimizer.averaged
    everywhere(monkeypatch, averaged, lambda batch, _: batch.gradients)


def no_momentum(monkeypatch: pytest.MonkeyPatch) -> None:
    averaged = simulate.optimizers.momentum.averaged
    everywhere(monkeypatch, averaged, lambda _, G, options: (G, G))


def no_look_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    averaged = simulate.optimizers.momentum.averaged

    def plain(M: Tensor, G: Tensor, options: dict[str, Any]) -> tuple[Tensor, Tensor]:
        return averaged(M, G, {**options, "nesterov": False})

    everywhere(monkeypatch, averaged, plain)


def no_momentum_of_sgd(monkeypatch: pytest.MonkeyPatch) -> None:
    updated = MemberSGD.updated

    def without(self: MemberSGD, W: Tensor, G: Tensor, buffers: Any, options: Any) -> Any:
        return updated(self, W, G, buffers, {**options, "momentum": 0.0})

    monkeypatch.setattr(MemberSGD, "updated", without)


def no_first_moment_of_adam(monkeypatch: pytest.MonkeyPatch) -> None:
    update = MemberAdamW._update

    def without(self: MemberAdamW, parameters: list[Tensor], step: int, group: Any) -> None:
        update(self, parameters, step, {**group, "betas": (0.0, group["betas"][1])})

    monkeypatch.setattr(MemberAdamW, "_update", without)


def one_sketch_for_all_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    ahead = simulate.optimizers.sketching._drawn_ahead

    def first(stack: Any, steps: Any, count: int) -> Any:
        return replace(ahead(stack, [0 for _ in steps], count), first=tuple(steps))

    monkeypatch.setattr(simulate.optimizers.sketching, "_drawn_ahead", first)


def one_sketch_for_all_members(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        simulate.optimizers.sketching._Ahead,
        "at",
        lambda self, steps: self.numbers[steps[0] - self.first[0]][:, 0 * self.place],
    )


def one_unfolding_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    online = geometry.tensor.online_unfolding
    everywhere(monkeypatch, online, lambda *given: 0 * online(*given))


def steps_far_too_short(monkeypatch: pytest.MonkeyPatch) -> None:
    moved = simulate.optimizers.orthogonalizing.factors_moved
    everywhere(monkeypatch, moved, lambda batch, m, length: moved(batch, m, 1e-3 * length))


def no_step(monkeypatch: pytest.MonkeyPatch) -> None:
    def still(self: LoRAMuon, batch: Batch, state: State) -> tuple[Pair, State]:
        return batch.factors, state

    monkeypatch.setattr(LoRAMuon, "updated", still)


def a_longer_step_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    direction = geometry.lora.split_direction_by_gram

    def longer(*factors: Tensor, **options: Any) -> Pair:
        D_B, D_A = direction(*factors, **options)
        return 1.01 * D_B, 1.01 * D_A

    everywhere(monkeypatch, direction, longer)


def a_length_without_the_one(monkeypatch: pytest.MonkeyPatch) -> None:
    norm = simulate.optimizers.spectron._norm

    def less(*given: Any) -> tuple[Tensor, Tensor]:
        size, direction = norm(*given)
        return size - 0.5, direction

    everywhere(monkeypatch, norm, less)


@pytest.mark.parametrize(
    ("identifier", "sizes", "broken", "missed"),
    [
        ("usg.lora-finetune-spectrum", SPECTRUM, no_momentum_of_pairs, WRITTEN_OUT),
        ("usg.lora-finetune-spectrum", SPECTRUM, no_momentum_of_sgd, WRITTEN_OUT),
        ("usg.lora-finetune-spectrum", SMALL["usg.lora-finetune-spectrum"], steps_far_too_short,
         "optimisers compared that are best at an end of their grid"),
        ("riemannlora.finetune", FINE_TUNED, no_first_moment_of_adam, WRITTEN_OUT),
        ("nesterov.polyak-parity", ON_IMAGES, no_look_ahead, WRITTEN_OUT),
        ("nesterov.polyak-parity", ON_IMAGES, one_sketch_for_all_steps, DRAWN_ANEW),
        ("nesterov.polyak-parity", ON_IMAGES, one_sketch_for_all_members, DRAWN_ANEW),
        ("low-rank.pretraining", ON_TEXT | {"width": 16}, no_momentum, WRITTEN_OUT),
        ("tensorion.convergence", ON_TENSORS, one_unfolding_for_all, WRITTEN_OUT),
        ("lora-muon.lr-transfer-rescaling", SMALL["lora-muon.lr-transfer-rescaling"], no_step,
         RESCALED),
        ("lora-muon.lr-transfer-rescaling", SMALL["lora-muon.lr-transfer-rescaling"],
         no_momentum_of_pairs, WRITTEN_OUT),
        ("lora-muon.lr-transfer-rescaling", SMALL["lora-muon.lr-transfer-rescaling"],
         a_longer_step_in_float32, IN_FLOAT32),
        ("lora-muon.lr-transfer-rank", ON_TEXT, no_momentum, WRITTEN_OUT),
        ("lora-muon.rank-2-proxy", ON_TEXT, no_momentum_of_pairs, WRITTEN_OUT),
        ("lora-muon.lr-transfer-width-depth", ON_TEXT, no_first_moment_of_adam, WRITTEN_OUT),
        ("lora-muon.best-rate-rescaling", ON_TEXT, a_length_without_the_one, WRITTEN_OUT),
        ("lora-muon.rank-32-beats-dense", ON_TEXT, a_longer_step_in_float32, IN_FLOAT32),
    ],
)  # fmt: skip
def test_what_is_broken_is_seen(
    identifier: str,
    sizes: dict[str, Any],
    broken: Broken,
    missed: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    claim = REGISTRY[identifier]
    setting = Setting("full", 1, {**claim.tiers.get("quick", {}), **sizes})
    broken(monkeypatch)
    # Runs of code that was not broken are kept.
    adapter_contest._last.clear()
    measured = {each.name: each.holds for each in claim.check(setting).measurements}
    assert not measured[missed]
