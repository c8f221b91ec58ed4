"""What is seen while a run goes on."""

from __future__ import annotations

import io
import re
from pathlib import Path

from rich.console import Console

from claims.results.recorded import recorded
from claims.running.one import run_claim
from claims.terminal.progress import RunProgress
from tests.claims import fakes


def shown(terminal: bool) -> str:
    """All that is written while two claims are started and one of them ends."""
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=terminal, width=100, color_system=None)
    with RunProgress(console, 2) as progress:
        progress.started(fakes.PASSING)
        progress.started(fakes.FAILING)
        progress.done(recorded(run_claim(fakes.PASSING, "quick", 0), Path(), evidence=None))
    return stream.getvalue()


def test_a_terminal_shows_what_runs_now() -> None:
    output = shown(terminal=True)
    assert "1/2" in output
    assert re.search(r"left \S+ fake\.failing\s*$", re.sub(r"\x1b\[[?\d;]*[A-Za-z]", "", output))


def test_a_claim_that_tells_shows_how_far_it_is() -> None:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=100, color_system=None)
    with RunProgress(console, 2) as progress:
        progress.started(fakes.WORKING)
        progress.share(fakes.WORKING, 0.43)
    assert "work.working 43%" in stream.getvalue()


def test_a_file_gets_a_plain_line_for_each_claim() -> None:
    assert re.fullmatch(r"\[1/2\] HOLDS   fake\.passing \d+\.\d s\n", shown(terminal=False))
