"""The bars: what they compare, and that those declared are about what is measured."""

from __future__ import annotations

from benchmarks.bars import Bar, Pick
from benchmarks.contestant import Kind
from benchmarks.row import Row
from benchmarks.studies import STUDIES


def timed(setting: str, kind: Kind, seconds: float, memory: int = 100, error: float = 0.0) -> Row:
    return Row(
        setting, kind, kind, "", None, 1, 1e-6, error, 0.0, 1e-8, seconds, memory=memory,
        evaluations=10.0,
    )  # fmt: skip


def test_bars_are_met_missed_or_not_measured() -> None:
    rows = [
        timed("a", "peer", 5.0),
        timed("a", "peer", 4.0),
        timed("a", "peer", 0.1, error=1.0),
        timed("a", "ours", 2.0),
        timed("b", "ours", 3.0, memory=250),
        timed("c", "ours", 0.1, error=1.0),
        timed("c", "peer", 4.0),
    ]
    peers = Bar(Pick("a", "peer"), Pick("a"), 2.0, "at least").judge(rows)
    assert (peers.ratio, peers.met) == (2.0, True)  # the fastest that is right
    assert peers.text == "peer at a / ours at a, seconds"
    assert Bar(Pick("a", "peer"), Pick("a"), 2.1, "at least").judge(rows).met is False
    assert Bar(Pick("b"), Pick("a"), 1.5, "at most").judge(rows).met is True
    assert Bar(Pick("b"), Pick("a"), 1.4, "at most").judge(rows).met is False
    memory = Bar(Pick("b"), Pick("a"), 2.0, "at most", "memory").judge(rows)
    assert (memory.ratio, memory.met) == (2.5, False)
    nobody = Bar(Pick("a", "peer, reduced"), Pick("a"), 2.0, "at least").judge(rows)
    assert (nobody.ratio, nobody.met, nobody.remark) == (None, None, "nothing to compare with")
    wrong = Bar(Pick("c", "peer"), Pick("c"), 2.0, "at least").judge(rows)
    assert (wrong.ratio, wrong.met, wrong.remark) == (None, False, "ours is not good enough")


def test_the_declared_bars_are_about_declared_settings() -> None:
    assert [study.name for study in STUDIES.values() if study.by_default] == [
        "peers", "beta", "ambient", "seeds",
    ]  # fmt: skip
    for study in STUDIES.values():
        names = {setting.name for setting in study.settings}
        assert len(names) == len(study.settings)
        assert {setting.unit for setting in study.settings} <= names | {None}
        for bar in study.bars:
            assert {bar.upper.setting, bar.lower.setting} <= names
            assert {bar.upper.kind, bar.lower.kind} <= {each.kind for each in study.contestants}
        assert list(study.ladder) == sorted(study.ladder, reverse=True)
    limits = {name: [bar.limit for bar in study.bars] for name, study in STUDIES.items()}
    assert limits == {
        "peers": [10, 2, 1, 50],
        "beta": [3, 5, 3, 5],
        "ambient": [1.3, 1.3, 10],
        "seeds": [12],
        "work-precision": [],
    }
