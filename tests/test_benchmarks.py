"""The benchmark at toy sizes: right answers count, wrong, slow, broken and missing ones do not."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

import benchmarks.__main__ as command
from benchmarks.accuracy import largest_error
from benchmarks.ambient import grow
from benchmarks.bars import Bar, Pick
from benchmarks.case import FlowCase
from benchmarks.contestant import Answer, Contestant, Prepared, missing
from benchmarks.drawing import draw
from benchmarks.measuring import Task, attempt, measure
from benchmarks.peers import CONTESTANTS, OWN, PEERS
from benchmarks.reference import Yardstick
from benchmarks.report import bars_table, record, table
from benchmarks.row import Row
from benchmarks.runs import alone, race, sweep
from benchmarks.studies import LADDER, STUDIES
from benchmarks.study import Outcome, Session, Setting, Study, conduct
from tests.benchmarks.toy import SCIPY, SEEDS, TOY, quiet_session

EASY = replace(TOY, error_bound=1e-4)


def peer(name: str, factor: float, error: float = 0.0, pause: float = 0.0) -> Contestant:
    """Ours, at ``factor`` times the tolerance, ``pause`` seconds slower, with one entry wrong."""

    def prepare(case: FlowCase, seeds: Sequence[int], rtol: float) -> Prepared:
        def run() -> Answer:
            answer = OWN.prepare(case, seeds, factor * rtol).run()
            B, A = answer.factors
            B = B.copy()
            B[-1, -1, 0, 0] += error
            time.sleep(pause)
            return Answer((B, A), answer.evaluations)

        return Prepared(run)

    return Contestant(name, "torch", "none", "peer", prepare)


def cheat(case: FlowCase, seeds: Sequence[int], rtol: float) -> Prepared:
    """Right but for one entry, and in no time."""
    answer = peer("", 1.0, error=1e-3).prepare(case, seeds, rtol).run()
    return Prepared(lambda: answer)


def breaks(case: FlowCase, seeds: Sequence[int], rtol: float) -> Prepared:
    raise RuntimeError("out of order\nand more")


ABSENT = Contestant("an absent peer", "no_such_package_here", "none", "peer", OWN.prepare)
CHEAT = Contestant("a cheat", "torch", "none", "peer", cheat)
BROKEN = Contestant("a broken peer", "torch", "none", "peer", breaks)
FAST, SLOW = peer("fast", 1 / 3), peer("slow", 1 / 3, pause=0.1)
TOY_RACE = Study(
    name="toy",
    about="a race",
    settings=(Setting("first", EASY, SCIPY), Setting("second", EASY, SCIPY, fastest=1)),
    run=race,
    contestants=(OWN, CHEAT, FAST, SLOW, BROKEN, ABSENT),
    unit="ours = 1",
    ladder=(1e-4, 1e-6),
    bars=(
        Bar(Pick("first", "peer"), Pick("first"), 1e-9, "at least"),
        Bar(Pick("first", "peer"), Pick("first"), 1e9, "at least"),
        Bar(Pick("first", "peer, reduced"), Pick("first"), 1, "at least"),
    ),
)


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Session:
    return quiet_session(tmp_path_factory.mktemp("references"))


@pytest.fixture(scope="module")
def outcome(session: Session) -> Outcome:
    return conduct(TOY_RACE, session)


@pytest.fixture(scope="module")
def task(session: Session) -> Task:
    return session.task(Setting("first", TOY, SCIPY), LADDER)


def row_of(outcome: Outcome, contestant: Contestant, setting: str = "first") -> Row:
    name = (setting, contestant.name)
    (row,) = (row for row in outcome.rows if (row.setting, row.contestant) == name)
    return row


def shown(*tables: object) -> str:
    screen = StringIO()
    Console(width=250, file=screen).print(*tables)
    return screen.getvalue()


# Measuring


def test_the_own_contestant_meets_the_bound_at_the_loosest_tolerance(task: Task) -> None:
    own = measure(OWN, task, TOY.error_bound)
    assert own.counts
    assert 0 < own.error <= TOY.error_bound
    assert own.seconds is not None
    assert own.seconds > 0
    assert own.evaluations is not None
    assert own.evaluations > 10
    # The loosest that does: one decade up it would not have, or it is the top.
    if own.rtol != LADDER[0]:
        looser = OWN.prepare(TOY, SEEDS, 10 * own.rtol).run()
        assert largest_error(looser.factors, task.reference.factors) > TOY.error_bound


def test_a_fast_wrong_answer_fails_and_has_no_ratio(outcome: Outcome) -> None:
    own, wrong = row_of(outcome, OWN), row_of(outcome, CHEAT)
    assert own.seconds is not None
    assert wrong.seconds is not None
    assert wrong.seconds < own.seconds
    assert not wrong.counts
    assert wrong.error > 1e-4
    assert wrong.rtol == TOY_RACE.ladder[-1]
    assert outcome.ratio(own) == 1.0
    assert outcome.ratio(wrong) is None


def test_ours_is_no_less_accurate_than_the_fastest_peer(outcome: Outcome) -> None:
    own, fastest = row_of(outcome, OWN), row_of(outcome, FAST)
    assert own.counts
    assert own.bound == fastest.error + fastest.doubt < EASY.error_bound
    assert own.error <= fastest.error


def test_only_the_fastest_peers_go_on(outcome: Outcome) -> None:
    second = [row.contestant for row in outcome.rows if row.setting == "second"]
    assert second == [OWN.name, "fast"]
    assert outcome.left_out == {"second": ["a cheat", "slow", "a broken peer"]}


def test_a_contestant_that_breaks_has_lost_and_the_others_go_on(outcome: Outcome) -> None:
    broken = row_of(outcome, BROKEN)
    assert broken.error == float("inf")
    assert broken.seconds is None
    assert broken.remark == "RuntimeError: out of order"
    assert outcome.rows.index(broken) < outcome.rows.index(row_of(outcome, FAST, "second"))


def test_a_contestant_without_time_climbs_no_further(task: Task) -> None:
    stopped = measure(CHEAT, replace(task, budget=0.0), TOY.error_bound)
    assert stopped.rtol == LADDER[0]
    assert stopped.seconds is None
    assert stopped.remark == "stopped: 0 s used up on 2 seeds"
    assert not stopped.counts
    # It is the climbing that stops: what is right at once is timed, if only once.
    assert measure(OWN, replace(task, budget=0.0, ladder=[1e-9]), TOY.error_bound).counts


def test_the_doubt_of_the_reference_counts_against_an_answer(task: Task) -> None:
    doubtful = replace(task, reference=replace(task.reference, doubt=TOY.error_bound))
    row = attempt(OWN, doubtful, 1e-9, TOY.error_bound)
    assert row.error < TOY.error_bound
    assert not row.counts


def test_answers_that_are_not_finite_or_incomplete_do_not_pass(task: Task) -> None:
    reference = task.reference.factors
    B, A = OWN.prepare(TOY, SEEDS, 1e-8).run().factors
    broken = B.copy()
    broken[0] = np.nan  # the first seed: it must not drown in a maximum over the others
    assert largest_error((broken, A), reference) == float("inf")
    with pytest.raises(ValueError, match="are expected"):
        largest_error((B[:, :-1], A[:, :-1]), reference)


# Studies


def test_ours_alone_is_held_to_the_closed_form(session: Session) -> None:
    case = replace(TOY, start="aligned", error_bound=1e-6)
    settings = tuple(
        Setting(f"{beta}", replace(case, beta=beta), Yardstick("closed form"), unit="0.1")
        for beta in (0.1, 0.05)
    )
    study = Study("beta", "", settings, alone, (OWN,), "0.1 = 1", (1e-4, 1e-6, 1e-8))
    outcome = conduct(study, session)
    first, second = outcome.rows
    assert first.counts
    assert second.counts
    assert first.reference == "quadrature of the closed form"
    assert first.seconds is not None
    assert second.seconds is not None
    assert outcome.ratio(second) == second.seconds / first.seconds


def test_a_size_is_measured_in_its_own_process(session: Session) -> None:
    # 6 MB of bases for either factor, far above what else a process of Python comes and goes by.
    case = replace(EASY, embedded_in=100_000)
    setting = Setting("large", case, SCIPY)
    study = Study("ambient", "", (setting,), grow, (OWN,), "large = 1", (1e-5,))
    (row,) = grow(study, session)
    assert row.counts
    assert row.seconds is not None
    if sys.platform == "linux":
        assert row.memory is not None
        bases = 2 * 2 * 100_000 * 4 * 8  # seeds, factors, rows, k + r columns, bytes
        assert bases < row.memory < 12 * bases


def test_the_sweep_goes_down_the_ladder_and_is_drawn(session: Session, tmp_path: Path) -> None:
    settings = (Setting("first", TOY, SCIPY),)
    study = Study("sweep", "", settings, sweep, (OWN, FAST, BROKEN), "ours = 1", (1e-3, 1e-4, 1e-6))
    rows = list(sweep(study, session))
    own = [row for row in rows if row.contestant == OWN.name]
    assert [row.rtol for row in own] == [1e-3, 1e-4, 1e-6]
    errors, work = [row.error for row in own], [row.evaluations or 0.0 for row in own]
    assert errors == sorted(errors, reverse=True)
    assert work == sorted(work)
    assert all(row.counts for row in own)
    draw(tmp_path / "one.svg", rows)
    draw(tmp_path / "two.svg", rows)
    draw(tmp_path / "less.svg", own)
    first = (tmp_path / "one.svg").read_bytes()
    assert first.startswith(b"<?xml")
    assert first == (tmp_path / "two.svg").read_bytes()
    assert len(first) > len((tmp_path / "less.svg").read_bytes())
    hurried = list(sweep(study, replace(session, budget=0.0)))
    assert [row.rtol for row in hurried] == [1e-3] * 3
    assert all(row.remark.startswith("no tighter") for row in hurried)


# What is shown, recorded and asked for


def test_missing_peers_are_named(outcome: Outcome) -> None:
    assert missing((OWN, ABSENT)) == ["an absent peer"] == outcome.missing
    assert "an absent peer" not in [row.contestant for row in outcome.rows]
    text = shown(table(outcome, 1))
    assert "one thread" in text
    assert "2 threads" in shown(table(outcome, 2))
    assert "an absent peer" in text
    assert "not installed: pip install 'paper-checks[bench]'" in text
    assert "FAILS" in text
    assert "RuntimeError: out of order" in text
    assert "a cheat, slow, a broken peer" in text


def test_the_bars_are_shown(outcome: Outcome) -> None:
    assert [bar.met for bar in outcome.bars] == [True, False, None]
    lines = shown(bars_table(outcome.bars)).splitlines()
    assert sum("fast at first / flows at first" in line for line in lines) == 2
    assert any("at least 1e-09" in line and line.rstrip(" │").endswith("met") for line in lines)
    assert any("at least 1e+09" in line and "MISSED" in line for line in lines)
    assert any("not measured: nothing to compare with" in line for line in lines)


def test_the_record_has_everything(outcome: Outcome, session: Session, tmp_path: Path) -> None:
    path = tmp_path / "deep" / "toy.json"
    record(path, outcome, session)
    content = json.loads(path.read_text())
    assert [child.name for child in path.parent.iterdir()] == ["toy.json"]
    rows = {(row["setting"], row["contestant"]): row for row in content["rows"]}
    assert rows["first", OWN.name]["ratio"] == 1.0
    assert rows["first", "a cheat"]["ratio"] is None
    assert rows["first", "a broken peer"]["error"] == "inf"
    assert rows["first", OWN.name]["reference"] == "DOP853 at 1e-12"
    assert [bar["met"] for bar in content["bars"]] == [True, False, None]
    assert content["missing"] == ["an absent peer"]
    assert content["left_out"] == outcome.left_out
    assert content["settings"][0]["case"]["beta"] == TOY.beta
    assert content["settings"][0]["yardstick"] == {"how": "scipy", "checked": 0}


def test_peers_are_chosen_by_name_or_glob(session: Session) -> None:
    some = replace(session, peers=("scipy*", "diffrax"))
    names = [each.name for each in some.chosen(CONTESTANTS)]
    assert names[:2] == ["flows", "flows, plain"]
    assert set(names[2:]) <= {
        "scipy DOP853", "scipy RK45", "scipy RK45, reduced", "diffrax",
    }  # fmt: skip
    assert "scipy DOP853" in names
    # Who is named runs in every setting, however slow.
    named = conduct(TOY_RACE, replace(session, peers=("slow",)))
    assert [row.contestant for row in named.rows] == [OWN.name, "slow"] * 2


def test_seeds_are_in_proportion(session: Session) -> None:
    many = Setting("many", TOY, SCIPY, seeds=1000)
    assert replace(session, seeds=64).count(many) == 1000
    assert replace(session, seeds=16).count(many) == 250
    assert replace(session, seeds=1).count(Setting("eight", TOY, SCIPY, seeds=8)) == 1


def test_the_command_runs_records_and_tells_a_missed_bar(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    small = replace(TOY, start="aligned", error_bound=1e-5)
    setting = Setting("first", small, Yardstick("closed form"))
    good = Bar(Pick("first"), Pick("first"), 1.0, "at most")
    study = Study("good", "a", (setting,), alone, (OWN,), "= 1", (1e-6,), (good,), draw=draw)
    bad = replace(study, name="bad", bars=(replace(good, limit=0.5),), draw=None)
    hidden = replace(bad, name="hidden", by_default=False)
    monkeypatch.setattr(command, "STUDIES", {each.name: each for each in (study, bad, hidden)})
    monkeypatch.setattr(command, "keep_to", lambda threads: None)
    options = ["--seeds", "1", "--repeats", "1", "--out", str(tmp_path)]
    result = CliRunner().invoke(command.app, ["flows", "good", *options])
    assert result.exit_code == 0, result.output
    assert "at most 1" in result.output
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "good.json", "good.svg", "references",
    ]  # fmt: skip
    assert CliRunner().invoke(command.app, ["flows", *options]).exit_code == 1
    assert (tmp_path / "bad.json").exists()
    assert not (tmp_path / "hidden.json").exists()


def test_wrong_usage_is_told_with_what_is_nearest() -> None:
    help_page = CliRunner().invoke(command.app, ["flows", "--help"], env={"COLUMNS": "200"})
    assert help_page.exit_code == 0
    assert all(name in help_page.output for name in STUDIES)
    assert "flows" in CliRunner().invoke(command.app, ["--help"]).output
    wide = {"COLUMNS": "300"}
    for arguments, expected in (
        (["flows", "betta"], "did you mean 'beta'?"),
        (["flows", "--peers", "difrax"], "did you mean 'diffrax'?"),
        (["flows", "--seeds", "0"], "--seeds"),
        (["flows", "--budget", "-1"], "--budget"),
        (["flows", "--threads", "0"], "--threads"),
        (["flows", "--threads", "100000"], "the cores there are, is expected; given 100000"),
    ):
        result = CliRunner().invoke(command.app, arguments, env=wide)
        assert result.exit_code == 2
        assert expected in result.output


@pytest.mark.parametrize("benchmark", ["flows", "steps", "orthogonalizers", "tensors", "ensembles"])
def test_a_folder_that_cannot_be_written_is_told_before_anything_is_timed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, benchmark: str
) -> None:
    monkeypatch.setattr(command, "keep_to", lambda threads: None)
    (tmp_path / "file").touch()
    out = str(tmp_path / "file" / "below")
    result = CliRunner().invoke(command.app, [benchmark, "--out", out], env={"COLUMNS": "300"})
    assert result.exit_code == 2
    assert "cannot be written: Not a directory" in result.output


def test_every_peer_is_in_the_help_of_the_option() -> None:
    assert all(each.name in command.PEERS_HELP for each in PEERS)
