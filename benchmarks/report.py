"""The tables on the screen and the record on disk."""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import scipy
import torch
from rich.markup import escape
from rich.table import Table

from benchmarks.bars import Judged
from benchmarks.row import Row
from benchmarks.study import Outcome, Session
from claims.results.strict_json import encode_number, write_json

SCHEMA = 2
INSTALL = "not installed: pip install 'paper-checks[bench]'"


def table(outcome: Outcome, threads: int) -> Table:
    """Times to the same error, the missing named; a column that says nothing is left out."""
    study, rows = outcome.study, outcome.rows
    columns: dict[str, Callable[[Row], str]] = {
        "setting": lambda row: row.setting,
        "contestant": lambda row: row.contestant,
        "method": lambda row: row.method,
        "seeds": lambda row: str(row.seeds),
        "rtol": lambda row: f"{row.rtol:.0e}",
        "error": lambda row: f"{row.error + row.doubt:.1e}" + ("" if row.counts else " FAILS"),
        "at most": lambda row: f"{row.bound:.1e}" if row.bound < 1 else "",
        "seconds": lambda row: "" if row.seconds is None else f"{row.seconds:.2f}",
        "compile": lambda row: f"{row.compile_seconds:.2f}" if row.compile_seconds > 0.005 else "",
        "evaluations": lambda row: f"{row.evaluations:.0f}" if row.evaluations else "",
        "MB": lambda row: "" if row.memory is None else f"{row.memory / 1e6:.1f}",
        study.unit: lambda row: _number(outcome.ratio(row), "-"),
        "remark": lambda row: escape(row.remark),
    }
    cells = {name: [cell(row) for row in rows] for name, cell in columns.items()}
    shown = {name: column for name, column in cells.items() if any(column)}
    title = f"{study.name}: {study.about}; {counted(threads)}"
    references = sorted({_reference(row) for row in rows})
    drawn = Table(title=title, caption=escape("reference: " + "; ".join(references)))
    for name in shown or columns:
        words = name in ("setting", "contestant", "method", "remark")
        drawn.add_column(name, justify="left" if words else "right")
    for index, row in enumerate(rows):
        following = rows[index + 1].setting if index + 1 < len(rows) else ""
        drawn.add_row(
            *(column[index] for column in shown.values()),
            style=None if row.counts else "red",
            end_section=len(study.contestants) > 1 and row.setting != following,
        )
    for name in outcome.missing:
        drawn.add_row("", name, escape(INSTALL), style="yellow")
    for setting, names in outcome.left_out.items():
        drawn.add_row(setting, ", ".join(names), "not run: choose with --peers", style="dim")
    return drawn


def bars_table(bars: list[Judged]) -> Table:
    """Every bar with its ratio and what came of it."""
    drawn = Table(title="bars")
    for name in ("ratio of", "is", "has to be", ""):
        drawn.add_column(name, justify="right" if name == "is" else "left")
    for bar in bars:
        verdict, style = {
            True: ("met", "green"),
            False: ("MISSED", "red"),
            None: ("not measured", "yellow"),
        }[bar.met]
        remark = f": {bar.remark}" if bar.remark else ""
        limit = f"{bar.side} {bar.limit:g}"
        drawn.add_row(bar.text, _number(bar.ratio, "-"), limit, verdict + remark, style=style)
    return drawn


def record(path: Path, outcome: Outcome, session: Session) -> None:
    """Write everything as JSON, atomically."""
    study = outcome.study
    content = {
        "schema": SCHEMA,
        "benchmark": "flows",
        "study": study.name,
        "about": study.about,
        "seeds": session.seeds,
        "repeats": session.repeats,
        "budget": session.budget,
        "peers": list(session.peers),
        "tolerances": list(study.ladder),
        "settings": [asdict(setting) for setting in study.settings],
        "threads": session.threads,
        "versions": {
            "python": platform.python_version(),
            "numpy": np.__version__,
            "scipy": scipy.__version__,
            "torch": torch.__version__,
        },
        "rows": [
            _strict({**asdict(row), "counts": row.counts, "ratio": outcome.ratio(row)})
            for row in outcome.rows
        ],
        "bars": [asdict(bar) for bar in outcome.bars],
        "missing": outcome.missing,
        "left_out": outcome.left_out,
    }
    write_json(path, content)


def counted(threads: int) -> str:
    """The number of threads in words."""
    return "one thread" if threads == 1 else f"{threads} threads"


def _reference(row: Row) -> str:
    return f"{row.reference}, doubt {row.doubt:.0e}" if row.doubt else row.reference


def _number(value: float | None, absent: str) -> str:
    return absent if value is None else f"{value:.2f}"


def _strict(values: dict[str, Any]) -> dict[str, Any]:
    """JSON has no infinities: they are written by name."""
    return {
        name: encode_number(value) if isinstance(value, float) else value
        for name, value in values.items()
    }
