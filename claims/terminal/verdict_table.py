"""Verdicts for a terminal: a table, and what to say of a surprise."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from claims.registry import Measurement, Verdict
from claims.results.recorded import Recorded

STYLES = {
    Verdict.HOLDS: "green",
    Verdict.REFUTED: "green",
    Verdict.SKIPPED: "yellow",
    Verdict.VACUOUS: "red",
    Verdict.FAILS: "bold red",
    Verdict.ERROR: "bold red",
}
LONGEST_ID = 38
MET = {"<=": "<=", ">=": ">=", "within": "in"}
MISSED = {"<=": ">", ">=": "<", "within": "not in"}


def number(value: float) -> str:
    """Three digits."""
    return f"{value:.3g}"


def bound(measurement: Measurement) -> str:
    """A number, or a band in brackets."""
    if isinstance(measurement.bound, tuple):
        lowest, highest = measurement.bound
        return f"[{lowest:.2g}, {highest:.2g}]"
    return number(measurement.bound)


def relation(measurement: Measurement) -> str:
    """What is true of the measurement: ``value <= bound``, or ``value > bound`` where missed."""
    sign = (MET if measurement.holds else MISSED)[measurement.relation]
    return f"{number(measurement.value)} {sign} {bound(measurement)}"


def percent(margin: float) -> str:
    """A margin in six letters at most."""
    if math.isinf(margin):
        return "none" if margin < 0 else "all"
    return f"{margin:.0%}" if margin > -10 else "<-999%"


def closest_control(claim: Recorded) -> str:
    """How the control that came nearest to meeting the bounds missed them."""
    if not claim.controls:
        return ""
    worst = (
        min(control.measurements, key=lambda measurement: measurement.margin)
        for control in claim.controls.values()
    )
    nearest = max(worst, key=lambda measurement: measurement.margin)
    return f"meets {relation(nearest)}" if nearest.holds else relation(nearest)


def verdict_table(claims: Iterable[Recorded]) -> Table:
    """One row per claim, and below them why claims were skipped.

    Every cell folds, so that it fits the width whatever it holds.
    """
    rows = tuple(claims)
    skipped = Counter(claim.reason for claim in rows if claim.verdict is Verdict.SKIPPED)
    told = "\n".join(f"{count} skipped: {reason}" for reason, count in skipped.items())
    table = Table(
        box=box.SIMPLE_HEAD, expand=True, pad_edge=False, padding=(0, 1, 0, 0),
        caption=Text(told, "yellow") if told else None, caption_justify="left",
    )  # fmt: skip
    longest = max((len(claim.id) for claim in rows), default=0)
    table.add_column("claim", overflow="fold", width=min(longest, LONGEST_ID))
    table.add_column("verdict", width=8)
    table.add_column("worst measurement", overflow="fold", ratio=26)
    table.add_column("margin", justify="right", width=6)
    table.add_column("control", overflow="fold", ratio=22)
    table.add_column("s", justify="right", width=5)
    for claim in rows:
        worst = claim.worst
        table.add_row(
            Text(claim.id),
            Text(claim.verdict, style=STYLES[claim.verdict]),
            Text(relation(worst) if worst else ""),
            percent(worst.margin) if worst else "",
            Text(closest_control(claim)),
            f"{claim.seconds:.1f}",
        )
    return table


def number_of_claims(count: int) -> str:
    """In words: "1 claim", "2 claims"."""
    return f"{count} claim" if count == 1 else f"{count} claims"


def counts(claims: Sequence[Recorded]) -> str:
    """How many claims have which verdict, in a fixed order."""
    counted = Counter(claim.verdict for claim in claims)
    parts = [f"{counted[verdict]} {verdict}" for verdict in Verdict if counted[verdict]]
    return f"{number_of_claims(len(claims))}: " + ", ".join(parts)


def measurement_lines(measurements: Iterable[Measurement]) -> list[str]:
    """A line per measurement, with its name."""
    return [f"{m.name}: {relation(m)}" + ("" if m.holds else "   MISSED") for m in measurements]


def surprise(claim: Recorded) -> list[str]:
    """What to say of a claim whose verdict is not the expected one."""
    missed = [
        f"  {line}" for line in measurement_lines(m for m in claim.measurements if not m.holds)
    ]
    lines = [f"{claim.id}: {claim.verdict}, expected {claim.expected}"]
    # The reason of a FAILS is mostly the names of what was missed.
    if claim.verdict is not Verdict.FAILS or not missed or claim.expected is Verdict.REFUTED:
        lines.append(f"  {claim.reason}")
    lines += missed
    if claim.traceback:
        lines += [f"  {line}" for line in claim.traceback.rstrip().splitlines()[-8:]]
    return lines
