"""What a study declares, what it is run with, and what is left of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from benchmarks.bars import Bar, Judged
from benchmarks.case import FlowCase
from benchmarks.contestant import Contestant, missing
from benchmarks.measuring import Task
from benchmarks.reference import Yardstick
from benchmarks.references import References
from benchmarks.row import Row

USUAL_SEEDS = 64


@dataclass(frozen=True)
class Setting:
    """A case within a study.

    Attributes:
        unit: the setting in which the time of ours is 1; None for this one.
        seeds: how many trajectories; in proportion where another number than 64 is asked for.
        fastest: None for every contestant; else how many of the first setting's fastest peers on
            the full problem run where none are named.
    """

    name: str
    case: FlowCase
    yardstick: Yardstick
    unit: str | None = None
    seeds: int = USUAL_SEEDS
    fastest: int | None = None


@dataclass(frozen=True)
class Session:
    """What a study is run with.

    Attributes:
        seeds: how many where a study has 64.
        peers: names or globs of the peers that run; none for the study's own choice.
        budget: seconds a contestant may spend in a setting before it is stopped from going on.
        threads: of every contestant.
    """

    references: References
    say: Callable[[str], None]
    seeds: int = USUAL_SEEDS
    repeats: int = 3
    budget: float = 600.0
    peers: tuple[str, ...] = ()
    threads: int = 1

    def count(self, setting: Setting) -> int:
        return max(1, round(setting.seeds * self.seeds / USUAL_SEEDS))

    def task(self, setting: Setting, ladder: Sequence[float]) -> Task:
        """The task of ``setting``, with its reference."""
        seeds = range(self.count(setting))
        reference = self.references.of(setting.case, seeds, setting.yardstick)
        return Task(
            setting.name,
            setting.case,
            seeds,
            reference,
            ladder,
            self.repeats,
            self.budget,
            self.say,
        )

    def chosen(self, contestants: Sequence[Contestant]) -> list[Contestant]:
        """Those that are installed: all of ours, and the peers that were named, or all of them."""
        return [
            each
            for each in contestants
            if each.installed
            and (
                not self.peers
                or each.kind.startswith("ours")
                or any(fnmatchcase(each.name, glob) for glob in self.peers)
            )
        ]


@dataclass(frozen=True)
class Study:
    """A question with its settings and bars.

    Attributes:
        about: one line.
        run: yields the rows.
        contestants: who may run, ours among them; the first is who ratios are taken to.
        unit: what has the ratio 1, in words.
        ladder: the tolerances that are tried, falling.
        by_default: whether it runs where no study is named.
        draw: writes a figure of the rows to an SVG file, where the study has one.
    """

    name: str
    about: str
    settings: tuple[Setting, ...]
    run: Callable[[Study, Session], Iterator[Row]]
    contestants: tuple[Contestant, ...]
    unit: str
    ladder: tuple[float, ...]
    bars: tuple[Bar, ...] = ()
    by_default: bool = True
    draw: Callable[[Path, Sequence[Row]], None] | None = None


@dataclass(frozen=True)
class Outcome:
    """The rows of a study, its bars, and who was not there.

    Attributes:
        missing: contestants whose package is not installed.
        left_out: by setting, contestants that are installed and were not chosen.
    """

    study: Study
    rows: list[Row]
    bars: list[Judged]
    missing: list[str]
    left_out: dict[str, list[str]]

    def ratio(self, row: Row) -> float | None:
        """How many times as long as ours in the unit setting; None where either does not count."""
        setting = next(each for each in self.study.settings if each.name == row.setting)
        name = (setting.unit or setting.name, self.study.contestants[0].name)
        unit = next((each for each in self.rows if (each.setting, each.contestant) == name), None)
        if unit is None or not (row.counts and unit.counts and row.seconds and unit.seconds):
            return None
        return row.seconds / unit.seconds


def conduct(study: Study, session: Session) -> Outcome:
    """Run a study to its end."""
    rows = list(study.run(study, session))
    absent = missing(study.contestants)
    left_out = {
        setting.name: [
            each.name
            for each in study.contestants
            if each.name not in absent
            and (setting.name, each.name) not in {(row.setting, row.contestant) for row in rows}
        ]
        for setting in study.settings
    }
    left_out = {name: others for name, others in left_out.items() if others}
    return Outcome(study, rows, [bar.judge(rows) for bar in study.bars], absent, left_out)
