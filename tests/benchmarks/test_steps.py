"""The benchmark of optimiser steps: who runs, what is counted, when the bar is met."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

import benchmarks.__main__ as command
from benchmarks.steps import BAR, DENSE, FACTORED, JUDGED, OURS, StepRow, ratios, steps


def test_everybody_runs_and_nothing_dense_is_made() -> None:
    size, rank = 96, 4
    rows = list(steps([size], [rank], 2, lambda _: None))
    assert [row.contestant for row in rows] == [DENSE, *FACTORED]
    assert all(row.seconds > 0 for row in rows)
    assert rows[0].largest == size**2
    on_the_manifold = {"RiemannLoRA", "Riemannion"}
    for row in rows[1:]:
        # A tangent vector is a matrix of twice the rank.
        times = 2 if row.contestant in on_the_manifold else 1
        assert row.largest == times * size * rank
    # Gram matrices are taken in float64.
    assert {row.contestant: row.largest_bytes for row in rows}[OURS] == 8 * size * rank
    kept = {row.contestant: row.kept for row in rows}
    assert kept[OURS] == 2 * size * rank
    assert kept["LoRA-RITE"] > 2 * kept[OURS]
    assert {kept[name] for name in on_the_manifold} == {4 * size * rank}
    assert ratios(rows) == {}


def test_the_bar_is_a_ratio_of_times() -> None:
    size, rank, least = BAR
    dense = StepRow(size, None, DENSE, 2.0, 1, 4, 1)
    own = [StepRow(size, rank, name, 0.05, 1, 4, 1) for name in JUDGED]
    assert ratios([dense, *own]) == pytest.approx(dict.fromkeys(JUDGED, 40.0))
    slow = replace(own[0], seconds=1.0)
    assert min(ratios([dense, slow, *own[1:]]).values()) < least
    other = replace(own[1], rank=2 * rank)
    assert ratios([dense, other]) == ratios(own) == {}


def test_the_command_prints_and_records(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(command, "keep_to", lambda threads: None)
    arguments = ["steps", "--size", "64", "--rank", "2", "--repeats", "1", "--out", str(tmp_path)]
    result = CliRunner().invoke(command.app, arguments)
    assert result.exit_code == 0, result.output
    assert OURS in result.output
    content = json.loads((tmp_path / "steps.json").read_text())
    assert len(content["rows"]) == 1 + len(FACTORED)
    assert content["bar"]["ratios"] == {}
    wrong = CliRunner().invoke(command.app, [*arguments[:3], "--rank", "65"])
    assert wrong.exit_code == 2
    assert "at most the smallest size, 64, is expected; given 65" in " ".join(
        wrong.output.replace("│", " ").split()
    )
