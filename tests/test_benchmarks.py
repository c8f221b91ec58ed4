"""The benchmark's own contestant at a toy size, the missing peers, and wrong answers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

from benchmarks.__main__ import app
from benchmarks.case import FlowCase
from benchmarks.contestant import Contestant, Factors, Prepared
from benchmarks.flows import LADDER, Row, largest_error, missing, race
from benchmarks.peers import CONTESTANTS, OWN
from benchmarks.report import record, table

TOY = FlowCase(m=6, n=5, rank=2, largest=2.0, smallest=1.0, beta=0.1, end=2.0, grid=9)
SEEDS = range(2)
ABSENT = Contestant("a peer", "no_such_package_here", "none", OWN.prepare)


def wrong(case: FlowCase, seeds: Sequence[int], rtol: float) -> Prepared:
    """Right but for one entry, and in no time."""
    B, A = OWN.prepare(case, seeds, rtol).run()
    B = B.copy()
    B[-1, -1, 0, 0] += 1e-3

    def run() -> Factors:
        return B, A

    return Prepared(run)


CHEAT = Contestant("a cheat", "torch", "none", wrong)


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return list(race((OWN, CHEAT, ABSENT), TOY, SEEDS, repeats=2, say=lambda _: None))


def test_the_own_contestant_meets_the_bound(rows: list[Row]) -> None:
    own = rows[0]
    assert own.contestant == OWN.name
    assert own.meets_bound
    assert 0 < own.error <= TOY.error_bound
    assert own.rtol in LADDER
    assert own.seconds > 0
    # The loosest that does: one decade up it would not have, or it is the top.
    if own.rtol != LADDER[0]:
        looser = OWN.prepare(TOY, SEEDS, 10 * own.rtol).run()
        assert largest_error(looser, TOY.reference(SEEDS)) > TOY.error_bound


def test_a_fast_wrong_answer_fails_and_has_no_ratio(rows: list[Row], tmp_path: Path) -> None:
    cheat = rows[1]
    assert cheat.seconds < rows[0].seconds
    assert not cheat.meets_bound
    assert cheat.error > 1e-4
    assert cheat.rtol == LADDER[-1]
    path = tmp_path / "deep" / "flows.json"
    record(path, rows, ["a peer"], OWN.name, TOY, len(SEEDS), repeats=2)
    content = json.loads(path.read_text())
    assert content["rows"][0]["ratio_to_own"] == 1.0
    assert content["rows"][1]["ratio_to_own"] is None
    assert content["missing"] == ["a peer"]
    assert [child.name for child in path.parent.iterdir()] == ["flows.json"]


def test_missing_peers_are_named(rows: list[Row]) -> None:
    assert missing((OWN, ABSENT)) == ["a peer"]
    assert [row.contestant for row in rows] == [OWN.name, "a cheat"]
    screen = StringIO()
    shown = table(rows, missing((OWN, ABSENT)), OWN.name, TOY, len(SEEDS))
    Console(width=160, file=screen).print(shown)
    text = screen.getvalue()
    assert "a peer" in text
    assert "not installed: pip install 'paper-checks[bench]'" in text
    assert "FAILS" in text


def test_answers_that_are_not_finite_or_incomplete_do_not_pass() -> None:
    reference = TOY.reference([0])
    B, A = OWN.prepare(TOY, [0], 1e-8).run()
    assert largest_error((B * np.nan, A), reference) == float("inf")
    with pytest.raises(ValueError, match="are expected"):
        largest_error((B[:, :-1], A[:, :-1]), reference)


# The others take seconds to import or compile; the benchmark shows their errors.
LIGHT = [contestant for contestant in CONTESTANTS if contestant.package in ("torch", "scipy")]


@pytest.mark.parametrize("contestant", LIGHT, ids=lambda each: each.name)
def test_contestants_integrate_the_same_flow(contestant: Contestant) -> None:
    factors = contestant.prepare(TOY, SEEDS, 1e-8).run()
    assert largest_error(factors, TOY.reference(SEEDS)) <= 1e-6


def test_the_reference_is_converged() -> None:
    # Another method, another formulation: the exact reduction at 1e-11.
    finest = OWN.prepare(replace(TOY, error_bound=1e-9), [0], 1e-11).run()
    assert largest_error(finest, TOY.reference([0])) <= 1e-10


def test_the_command_lists_its_benchmarks() -> None:
    result = CliRunner().invoke(app, ["--help"])
    assert result.exit_code == 0
    assert "flows" in result.output
    assert CliRunner().invoke(app, ["flows", "--seeds", "0"]).exit_code == 2
