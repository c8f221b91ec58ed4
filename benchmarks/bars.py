"""The bars: ratios between the rows of one study, each with the limit it has to keep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from benchmarks.contestant import Kind
from benchmarks.row import Row


@dataclass(frozen=True)
class Pick:
    """The fastest row of a setting and kind among those that count."""

    setting: str
    kind: Kind = "ours"

    def candidates(self, rows: Sequence[Row]) -> list[Row]:
        """Those that ran, whether they count or not."""
        return [row for row in rows if (row.setting, row.kind) == (self.setting, self.kind)]

    def of(self, rows: Sequence[Row]) -> Row | None:
        counting = [row for row in self.candidates(rows) if row.counts]
        return min(counting, key=lambda row: row.seconds or 0.0, default=None)


@dataclass(frozen=True)
class Bar:
    """``upper`` over ``lower``, in seconds or in bytes, at least or at most a limit."""

    upper: Pick
    lower: Pick
    limit: float
    side: Literal["at least", "at most"]
    quantity: Literal["seconds", "memory"] = "seconds"

    def judge(self, rows: Sequence[Row]) -> Judged:
        """Met, missed, or not measured."""
        upper, lower = self.upper.of(rows), self.lower.of(rows)
        text = f"{_name(self.upper, upper)} / {_name(self.lower, lower)}, {self.quantity}"
        ours = [pick for pick in (self.upper, self.lower) if pick.kind.startswith("ours")]
        if any(pick.candidates(rows) and pick.of(rows) is None for pick in ours):
            return Judged(text, self.side, self.limit, None, False, "ours is not good enough")
        if upper is None or lower is None:
            return Judged(text, self.side, self.limit, None, None, "nothing to compare with")
        above, below = getattr(upper, self.quantity), getattr(lower, self.quantity)
        if above is None or not below:
            return Judged(text, self.side, self.limit, None, None, f"no {self.quantity} measured")
        ratio = above / below
        met = ratio >= self.limit if self.side == "at least" else ratio <= self.limit
        return Judged(text, self.side, self.limit, ratio, met)


@dataclass(frozen=True)
class Judged:
    """A bar and what came of it; ``met`` is None where it was not measured."""

    text: str
    side: str
    limit: float
    ratio: float | None
    met: bool | None
    remark: str = ""


def _name(pick: Pick, row: Row | None) -> str:
    who = row.contestant if row is not None else pick.kind
    return f"{who} at {pick.setting}"
