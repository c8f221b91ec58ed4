"""The table on the screen and the record on disk."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from rich.table import Table

from benchmarks.case import FlowCase
from benchmarks.flows import LADDER, Row
from claims.results.strict_json import write_json


def ratio(row: Row, own: Row | None) -> float | None:
    """How many times as long as ours; None where either answer is not good enough."""
    if own is None or not (row.meets_bound and own.meets_bound):
        return None
    return row.seconds / own.seconds


def table(
    rows: Sequence[Row], absent: Sequence[str], own_name: str, case: FlowCase, seeds: int
) -> Table:
    """Times to the same error, ours first, the missing named."""
    shown = Table(
        title=f"{seeds} seeds of a {case.m} x {case.n}, rank {case.rank} spectral flow, "
        f"beta {case.beta:g}, to t = {case.end:g}; error at most {case.error_bound:g}; one thread"
    )
    for column in ("contestant", "method"):
        shown.add_column(column)
    for column in ("rtol", "error", "seconds", "compile", "ours = 1"):
        shown.add_column(column, justify="right")
    own = next((row for row in rows if row.contestant == own_name), None)
    for row in rows:
        times = ratio(row, own)
        shown.add_row(
            row.contestant,
            row.method,
            f"{row.rtol:.0e}",
            f"{row.error:.1e}" + ("" if row.meets_bound else " FAILS"),
            f"{row.seconds:.2f}",
            f"{row.compile_seconds:.2f}" if row.compile_seconds else "",
            "-" if times is None else f"{times:.2f}",
            style=None if row.meets_bound else "red",
        )
    for name in absent:
        shown.add_row(name, "not installed: pip install 'paper-checks\\[bench]'", style="yellow")
    return shown


def record(
    path: Path,
    rows: Sequence[Row],
    absent: Sequence[str],
    own_name: str,
    case: FlowCase,
    seeds: int,
    repeats: int,
) -> None:
    """Write everything as JSON, atomically."""
    own = next((row for row in rows if row.contestant == own_name), None)
    content = {
        "schema": 1,
        "benchmark": "flows",
        "case": {**asdict(case), "seeds": seeds, "repeats": repeats, "tolerances": LADDER},
        "threads": 1,
        "versions": {
            "python": platform.python_version(),
            "numpy": np.__version__,
            "torch": torch.__version__,
        },
        "rows": [{**asdict(row), "ratio_to_own": ratio(row, own)} for row in rows],
        "missing": list(absent),
    }
    write_json(path, content)
