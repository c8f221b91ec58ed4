"""A sweep on a terminal: how much is done, the time elapsed and the time left."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn

from simulate.live_line import LiveLine
from simulate.sweep import SweepProgress


class SweepBar(LiveLine):
    """What a sweep may be given as ``progress``, inside of a with statement.

    On a terminal it is one live line; elsewhere a line a cell, so that a log tells as much.
    """

    def __init__(self, console: Console | None = None) -> None:
        super().__init__(
            console or Console(),
            TaskProgressColumn(),
            BarColumn(bar_width=20),
            TimeElapsedColumn(),
            TextColumn("{task.description}"),
        )
        self._task = self._live.add_task("the first cell", total=1.0)

    def __call__(self, state: SweepProgress) -> None:
        """Show how far it is."""
        done = state.operations / state.expected
        left = "" if state.left is None else f", {_clock(state.left)} left"
        told = f"{state.cells} cells{left}"
        self._live.update(self._task, completed=done, description=told)
        if not self._console.is_terminal:
            self._console.print(f"{done:.0%} after {_clock(state.seconds)}: {told}")


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
