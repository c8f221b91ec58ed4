"""The small flow that the benchmark's tests run, and the session they run it in."""

from __future__ import annotations

from pathlib import Path

from benchmarks.case import FlowCase
from benchmarks.reference import Yardstick
from benchmarks.references import References
from benchmarks.study import Session

TOY = FlowCase(m=6, n=5, rank=2, largest=2.0, smallest=1.0, beta=0.3, end=1.5, grid=7)
SEEDS = range(2)
SCIPY = Yardstick("scipy")


def quiet_session(folder: Path) -> Session:
    """Two seeds, one repeat, references in ``folder``."""
    return Session(References(folder, lambda _: None), lambda _: None, seeds=2, repeats=1)
