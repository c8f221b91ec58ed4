"""The claim on step times: that controls fail by construction, and steps that do more."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from claims import REGISTRY
from claims.lora_muon.step_time import FASTER, LIKE_NUMERICS
from claims.registry import Setting
from geometry.gauge import Pair
from simulate.optimizers import LoRAMuon
from simulate.optimizers.pair_optimizer import Batch
from tests.claims.test_small_sizes import SMALL

DIRECTION = LoRAMuon.direction


def test_the_core_is_not_faster_than_the_fastest_qr_form() -> None:
    claim = REGISTRY["lora-muon.adapter-step-time"]
    evidence = claim.controls["LoRA-RITE's core"](claim.setting("quick", 0))
    (upper,) = (m for m in evidence.measurements if "QR form" in m.name)
    assert upper.bound == FASTER < 1
    assert upper.value >= 1


def work_done_twice(self: LoRAMuon, batch: Batch, moments: Pair) -> Pair:
    DIRECTION(self, batch, moments)
    return DIRECTION(self, batch, moments)


def a_dense_product_from_the_second_step_on(self: LoRAMuon, batch: Batch, moments: Pair) -> Pair:
    if batch.step:
        _ = batch.factors[0] @ batch.factors[1]
    return DIRECTION(self, batch, moments)


@pytest.mark.parametrize(
    ("direction", "missed"),
    [
        (work_done_twice, "step over the fastest QR form"),
        (work_done_twice, f"step {LIKE_NUMERICS}"),
        (a_dense_product_from_the_second_step_on, "entries of the largest tensor"),
    ],
)
def test_a_step_that_does_more_is_seen(
    direction: Callable[[LoRAMuon, Batch, Pair], Pair],
    missed: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(LoRAMuon, "direction", direction)
    identifier = "lora-muon.adapter-step-time"
    claim = REGISTRY[identifier]
    # Neither Riemannion nor dense Muon.
    sizes = {"slow_ranks": (), "dense_up_to": 0}
    evidence = claim.check(
        Setting("quick", 1, {**claim.tiers["quick"], **SMALL[identifier], **sizes})
    )
    assert any(m.name.startswith(missed) for m in evidence.measurements if not m.holds)
