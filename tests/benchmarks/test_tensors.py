"""The benchmark of tensors: who runs, when the bar is met, what is recorded."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

import benchmarks.__main__ as command
from benchmarks import tensors
from benchmarks.tensors import BAR, BAR_SHAPE, DTYPES, EVERY, FLAT, OFFLINE, OURS, SVD, TensorRow


def test_everybody_runs() -> None:
    rows = list(tensors.tensors([(6, 5, 3, 3), (4, 5, 6)], 2, lambda _: None))
    assert [row.contestant for row in rows] == [SVD, OURS, EVERY, OFFLINE, FLAT] * 4
    assert all(row.seconds > 0 for row in rows)
    assert tensors.ratio(rows) is None


def test_the_bar_is_a_ratio_of_times() -> None:
    single = TensorRow(BAR_SHAPE, "float64", SVD, 0.002)
    own = TensorRow(BAR_SHAPE, "float64", OURS, 0.005)
    narrow = [replace(single, dtype="float32"), replace(own, dtype="float32", seconds=1.0)]
    assert tensors.ratio([*narrow, single, own]) == pytest.approx(2.5)
    found = tensors.ratio([single, replace(own, seconds=0.007)])
    assert found is not None
    assert found > BAR


@pytest.mark.parametrize(("slower", "status"), [(False, 0), (True, 1)])
def test_the_command_prints_records_and_exits_by_the_bar(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, slower: bool, status: int
) -> None:
    def measured(*_: object) -> list[TensorRow]:
        seconds = {SVD: 0.001, OURS: 0.004 if slower else 0.002, FLAT: 0.001}
        return [
            TensorRow(BAR_SHAPE, dtype, name, taken)
            for dtype in DTYPES
            for name, taken in seconds.items()
        ]

    monkeypatch.setattr(command, "keep_to", lambda threads: None)
    monkeypatch.setattr(tensors, "tensors", measured)
    result = CliRunner().invoke(command.app, ["tensors", "--out", str(tmp_path)])
    assert result.exit_code == status, result.output
    assert OURS in result.output
    content = json.loads((tmp_path / "tensors.json").read_text())
    assert content["bar"]["ratio"] == pytest.approx(4.0 if slower else 2.0)
    assert len(content["rows"]) == 6
