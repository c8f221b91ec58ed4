"""The command line: ``python -m benchmarks flows``."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console

from benchmarks import ensembles as together
from benchmarks import orthogonalizers as factors
from benchmarks import steps as optimizers_steps
from benchmarks import tensors as kernels
from benchmarks.peers import PEERS
from benchmarks.references import References
from benchmarks.report import bars_table, record, table
from benchmarks.studies import STUDIES
from benchmarks.study import Session, Study, conduct
from claims.terminal.usage import require_writable
from geometry.names import unknown_name
from simulate.freed_memory import keep_freed_memory

app = typer.Typer(
    help="Timings against peers, side by side in one run.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)

HELP = "\n\n".join(
    [
        "Spectral gradient flow, ours and others, on the same cores: times, errors and the bars.",
        "A wrong answer fails its row; the exit status is 1 where a bar is missed.",
        *(
            f"{study.name}: {study.about}." + ("" if study.by_default else " Only by name.")
            for study in STUDIES.values()
        ),
    ]
)
STUDY_HELP = f"Of {', '.join(STUDIES)}; none for all but those that run only by name."
PEERS_HELP = (
    "Name or glob of the peers that run, repeatable; without it all of them, and at beta 1e-3, "
    "where they take minutes, the two that were fastest on the full problem at 1e-2. "
    f"There are: {'; '.join(peer.name for peer in PEERS)}."
)
THREADS_HELP = (
    "Cores and threads of each contestant; SciPy's loop over seeds uses one, whatever there is."
)
Out = Annotated[Path, typer.Option(metavar="DIR", help="Folder of the record.")]
OUT = Path("out/benchmarks")
BUDGET_HELP = "Seconds in a setting after which a contestant tries no further tolerance."


@app.callback()
def choose() -> None:
    """Choose a benchmark."""


@app.command(help=HELP)
def flows(
    studies: Annotated[
        list[str] | None, typer.Argument(metavar="[STUDY]...", help=STUDY_HELP)
    ] = None,
    seeds: Annotated[
        int, typer.Option(min=1, help="Trajectories where a study has 64; others in proportion.")
    ] = 64,
    repeats: Annotated[int, typer.Option(min=1, help="Timed runs; the best counts.")] = 3,
    peers: Annotated[list[str] | None, typer.Option(help=PEERS_HELP)] = None,
    threads: Annotated[int, typer.Option(min=1, help=THREADS_HELP)] = 1,
    budget: Annotated[float, typer.Option(min=0, help=BUDGET_HELP)] = 600.0,
    out: Annotated[
        Path,
        typer.Option(metavar="DIR", help="Folder of the records, the figure and the references."),
    ] = OUT,
) -> None:
    """Run studies one after the other; each is printed and recorded once it is done."""
    chosen, globs = _studies(studies or []), _globs(peers or [])
    _begin(threads, out)
    console, say = _console(), _teller()
    references = References(out / "references", say)
    session = Session(references, say, seeds, repeats, budget, globs, threads)
    missed = 0
    for study in chosen:
        say(f"{study.name}: {study.about}")
        outcome = conduct(study, session)
        record(out / f"{study.name}.json", outcome, session)
        console.print(table(outcome, threads))
        if outcome.bars:
            console.print(bars_table(outcome.bars))
        if study.draw is not None:
            study.draw(out / f"{study.name}.svg", outcome.rows)
        missed += sum(bar.met is False for bar in outcome.bars)
    raise typer.Exit(1 if missed else 0)


@app.command(name="steps")
def optimizer_steps(
    sizes: Annotated[
        list[int] | None, typer.Option("--size", min=2, help="m = n.  [default: 1024, 4096]")
    ] = None,
    ranks: Annotated[
        list[int] | None, typer.Option("--rank", min=1, help="r.  [default: 4, 16, 64]")
    ] = None,
    repeats: Annotated[
        int, typer.Option(min=1, help="Timed steps; the dense one has a fifth of them.")
    ] = 15,
    threads: Annotated[int, typer.Option(min=1, help="Cores and threads.")] = 1,
    out: Out = OUT,
) -> None:
    """A step of LoRA-Muon and its rivals beside one of dense Muon: time and memory.

    The exit status is 1 where LoRA-Muon, RiemannLoRA or Riemannion at 4096, r = 16 is not 20 times
    as fast as the dense step.
    """
    sizes, ranks = sizes or [1024, 4096], ranks or [4, 16, 64]
    _require_ranks(ranks, min(sizes), "the smallest size")
    _begin(threads, out)
    rows = list(optimizers_steps.steps(sizes, ranks, repeats, _teller()))
    console = _console()
    console.print(optimizers_steps.table(rows, threads))
    optimizers_steps.record(out / "steps.json", rows, threads)
    _judge(console, optimizers_steps.ratios(rows), optimizers_steps.BAR, "r")


@app.command()
def orthogonalizers(
    sizes: Annotated[
        list[int] | None, typer.Option("--size", min=2, help="m = n.  [default: 1024, 2048]")
    ] = None,
    ranks: Annotated[
        list[int] | None, typer.Option("--rank", min=1, help="l.  [default: 64, 256]")
    ] = None,
    repeats: Annotated[
        int, typer.Option(min=1, help="Timed calls; without a sketch a fifth of them.")
    ] = 15,
    threads: Annotated[int, typer.Option(min=1, help="Cores and threads.")] = 1,
    out: Out = OUT,
) -> None:
    """Newton-Schulz on the whole matrix, the SVD, and low-rank ways by sketch, size and rank.

    The exit status is 1 where columns at 1024, l = 64 are not 10 times as fast as the whole.
    """
    sizes, ranks = sizes or [1024, 2048], ranks or [64, 256]
    _require_ranks(ranks, min(sizes) - 1, "one less than the smallest size")
    _begin(threads, out)
    rows = list(factors.orthogonalizers(sizes, ranks, repeats, _teller(), threads))
    console = _console()
    console.print(factors.table(rows, threads))
    factors.record(out / "orthogonalizers.json", rows, threads)
    found = factors.ratio(rows)
    _judge(console, {} if found is None else {"columns": found}, factors.BAR, "l")


@app.command()
def tensors(
    repeats: Annotated[int, typer.Option(min=1, help="Timed calls.")] = 25,
    threads: Annotated[int, typer.Option(min=1, help="Cores and threads.")] = 1,
    out: Out = OUT,
) -> None:
    """Tensorion's direction, the best of all unfoldings of a kernel, beside a single SVD.

    The exit status is 1 where it takes three times as long, of 64 x 32 x 3 x 3 in float64.
    """
    _begin(threads, out)
    rows = list(kernels.tensors(kernels.SHAPES, repeats, _teller(), threads))
    console = _console()
    console.print(kernels.table(rows, threads))
    kernels.record(out / "tensors.json", rows, threads)
    found = kernels.ratio(rows)
    missed = found is not None and found > kernels.BAR
    if found is not None:
        verdict = "MISSED" if missed else "met"
        shape = " x ".join(map(str, kernels.BAR_SHAPE))
        console.print(f"{shape}: {found:.1f} SVDs, at most {kernels.BAR:g}: {verdict}")
    raise typer.Exit(int(missed))


@app.command()
def ensembles(
    widths: Annotated[
        list[int] | None, typer.Option("--width", min=8, help="Of the model.  [default: 32, 64]")
    ] = None,
    batches: Annotated[
        list[int] | None,
        typer.Option("--batch", min=1, help="Windows of a member in a step.  [default: 2, 8]"),
    ] = None,
    members: Annotated[int, typer.Option(min=2, help="Of an ensemble.")] = 16,
    repeats: Annotated[int, typer.Option(min=1, help="Timed steps of the ensemble.")] = 8,
    threads: Annotated[int, typer.Option(min=1, help="Cores and threads.")] = 1,
    out: Out = OUT,
) -> None:
    """Tokens a second of an ensemble beside those of its members, each trained alone.

    Freed memory is kept, as in the processes of a sweep. The exit status is 1 where an ensemble of
    width 64 is not three times as fast.
    """
    widths = widths or [32, 64]
    odd = [width for width in widths if width % together.HEADS]
    if odd:
        raise typer.BadParameter(
            f"multiples of {together.HEADS}, the number of heads, are expected; given {odd[0]}",
            param_hint="--width",
        )
    _begin(threads, out)
    keep_freed_memory()
    rows = list(together.ensembles(widths, batches or [2, 8], members, repeats, _teller()))
    console = _console()
    console.print(together.table(rows, threads))
    together.record(out / "ensembles.json", rows, threads)
    missed = together.missed(rows)
    for row in together.judged(rows):
        console.print(
            f"width {row.width}, batch {row.batch}, {row.contestant}: {row.ratio:.2f}, at least "
            f"{together.BAR[1]:g}: {'MISSED' if row in missed else 'met'}"
        )
    raise typer.Exit(int(bool(missed)))


def _begin(threads: int, out: Path) -> None:
    """Minutes of timings are not to end at a folder that cannot be written."""
    keep_to(threads)
    require_writable(out)


def keep_to(threads: int) -> None:
    """Whatever pools a library starts, they share as many cores as there are threads."""
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        if threads > len(cores):
            raise typer.BadParameter(
                f"at most {len(cores)}, the cores there are, is expected; given {threads}",
                param_hint="--threads",
            )
        os.sched_setaffinity(0, cores[:threads])
    torch.set_num_threads(threads)


def _require_ranks(ranks: Sequence[int], most: int, what: str) -> None:
    if max(ranks) > most:
        raise typer.BadParameter(
            f"at most {what}, {most}, is expected; given {max(ranks)}", param_hint="--rank"
        )


def _judge(
    console: Console, found: Mapping[str, float], bar: tuple[int, int, float], letter: str
) -> None:
    """Print how ratios stand to their bar, and exit by the least; nothing where none was found."""
    size, rank, least = bar
    for name, ratio in found.items():
        console.print(
            f"{name}, {size} x {size}, {letter} = {rank}: {ratio:.1f}, at least {least:g}: "
            f"{'met' if ratio >= least else 'MISSED'}"
        )
    if found:
        raise typer.Exit(int(min(found.values()) < least))


def _console() -> Console:
    """For tables: wide where nobody looks."""
    console = Console()
    return console if console.is_terminal else Console(width=200)


def _teller() -> Callable[[str], None]:
    """Tells what runs now."""
    return partial(Console(stderr=True).print, markup=False, highlight=False)


def _studies(names: Sequence[str]) -> list[Study]:
    for name in names:
        if name not in STUDIES:
            raise typer.BadParameter(str(unknown_name("study", name, STUDIES)), param_hint="STUDY")
    wanted = names or [study.name for study in STUDIES.values() if study.by_default]
    return [STUDIES[name] for name in dict.fromkeys(wanted)]


def _globs(globs: Sequence[str]) -> tuple[str, ...]:
    names = [peer.name for peer in PEERS]
    for glob in globs:
        if not any(fnmatchcase(name, glob) for name in names):
            raise typer.BadParameter(str(unknown_name("peer", glob, names)), param_hint="--peers")
    return tuple(globs)


if __name__ == "__main__":
    app(prog_name="python -m benchmarks")
