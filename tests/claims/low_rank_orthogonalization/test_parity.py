"""Parity of momenta: planted accuracies get the verdicts they should, and runs are runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from claims import REGISTRY
from claims.judging import judge
from claims.low_rank_orthogonalization import parity
from claims.registry import Means, Setting, Verdict
from claims.running.one import run_claim
from simulate.cells import Contestant
from simulate.classification import ImageCurve

TRAINED = ("nesterov.polyak-parity",)
TINY: dict[str, Any] = {
    "train": 40, "validation": 20, "test": 30, "steps": 2, "batch": 4, "seeds": 3,
}  # fmt: skip


def tiny() -> Setting:
    return replace(REGISTRY["nesterov.polyak-parity"], tiers={"full": TINY}).setting("full", 0)


def planted(
    monkeypatch: pytest.MonkeyPatch, points: Mapping[str, float], noise: float = 0.3, best: int = 1
) -> None:
    """Accuracies in percent by contestant, 85 where none is given, with seeds in common."""

    def curves(_: Setting, contestants: Sequence[Contestant]) -> list[ImageCurve]:
        shared = np.random.default_rng(0).standard_normal(12)
        made = []
        for place, each in enumerate(contestants):
            own = np.random.default_rng(place + 1).standard_normal(12)
            percent = points.get(each.name, 85.0) + 0.5 * shared + noise * own
            # The grid's other rates are five points worse; test is validation.
            table = np.stack([percent / 100 - 0.05 * abs(k - best) for k in range(3)])
            rates = np.array([0.03, 0.1, 0.3])
            made.append(ImageCurve(each, rates, table, table, np.zeros((2, 12))))
        return made

    monkeypatch.setattr(parity, "_curves", curves)


def verdict() -> tuple[Verdict, str]:
    claim, setting = REGISTRY["nesterov.polyak-parity"], tiny()
    controls = {name: control(setting) for name, control in claim.controls.items()}
    return judge(claim, claim.check(setting), controls)


def test_the_same_accuracy_holds_and_a_lower_one_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    low = {parity.LOW_RANK.name: 82.0}
    planted(monkeypatch, low)
    assert verdict()[0] is Verdict.HOLDS
    planted(monkeypatch, low | {parity.POLYAK.name: 83.5})
    kind, reason = verdict()
    assert kind is Verdict.FAILS
    assert "apart" in reason
    assert "own intervals: the farthest two are 1." in parity.check_parity(tiny()).remarks[-2]
    # A sketch that loses nothing proves nothing.
    planted(monkeypatch, {})
    assert verdict()[0] is Verdict.VACUOUS


def test_few_and_noisy_runs_do_not_pass_for_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    planted(monkeypatch, {parity.LOW_RANK.name: 82.0}, noise=2.0)
    kind, reason = verdict()
    assert kind is Verdict.FAILS
    assert "upper end" in reason


def test_a_best_rate_at_the_edge_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    planted(monkeypatch, {parity.LOW_RANK.name: 82.0}, best=2)
    kind, reason = verdict()
    assert kind is Verdict.FAILS
    assert "edge" in reason


def test_differences_are_paired_and_told_in_points(monkeypatch: pytest.MonkeyPatch) -> None:
    planted(monkeypatch, {parity.POLYAK.name: 85.2}, noise=1e-9)
    evidence = parity.check_parity(tiny())
    # Seeds differ by half a point, and all alike.
    assert any("Polyak less Nesterov: +0.20 [+0.20, +0.20] points" in x for x in evidence.remarks)
    error = 15 - 0.5 * np.random.default_rng(0).standard_normal(12).mean()
    assert evidence.measurements[0].value == pytest.approx(0.2 / error, rel=1e-3)
    assert evidence.measurements[0].bound == pytest.approx(0.28 / 6.23)


def test_runs_go_from_end_to_end_and_are_gone_on_with(tmp_path: Path) -> None:
    claim = replace(REGISTRY["nesterov.polyak-parity"], tiers={"full": TINY})
    shares: list[float] = []
    outcome = run_claim(claim, "full", 0, Means(tmp_path, 1, shares.append))
    assert outcome.verdict is not Verdict.ERROR, outcome.traceback
    assert shares[-1] == 1.0
    assert all(0 < share <= 1 for share in shares)
    evidence = outcome.evidence
    assert evidence is not None
    assert evidence.arrays["contestants"].tolist() == [
        "Nesterov", "Polyak", "Nesterov, randomised", "Polyak, randomised",
    ]  # fmt: skip
    assert evidence.arrays["test"].shape[::2] == (4, 3)
    assert evidence.arrays["training_loss"].shape == (4, 2, 3)
    # It goes on with what is kept and has the same numbers, in other processes as well.
    kept = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    again = parity.check_parity(replace(tiny(), means=Means(tmp_path)))
    assert again.measurements == evidence.measurements
    elsewhere = parity.control_low_rank(replace(tiny(), means=Means(tmp_path, 2, shares.append)))
    assert elsewhere.measurements == outcome.controls["sketch of rank 16"].measurements
    assert shares[-1] == 1.0
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == kept


def test_the_quick_tier_says_why_it_skips() -> None:
    outcome = run_claim(REGISTRY["nesterov.polyak-parity"], "quick", 0)
    assert outcome.verdict is Verdict.SKIPPED
    assert "begins at the full tier" in outcome.reason
