"""The command line: ``python -m benchmarks flows``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console

from benchmarks.case import FlowCase
from benchmarks.flows import missing, race
from benchmarks.peers import CONTESTANTS, OWN
from benchmarks.report import record, table

app = typer.Typer(help="Timings against peers, side by side in one run.", no_args_is_help=True)


@app.callback()
def choose() -> None:
    """Choose a benchmark."""


@app.command()
def flows(
    seeds: Annotated[int, typer.Option(min=1, help="Trajectories to integrate.")] = 64,
    repeats: Annotated[int, typer.Option(min=1, help="Timed runs; the best counts.")] = 3,
    out: Annotated[Path, typer.Option(help="Folder of the record.")] = Path("out/benchmarks"),
) -> None:
    """Spectral gradient flow to the same error: ours, SciPy, torchode, diffrax, torchdiffeq."""
    torch.set_num_threads(1)
    if hasattr(os, "sched_setaffinity"):
        # Whatever pools a library starts, they share one core.
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    console, progress = Console(), Console(stderr=True)
    case, absent = FlowCase(), missing(CONTESTANTS)
    rows = list(race(CONTESTANTS, case, range(seeds), repeats, progress.print))
    record(out / "flows.json", rows, absent, OWN.name, case, seeds, repeats)
    console.print(table(rows, absent, OWN.name, case, seeds))


if __name__ == "__main__":
    app(prog_name="python -m benchmarks")
