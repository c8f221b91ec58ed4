"""The benchmark of ensembles: who runs, what is timed, when the bar is met."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

import benchmarks.__main__ as command
from benchmarks.ensembles import BAR, CONTESTANTS, EnsembleRow, ensembles, judged, missed


def test_everybody_runs_and_everything_is_timed() -> None:
    rows = list(ensembles([16], [4], 3, 1, lambda _: None))
    assert [row.contestant for row in rows] == list(CONTESTANTS)
    for row in rows:
        assert row.ratio == pytest.approx(row.together / row.alone)
        assert min(row.alone, row.together) > 0
        # The optimiser is a part of a member's step of 4 windows of 16 tokens.
        assert 0 < row.optimizer_alone < 1e3 * 4 * 16 / row.alone
        assert 0 < row.optimizer_together < 1e3 * 4 * 16 / row.together


def test_the_bar_is_a_ratio_at_its_width() -> None:
    width, least = BAR
    row = EnsembleRow(width, 8, "fast", 16, 100.0, 100.0 * least, 1.0, 1.0)
    slow = replace(row, contestant="slow", together=99.0 * least)
    elsewhere = replace(slow, width=width // 2)
    assert missed([row, slow, elsewhere]) == [slow]
    assert judged([row, slow, elsewhere]) == [row, slow]


@pytest.mark.parametrize(("ratio", "verdict"), [(3.0, "met"), (2.99, "MISSED")])
def test_the_command_says_how_every_row_at_the_width_stands(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ratio: float, verdict: str
) -> None:
    asked: list[list[int]] = []

    def rows(widths: list[int], batches: list[int], *_: object) -> list[EnsembleRow]:
        asked.extend([widths, batches])
        fast = EnsembleRow(64, 2, "fast", 16, 100.0, 400.0, 1.0, 1.0)
        return [fast, replace(fast, batch=8, contestant="other", together=100.0 * ratio)]

    for name in ("keep_to", "keep_freed_memory"):
        monkeypatch.setattr(command, name, lambda *_: None)
    monkeypatch.setattr("benchmarks.ensembles.ensembles", rows)
    result = CliRunner().invoke(command.app, ["ensembles", "--out", str(tmp_path)])
    assert asked == [[32, 64], [2, 8]]
    assert "width 64, batch 2, fast: 4.00, at least 3: met" in result.output
    assert f"width 64, batch 8, other: {ratio:.2f}, at least 3: {verdict}" in result.output
    assert result.exit_code == (verdict == "MISSED")
    content = json.loads((tmp_path / "ensembles.json").read_text())
    assert content["bar"]["missed"] == ([[8, "other"]] if verdict == "MISSED" else [])


def test_the_command_prints_and_records(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("keep_to", "keep_freed_memory"):
        monkeypatch.setattr(command, name, lambda *_: None)
    arguments = ["ensembles", "--width", "16", "--batch", "8", "--members", "2"]
    result = CliRunner().invoke(command.app, [*arguments, "--repeats", "1", "--out", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert "dense, Muon" in result.output
    content = json.loads((tmp_path / "ensembles.json").read_text())
    assert [row["contestant"] for row in content["rows"]] == list(CONTESTANTS)
    assert content["bar"] == {"width": 64, "at_least": 3.0, "missed": []}
    wrong = CliRunner().invoke(command.app, ["ensembles", "--width", "18"])
    assert wrong.exit_code == 2
    assert "multiples of 4" in " ".join(wrong.output.replace("│", " ").split())
