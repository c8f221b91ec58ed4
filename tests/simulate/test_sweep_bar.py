"""What is seen of a sweep."""

from __future__ import annotations

import io

from rich.console import Console

from simulate.sweep import SweepProgress
from simulate.sweep_bar import SweepBar

STATE = SweepProgress(cells=7, operations=3e12, expected=4e12, seconds=180.0, worked=2e12)


def shown(terminal: bool, *states: SweepProgress) -> str:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=terminal, width=100, color_system=None)
    with SweepBar(console) as bar:
        for state in states:
            bar(state)
    return stream.getvalue()


def test_a_terminal_shows_the_share_and_the_time_left() -> None:
    output = shown(True, STATE)
    assert "75%" in output
    # A trillion operations at two trillion in three minutes.
    assert "7 cells, 1:30 left" in output


def test_a_log_has_a_line_a_cell() -> None:
    first = SweepProgress(cells=1, operations=1e12, expected=4e12, seconds=1.0)
    later = SweepProgress(cells=9, operations=2e12, expected=4e12, seconds=7400.0, worked=2e12)
    assert shown(False, first, later).splitlines() == [
        "25% after 0:01: 1 cells",
        "50% after 2:03:20: 9 cells, 2:03:20 left",
    ]
