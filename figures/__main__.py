"""The command line: ``python -m figures [NAME ...] [--out DIR] [--format svg,pdf,png]``."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from operator import methodcaller
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from claims.results import Results, ResultsError, read_results, write_atomically
from figures.captions import caption
from figures.catalogue import FIGURES
from figures.evidence import command, missing_claims, missing_sentence, skipped, sources
from figures.figure import FORMATS, Figure, MissingEvidence

HELP = (
    "Draw the theorem-illustration figures from recorded evidence.\n\n"
    "Nothing is run: OUT/results.json and OUT/evidence are read, and every figure is written to "
    "OUT/figures/NAME.FORMAT, with its caption and sources in NAME.txt. The same evidence gives "
    "the same bytes.\n\n"
    "Figures:\n\n"
    + "\n\n".join(f"* {f.name}: {f.title} ({', '.join(f.claims)})" for f in FIGURES)
    + "\n\nExit code: 0 every figure asked for was drawn; 1 evidence was missing for some (the "
    "others are drawn, and the command that records it is printed), other than of claims that the "
    "run skipped; 2 a usage error."
)

app = typer.Typer(add_completion=False, rich_markup_mode="markdown")


class Usage(ValueError):
    """The command line asked for something that does not exist."""


@app.command(help=HELP)
def main(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="NAME", help="Figures to draw.", show_default="all of them"),
    ] = None,
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="The folder that paper_checks.py recorded to.")
    ] = Path("out"),
    formats: Annotated[
        str,
        typer.Option("--format", metavar="LIST", help=f"Comma-separated: {', '.join(FORMATS)}."),
    ] = "svg,png",
) -> None:
    """Draw what was asked for; exit 0, 1 or 2 as the help says."""
    errors = Console(stderr=True, soft_wrap=True, highlight=False, markup=False)
    try:
        chosen = _choose("figure", names or [f.name for f in FIGURES], [f.name for f in FIGURES])
        endings = _choose("format", formats.split(","), FORMATS)
        results = read_results(out)
    except (Usage, ResultsError) as error:
        errors.print(f"error: {error}")
        raise typer.Exit(2) from None
    by_name = {figure.name: figure for figure in FIGURES}
    drawn = [by_name[name] for name in chosen]
    try:
        complete = _draw(drawn, endings, results, out, errors, set(names or ()))
    except OSError as error:
        errors.print(f"error: {out / 'figures'} cannot be written: {error.strerror}")
        raise typer.Exit(2) from None
    raise typer.Exit(0 if complete else 1)


def _choose(kind: str, given: Iterable[str], known: Iterable[str]) -> list[str]:
    """``given`` without repetition; an unknown one is refused with the nearest known name."""
    known, chosen = list(known), []
    for name in given:
        if (name := name.strip()) not in known:
            near = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.4)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise Usage(f"there is no {kind} {name!r}.{hint} Known: {', '.join(known)}.")
        if name not in chosen:
            chosen.append(name)
    return chosen


def _draw(
    figures: list[Figure],
    endings: list[str],
    results: Results,
    out: Path,
    errors: Console,
    named: set[str],
) -> bool:
    """Draw what can be drawn; whether that was everything.

    A figure that lacks only what the run skipped is nothing missing, unless it was asked for by
    name.
    """
    console = Console(soft_wrap=True, highlight=False, markup=False)
    lacking: dict[str, None] = {}  # claims, each once and in order
    complete = True
    with Progress(console=errors, transient=True) as progress:
        task = progress.add_task("drawing", total=len(figures) * len(endings))
        for figure in figures:
            progress.update(task, description=figure.name)
            missing = missing_claims(figure, results)
            try:
                if missing:
                    raise MissingEvidence(figure.name, missing_sentence(figure, missing))
                arrays = sources(figure, results)
                for ending in endings:
                    path = out / "figures" / f"{figure.name}.{ending}"
                    drawn = figure.render(arrays, ending)
                    write_atomically(path, methodcaller("write", drawn))
                    console.print(str(path))
                    progress.advance(task)
                text = caption(figure, results).encode()
                write_atomically(
                    out / "figures" / f"{figure.name}.txt", methodcaller("write", text)
                )
            except (MissingEvidence, ResultsError) as error:
                errors.print(str(error))
                lacking |= dict.fromkeys(missing or figure.claims)
                asked = figure.name in named or not missing
                complete &= not asked and all(skipped(claim, results) for claim in missing)
                progress.advance(task, len(endings))
    if lacking and (words := command(lacking, results, out)):
        errors.print(f"To record what is missing: {words}")
    return complete


if __name__ == "__main__":
    app(prog_name="python -m figures")
