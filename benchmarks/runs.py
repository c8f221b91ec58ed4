"""How the rows of a study come about: a race with peers, ours alone or alike, a sweep."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

from benchmarks.bars import Pick
from benchmarks.measuring import attempt, measure
from benchmarks.row import Row
from benchmarks.study import Session, Setting, Study


def race(study: Study, session: Session) -> Iterator[Row]:
    """Every contestant at the loosest tolerance that meets the bound, setting by setting.

    The peers go first, for ours has to be no less accurate than the fastest of them, on the full
    problem and on the reduced one.
    """
    everyone, rows = session.chosen(study.contestants), list[Row]()
    for setting in study.settings:
        task, bound = session.task(setting, study.ladder), setting.case.error_bound
        peers = [each for each in everyone if not each.kind.startswith("ours")]
        if setting.fastest is not None and not session.peers:
            names = _fastest(rows, study.settings[0], setting.fastest)
            peers = [each for each in peers if each.name in names]
        run = [measure(peer, task, bound) for peer in peers]
        leaders = [Pick(setting.name, kind).of(run) for kind in ("peer", "peer, reduced")]
        bound = min([bound, *(each.error + each.doubt for each in leaders if each is not None)])
        ours = [each for each in everyone if each.kind.startswith("ours")]
        run = [measure(each, task, bound) for each in ours] + run
        rows += run
        yield from run


def _fastest(rows: Sequence[Row], setting: Setting, count: int) -> list[str]:
    """The names of the ``count`` fastest peers on the full problem that count."""
    full = [row for row in Pick(setting.name, "peer").candidates(rows) if row.counts]
    return [row.contestant for row in sorted(full, key=lambda row: row.seconds or 0.0)[:count]]


def alone(study: Study, session: Session) -> Iterator[Row]:
    """Each of ours that the study has, setting by setting."""
    for setting in study.settings:
        task = session.task(setting, study.ladder)
        for contestant in study.contestants:
            yield measure(contestant, task, setting.case.error_bound)


def alike(study: Study, session: Session) -> Iterator[Row]:
    """Each of ours in every setting at one tolerance, that which the last setting needs."""
    *others, last = study.settings
    for contestant in study.contestants:
        hardest = measure(contestant, session.task(last, study.ladder), last.case.error_bound)
        for setting in others:
            task = session.task(setting, study.ladder)
            yield attempt(contestant, task, hardest.rtol, setting.case.error_bound)
        yield hardest


def sweep(study: Study, session: Session) -> Iterator[Row]:
    """Every contestant at every tolerance, loosest first, until its budget is used up.

    No bound is set: whatever is finite counts.
    """
    for setting in study.settings:
        task = session.task(setting, study.ladder)
        for contestant in session.chosen(study.contestants):
            until = time.perf_counter() + task.budget
            for rtol in study.ladder:
                row = attempt(contestant, task, rtol, sys.float_info.max, until)
                spent = time.perf_counter() > until and rtol != study.ladder[-1]
                yield (
                    replace(row, remark=f"no tighter: {task.budget:g} s used up") if spent else row
                )
                if spent:
                    break
