"""What is seen of a run while it goes on: a live line on a terminal, else a line per claim."""

from __future__ import annotations

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from claims.registry import Claim
from claims.results.recorded import Recorded
from simulate.live_line import LiveLine


class RunProgress(LiveLine):
    """Claims done and in all, time elapsed and left, and which claims run now."""

    def __init__(self, console: Console, total: int) -> None:
        super().__init__(
            console,
            MofNCompleteColumn(),
            BarColumn(bar_width=20),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[running]}", markup=False),
        )
        self._total, self._done = total, 0
        # Shares of what is done, of those that tell.
        self._running: dict[str, float | None] = {}
        self._task = self._live.add_task("claims", total=total, running="")

    def started(self, claim: Claim) -> None:
        self._running[claim.id] = None
        self._show()

    def share(self, claim: Claim, done: float) -> None:
        """``done`` of a claim's work is behind it, 0 to 1."""
        self._running[claim.id] = done
        self._show()

    def done(self, claim: Recorded) -> None:
        del self._running[claim.id]
        self._done += 1
        self._show()
        if not self._console.is_terminal:
            place = f"[{self._done:{len(str(self._total))}}/{self._total}]"
            line = f"{place} {claim.verdict:<7} {claim.id} {claim.seconds:.1f} s"
            self._console.print(Text(line))

    def _show(self) -> None:
        running = [
            name if share is None else f"{name} {share:.0%}"
            for name, share in self._running.items()
        ]
        # A claim's share counts, so that the time left is not that of whole claims alone.
        partly = sum(share or 0.0 for share in self._running.values())
        self._live.update(self._task, completed=self._done + partly, running=", ".join(running))
