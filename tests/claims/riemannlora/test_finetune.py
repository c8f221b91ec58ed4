"""The contest of fine-tuning: planted losses get the numbers they should, and runs are runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from claims import REGISTRY
from claims.measuring.adapter_contest import ADAMW, MUON, Contest
from claims.measuring.tuned import Tuned
from claims.registry import Setting, Verdict
from claims.riemannlora import finetune
from claims.riemannlora.finetune import CONTESTANTS, OURS, RSLORA
from claims.running.one import run_claim
from simulate.tuning import Protocol, Tuning

TRAINED = ("riemannlora.finetune",)
TINY: dict[str, Any] = {
    "seeds": 2, "tokens": 5_000, "length": 16, "width": 16, "depth": 1, "batch": 2,
    "pretraining": 2, "steps": 3, "recorded": 2, "evaluation": 64, "start_batch": 4,
    "rates": (0.1, 0.3, 1.0), "refinements": 0,
}  # fmt: skip
RATES = (0.01, 0.03, 0.1, 0.3, 1.0)
STEPS = np.array([1, 25, 50, 75, 100])


def tiny() -> Setting:
    return replace(REGISTRY[TRAINED[0]], tiers={"full": TINY}).setting("full", 0)


def planted(monkeypatch: pytest.MonkeyPatch, ends: Mapping[str, float]) -> None:
    """Losses that fall along a line from 3.3, to 1.5 where nothing else is given."""

    def runs(_: Setting) -> Contest:
        contestants = {}
        for place, name in enumerate(CONTESTANTS):
            own = 0.005 * np.random.default_rng(place).standard_normal(6)
            end = ends.get(name, 1.5) + own + 0.2 * np.abs(np.arange(5) - 3)[:, None]
            tuning = Tuning(Protocol(RATES))
            tuning.add(RATES, end)
            curves = 3.3 + (end[:, None] - 3.3) * (STEPS / 100)[:, None]
            contestants[name] = Tuned(tuning, curves)
        return Contest(contestants, STEPS, 0.9, 3.3, 0.6)

    monkeypatch.setattr(finetune, "_runs", runs)


def test_losses_and_steps_are_paired_differences(monkeypatch: pytest.MonkeyPatch) -> None:
    planted(monkeypatch, {OURS: 1.3, RSLORA: 1.4})
    evidence = finetune.check_finetuning(tiny())
    values = {measurement.name: measurement.value for measurement in evidence.measurements}
    assert values["loss less AdamW's, upper end, nats"] == pytest.approx(-0.2, abs=0.02)
    assert values["loss less RSLoRA's, upper end, nats"] == pytest.approx(-0.1, abs=0.02)
    # The target is 1.5: a line to 1.3 is there after 90 steps, one to 1.4 after 94.7.
    steps = values["log of steps over RSLoRA's, upper end"]
    assert steps == pytest.approx(np.log(90 / 94.7), abs=0.02)
    assert evidence.remarks[0].startswith("the optimal start takes the backward passes of 8 steps")
    assert "RSLoRA 1.0" in evidence.remarks[0]
    assert evidence.arrays["excess"][0].tolist() == [0, 0, 0]
    assert evidence.arrays["bands"].shape == (len(CONTESTANTS), 5, 3)
    assert any(remark.startswith(ADAMW) and "less it -0." in remark for remark in evidence.remarks)


def test_a_rival_that_does_not_learn_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    planted(monkeypatch, {OURS: 1.3})
    runs = finetune._runs(tiny())
    assert finetune.check_finetuning(tiny()).holds
    rival = runs.contestants[ADAMW].tuning
    rival.losses = np.full_like(rival.losses, 3.3)
    monkeypatch.setattr(finetune, "_runs", lambda _: runs)
    evidence = finetune.check_finetuning(tiny())
    missed = [measurement.name for measurement in evidence.measurements if not measurement.holds]
    assert missed == ["best rates left at an edge, of those compared"]


def test_a_tenth_of_the_rate_is_two_places_below(monkeypatch: pytest.MonkeyPatch) -> None:
    planted(monkeypatch, {OURS: 1.3})
    control = finetune.control_rate(tiny())
    assert not control.holds
    assert control.remarks == ("Riemannion at 0.03 instead of 0.3",)
    assert control.measurements[0].value == pytest.approx(0.2, abs=0.02)


def test_contestants_begin_where_they_say() -> None:
    starts = {name for name, entrant in CONTESTANTS.items() if entrant.start is not None}
    assert starts == {OURS, "RiemannLoRA, Adam", "RiemannLoRA, SGD", "AdamW, optimal start"}
    assert CONTESTANTS[RSLORA].scale == pytest.approx(8 / 8**0.5)
    assert {ADAMW, RSLORA, MUON} == set(finetune.RIVALS)


def test_runs_go_from_end_to_end() -> None:
    outcome = run_claim(replace(REGISTRY[TRAINED[0]], tiers={"full": TINY}), "full", 0)
    assert outcome.verdict is not Verdict.ERROR, outcome.traceback
    assert outcome.evidence is not None
    arrays = outcome.evidence.arrays
    assert arrays["contestants"].tolist() == list(CONTESTANTS)
    assert arrays["curves"].shape == (len(CONTESTANTS), 2, 2)
    assert np.isfinite(arrays["measured"]).all()


def test_the_quick_tier_says_why_it_skips() -> None:
    outcome = run_claim(REGISTRY[TRAINED[0]], "quick", 0)
    assert outcome.verdict is Verdict.SKIPPED
    assert "begins at the full tier" in outcome.reason
