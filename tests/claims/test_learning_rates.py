"""The claims on learning rates: planted curves get the verdicts they should, and runs are runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from claims import REGISTRY
from claims.lora_muon import compute_matched, transfer
from claims.lora_muon.contestants import LORA_MUON, MUON
from claims.measuring.study import Study, not_here
from claims.registry import Evidence, Means, Setting, Verdict
from claims.running.one import run_claim
from simulate.cells import Line
from simulate.optimizers import LowRankMuon
from simulate.sweep import Curve

TRAINED = (
    "lora-muon.lr-transfer-rank",
    "lora-muon.rank-2-proxy",
    "lora-muon.lr-transfer-width-depth",
    "lora-muon.best-rate-rescaling",
    "lora-muon.rank-32-beats-dense",
    "low-rank.pretraining",
)
TINY: dict[str, Any] = {
    "corpus": "synthetic", "characters": 2_000, "length": 8, "width": 8, "depth": 1, "steps": 2,
    "batch": 2, "seeds": 3, "ranks": (2, 4), "rank": 2, "widths": (4,), "depths": (2,),
    "rescalings": (3.0,),
}  # fmt: skip
RATES = 10.0 ** np.arange(-2.5, 0.5, 0.25)


def tiny(identifier: str, **sizes: Any) -> Setting:
    claim = REGISTRY[identifier]
    return replace(claim, tiers={"full": TINY | sizes}).setting("full", 0)


def planted(
    monkeypatch: pytest.MonkeyPatch,
    best: Mapping[int | None, float] | Callable[[Line], float],
    extra: Callable[[Line], float] = lambda _: 0.0,
) -> None:
    """Sweeps whose curves are parabolas, with the best rates by rank or by line, and a loss that
    some have beside."""

    def curves(study: Study, lines: Sequence[Line]) -> list[Curve]:
        made = []
        for line in lines:
            rank = line.architecture.rank
            lowest = best(line) if callable(best) else best[rank]
            curve = (np.log10(RATES / lowest)) ** 2
            seeds = 1e-3 * np.random.default_rng(rank or 0).standard_normal((len(RATES), 6))
            losses = 1.0 + extra(line) + curve[:, None] + seeds
            made.append(Curve(line, RATES, losses, np.full(losses.shape, -1), 0.0))
        return made

    monkeypatch.setattr(Study, "curves", curves)


def at_rank_2(loss: float) -> Callable[[Line], float]:
    return lambda line: loss if line.architecture.rank == 2 else 0.0


def of_low_rank_muon(loss: float) -> Callable[[Line], float]:
    return lambda line: loss if line.contestant.make is LowRankMuon else 0.0


def largest(evidence: Evidence) -> float:
    return max(m.value for m in evidence.measurements if m.name.startswith("farthest"))


def test_a_rate_that_transfers_holds_and_one_that_moves_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    setting = tiny("lora-muon.lr-transfer-rank")
    planted(monkeypatch, {None: 0.1, 2: 0.13, 4: 0.09})
    evidence = transfer.check_ranks(setting)
    assert evidence.holds
    assert largest(evidence) == pytest.approx(2 * np.log10(1.3), rel=0.2)
    planted(monkeypatch, {None: 0.1, 2: 0.45, 4: 0.09})
    evidence = transfer.check_ranks(setting)
    assert [m.holds for m in evidence.measurements] == [False, True, True, True, True]
    assert largest(evidence) > 1.2
    # The same distance below.
    planted(monkeypatch, {None: 0.1, 2: 0.022, 4: 0.09})
    assert largest(transfer.check_ranks(setting)) == pytest.approx(
        2 * np.log10(0.1 / 0.022), rel=0.1
    )


def missed(identifier: str) -> list[str]:
    # So wide that no two sketches have one and the same column by chance.
    evidence = REGISTRY[identifier].check(tiny(identifier, width=32))
    return [m.name for m in evidence.measurements if not m.holds]


@pytest.mark.parametrize("identifier", TRAINED)
def test_best_rates_at_an_edge_are_not_known(
    identifier: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    better = at_rank_2(-0.05) if "beats-dense" in identifier else of_low_rank_muon(0.05)
    planted(monkeypatch, lambda _: 0.1, better)
    assert missed(identifier) == []
    # The same for all, at the least rate that was tried.
    planted(monkeypatch, lambda _: RATES[0] / 1.2, better)
    assert any(name.startswith("best rates left at an edge") for name in missed(identifier))


def test_low_rank_muon_that_is_no_worse_refutes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    planted(monkeypatch, lambda _: 0.1, of_low_rank_muon(-0.05))
    found = missed("low-rank.pretraining")
    assert len(found) == 3
    assert all(name.startswith("excess loss over Muon, lower end") for name in found)


@pytest.mark.parametrize(
    ("identifier", "axis", "told"),
    [
        ("lora-muon.lr-transfer-width-depth", "width", "width"),
        ("lora-muon.best-rate-rescaling", "factor_rescaling", "scale"),
    ],
)
def test_a_rate_in_proportion_to_a_size_is_no_transfer(
    identifier: str, axis: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    law = f"exponent of the best rate in the {told}, farthest"
    # A root of it is the weakest law that there is to be told from none.
    for power, holds in ((0.0, True), (0.2, True), (0.6, False), (-0.6, False)):

        def best(line: Line, power: float = power) -> float:
            return float(0.1 * getattr(line.architecture, axis) ** power)

        planted(monkeypatch, best)
        assert (law not in missed(identifier)) is holds, power


def test_what_is_recorded_is_what_was_swept(monkeypatch: pytest.MonkeyPatch) -> None:
    planted(monkeypatch, {None: 0.1, 2: 0.13, 4: 0.09})
    arrays = transfer.check_ranks(tiny("lora-muon.lr-transfer-rank")).arrays
    assert arrays["ranks"].tolist() == [0, 2, 4]
    assert arrays["losses"].shape == (3, len(RATES), 6)
    assert arrays["best"][:, 0] == pytest.approx([0.1, 0.13, 0.09], rel=0.02)
    assert (arrays["best"][:, 1] <= arrays["best"][:, 0]).all()
    assert (arrays["best"][:, 0] <= arrays["best"][:, 2]).all()


def test_low_rank_against_dense_is_judged_by_the_paired_difference(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    setting = tiny("lora-muon.rank-32-beats-dense")
    best: dict[int | None, float] = {None: 0.1, 2: 0.1}
    planted(monkeypatch, best, at_rank_2(-0.05))
    evidence = compute_matched.check_operations(setting)
    assert evidence.holds
    assert evidence.arrays["excess"].mean() == pytest.approx(-0.05, abs=2e-3)
    assert evidence.measurements[0].value == pytest.approx(-0.05, abs=4e-3)
    # With the same loss, and a larger one, it does not beat anything.
    for extra in (0.0, 0.05):
        planted(monkeypatch, best, at_rank_2(extra))
        assert not compute_matched.check_operations(setting).holds


def test_forward_operations_are_matched() -> None:
    study = Study(tiny("lora-muon.rank-32-beats-dense"))
    (dense,) = study.lines(MUON)
    (low,) = study.lines(LORA_MUON, rank=[2])
    steps = compute_matched.check_operations(study.setting).arrays["steps"].tolist()
    ratio = dense.architecture.forward_flops / low.architecture.forward_flops
    assert steps[0] == dense.steps
    assert abs(steps[1] - dense.steps * ratio) <= 0.5
    tokens = compute_matched.control_tokens(study.setting).arrays["steps"].tolist()
    assert tokens == [dense.steps, dense.steps]


@pytest.mark.parametrize("identifier", TRAINED)
def test_every_sweep_runs_from_end_to_end(identifier: str, tmp_path: Path) -> None:
    claim = replace(REGISTRY[identifier], tiers={"full": TINY})
    shares: list[float] = []
    outcome = run_claim(claim, "full", 0, Means(tmp_path, 1, shares.append))
    assert outcome.verdict is not Verdict.ERROR, outcome.traceback
    assert set(outcome.controls) == set(claim.controls)
    assert shares[-1] == 1.0
    assert min(shares) > 0
    # It goes on with what is kept, and has the same numbers.
    kept = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    again = run_claim(claim, "full", 0, Means(tmp_path))
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == kept
    assert outcome.evidence is not None
    assert again.evidence is not None
    assert again.evidence.measurements == outcome.evidence.measurements


def test_the_number_of_processes_changes_no_number() -> None:
    claim = replace(REGISTRY["lora-muon.rank-2-proxy"], tiers={"full": TINY})
    one, two = (run_claim(claim, "full", 0, Means(None, jobs)).evidence for jobs in (1, 2))
    assert one is not None
    assert two is not None
    assert one.measurements == two.measurements


def test_where_a_sweep_cannot_run_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    claim = REGISTRY["lora-muon.lr-transfer-rank"]
    outcome = run_claim(claim, "quick", 0)
    assert outcome.verdict is Verdict.SKIPPED
    assert "begins at the full tier" in outcome.reason
    assert not_here(claim.setting("full", 0)) is None
    monkeypatch.setenv("PAPER_CHECKS_TINYSHAKESPEARE", "/nowhere/at/all")
    outcome = run_claim(claim, "paper", 0)
    assert outcome.verdict is Verdict.SKIPPED
    assert "/nowhere/at/all" in outcome.reason
