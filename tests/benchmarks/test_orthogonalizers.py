"""The benchmark of orthogonalisers: who runs, what they keep, when the bar is met."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

import benchmarks.__main__ as command
from benchmarks.orthogonalizers import (
    BAR,
    EXACT,
    FULL,
    OURS,
    OWN,
    PEERS,
    OrthogonalizerRow,
    orthogonalizers,
    planted,
    ratio,
)


def test_everybody_runs_and_keeps_what_can_be_kept() -> None:
    size, rank = 48, 6
    rows = list(orthogonalizers([size], [rank], 2, lambda _: None))
    assert [row.contestant for row in rows] == [FULL, EXACT, *OWN, *PEERS]
    assert all(row.seconds > 0 for row in rows)
    kept = {row.contestant: row.kept for row in rows}
    assert kept[EXACT] == pytest.approx(1, abs=1e-5)
    weights = 1 / torch.arange(1, size + 1)
    optimum = float(weights[:rank].sum() / weights.sum())
    assert kept["scipy svds, PROPACK"] == pytest.approx(optimum, abs=1e-5)
    for row in rows[2:]:
        if "five" not in row.contestant:
            # Partial isometries of that rank keep no more than the best of them.
            assert 0.7 * optimum < row.kept < optimum + 1e-5
    assert ratio(rows) is None


def test_planted_singular_values() -> None:
    s = torch.linspace(3, 1, 7, dtype=torch.float64)
    assert (torch.linalg.svdvals(planted(s)) - s).abs().max() < 1e-13


def test_the_bar_is_a_ratio_of_times() -> None:
    size, rank, least = BAR
    full = OrthogonalizerRow(size, None, FULL, 0.8, 0.9)
    own = OrthogonalizerRow(size, rank, OURS, 0.02, 0.5)
    assert ratio([full, own]) == pytest.approx(40.0)
    found = ratio([full, replace(own, seconds=0.1)])
    assert found is not None
    assert found < least


def test_the_command_prints_and_records(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(command, "keep_to", lambda threads: None)
    arguments = ["orthogonalizers", "--size", "32", "--rank", "4", "--repeats", "1"]
    result = CliRunner().invoke(command.app, [*arguments, "--out", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert OURS in result.output
    content = json.loads((tmp_path / "orthogonalizers.json").read_text())
    assert len(content["rows"]) == 2 + len(OWN) + len(PEERS)
    assert content["bar"]["ratio"] is None
    wrong = CliRunner().invoke(command.app, [*arguments, "--rank", "32"])
    assert wrong.exit_code == 2
    assert "at most one less than the smallest size, 31, is expected; given 32" in " ".join(
        wrong.output.replace("│", " ").split()
    )
