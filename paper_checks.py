"""The command line: choose claims, run them, record, report.

Nothing heavy is imported until it is needed, so that ``--help`` and wrong usage answer at once.
"""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.text import Text

from claims.terminal.console import WIDTH, standard_console
from claims.terminal.usage import (
    Commands,
    is_default,
    refuse,
    refuse_options_before,
    require_known,
    require_writable,
    usage_errors,
)

if TYPE_CHECKING:
    from claims.registry import Claim, Registry
    from claims.running.crew import Asked, Crew

# The module whose REGISTRY holds the claims; workers import it by this name.
REGISTRY_MODULE = "claims"
TIERS = ("quick", "full", "paper")
DEVICES = ("cpu", "cuda")
DTYPES = ("float64", "float32", "bfloat16")
INTERRUPTED = 130

HELP = """Run the statements of papers on spectral optimisers, and say whether they hold.

Every claim is run together with controls that must fail by the same criterion. The run prints a
table of verdicts and writes an HTML report, results.json and the evidence arrays into --out.

\b
HOLDS    the check meets its bounds and no control does
REFUTED  a counterexample was found, as declared
FAILS    the check misses a bound
VACUOUS  a control meets the bounds too, so the check proves nothing
ERROR    the claim raised; the other claims go on
SKIPPED  the claim cannot run here, with the reason

\b
Examples:
  python paper_checks.py                             every claim, quick tier
  python paper_checks.py --only 'usg.*-first'        claims by pattern
  python paper_checks.py --tier full --jobs 8        tighter statistics, eight processes
  python paper_checks.py --resume                    go on with a run that was stopped
  python paper_checks.py --tier paper --device cuda  the claims that can run on a GPU, on it
  python paper_checks.py --scheduler tcp://hub:8786  on the workers of a Dask cluster
  python paper_checks.py --subject torch.optim:Adam  which statements another optimiser satisfies
  python paper_checks.py list                        what can be run
  python paper_checks.py show usg.equal-rate         one claim: statement, derivation, evidence

\b
Exit status: 0 every verdict is the expected one (a skipped claim contradicts nothing),
1 some verdict is not, 2 wrong usage, or all that is asked for would be skipped, 130 interrupted,
by Ctrl-C or SIGTERM, or for want of a cluster or of room on the disk.
"""

app = typer.Typer(
    cls=Commands,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": WIDTH},
)

Out = Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder of the results.")]
Paper = Annotated[
    str | None, typer.Option("--paper", metavar="KEY", help="Only the claims of this paper.")
]


@app.callback(invoke_without_command=True, help=HELP)
def run(
    context: typer.Context,
    only: Annotated[
        list[str] | None,
        typer.Option(
            "--only",
            metavar="ID|GLOB,...",
            help="Only these claims, separated by commas; may be repeated.",
        ),
    ] = None,
    paper: Paper = None,
    tier: Annotated[
        str, typer.Option("--tier", metavar="quick|full|paper", help="The table of sizes.")
    ] = "quick",
    seed: Annotated[int, typer.Option("--seed", help="Every claim derives its seeds from it.")] = 0,
    jobs: Annotated[
        int | None,
        typer.Option(
            "--jobs",
            metavar="N",
            help="Claims at once, at most one a core.  [default: number of cores that may be used, "
            "of GPUs on cuda, of a cluster's threads]",
        ),
    ] = None,
    scheduler: Annotated[
        str | None,
        typer.Option(
            "--scheduler",
            metavar="ADDRESS",
            help="Of a Dask cluster, whose workers run the claims instead of this machine.",
        ),
    ] = None,
    device: Annotated[
        str,
        typer.Option(
            "--device",
            metavar="cpu|cuda",
            help="Where claims compute; those that stay on the CPU are skipped elsewhere.",
        ),
    ] = "cpu",
    dtype: Annotated[
        str | None,
        typer.Option(
            "--dtype",
            metavar="NAME",
            help="float64, float32 or bfloat16, for claims that can be asked in it; the others "
            "are skipped.  [default: each claim's own]",
        ),
    ] = None,
    subject: Annotated[
        str | None,
        typer.Option(
            "--subject",
            metavar="MODULE:NAME",
            help="An optimiser of yours, asked the claims that are about any of its kind: a class "
            "or a function of (pairs, lr) or (params, lr).  [--out: out/MODULE.NAME]",
        ),
    ] = None,
    out: Out = Path("out"),
    resume: Annotated[
        bool, typer.Option("--resume", help="Keep what a stopped run in --out has recorded.")
    ] = False,
) -> None:
    """Run claims, unless a subcommand was asked for."""
    if context.invoked_subcommand is not None:
        refuse_options_before(context)
        return
    require_known("tier", tier, TIERS)
    require_known("device", device, DEVICES)
    if dtype is not None:
        require_known("dtype", dtype, DTYPES)
    if jobs is not None and jobs < 1:
        refuse(f"expected at least 1, got {jobs}", "--jobs")
    if subject is not None and is_default(context, "out"):
        # The papers' own results stay what they are.
        out = out / subject.replace(":", ".")
    require_writable(out)
    from claims.registry import Place
    from claims.results import kind_of, sole_recorder
    from claims.running.crew import Asked

    names = [name.strip() for given in only or [] for name in given.split(",")]
    place = Place(device, dtype)
    # Of each kind of run apart, so that none takes away what another was stopped with.
    asked = Asked(tier, seed, REGISTRY_MODULE, subject, place, out / "cells" / kind_of(tier, place))
    whole = not (names or resume) and paper is subject is None
    # All claims are loaded by workers while this process does; a choice of them comes first.
    chosen = None if whole else _chosen(asked, names, paper)
    with ExitStack() as until:
        crew = _crew(until, scheduler, asked, jobs, standing=whole)
        registry, claims = chosen or _chosen(asked)
        with usage_errors("--out"):
            until.enter_context(sole_recorder(out))
        code = _run(registry, claims, asked, crew, out, resume)
    raise typer.Exit(code)


@app.command("list")
def list_claims(paper: Paper = None) -> None:
    """What can be run: ids, titles, sources, expected verdicts."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, expand=True, pad_edge=False, padding=(0, 1))
    table.add_column("claim", overflow="fold", ratio=36)
    table.add_column("title", ratio=46)
    table.add_column("source", width=7)
    table.add_column("expected", width=8)
    for claim in _select(_registry(), [], paper):
        table.add_row(Text(claim.id), Text(claim.title), claim.source, claim.expected)
    standard_console().print(table)


@app.command("show")
def show(claim: Annotated[str, typer.Argument(metavar="CLAIM")], out: Out = Path("out")) -> None:
    """Show one claim with its derivation and last evidence."""
    from claims.results import read_results
    from claims.terminal.description import describe

    console, registry = standard_console(), _registry()
    with usage_errors("CLAIM"):
        declared = registry[claim]
    last = None
    if (out / "results.json").exists():
        with usage_errors("--out"):
            results = read_results(out)
        last = results if claim in results else None
    where = f"{out} holds no run of it"
    unicode = console.encoding.lower().startswith("utf")
    console.print(Text(describe(declared, last, where, unicode=unicode)), soft_wrap=False)


def main() -> None:
    """The console script."""
    app(prog_name="paper-checks")


def _crew(
    until: ExitStack, scheduler: str | None, asked: Asked, jobs: int | None, standing: bool
) -> Crew:
    """Who is to run the claims; all that is done after is the same."""
    if scheduler is None:
        from claims.running.here import on_this_machine

        with usage_errors("--device"):
            return until.enter_context(on_this_machine(asked, jobs, standing=standing))
    from claims.running.cluster import on_cluster

    with usage_errors("--scheduler"):
        return until.enter_context(on_cluster(scheduler, asked, jobs))


def _run(
    registry: Registry,
    chosen: Sequence[Claim],
    asked: Asked,
    crew: Crew,
    out: Path,
    resume: bool,
) -> int:
    from claims.results import NotRecorded, Recorder, forget, previous_seconds, resumable
    from claims.results.provenance import kept_claims, other_code, resumed, run_header, settled
    from claims.results.recorded import Recorded
    from claims.running.crew import CrewLost
    from claims.running.here import cores
    from claims.running.many import run_claims
    from claims.running.termination import terminated_as_interrupted
    from claims.terminal.kernel import kernel_line
    from claims.terminal.progress import RunProgress
    from claims.terminal.verdict_table import counts, number_of_claims, surprise, verdict_table

    console, start = standard_console(), time.perf_counter()
    order = [claim.id for claim in registry]
    command = shlex.join(["paper_checks.py", *sys.argv[1:]])
    header = run_header(
        asked.tier, asked.seed, crew.jobs, command, asked.subject, asked.place, crew.gpus
    )
    kept: tuple[Recorded, ...] = ()
    if resume:
        with usage_errors("--resume", "; without it the run begins anew"):
            previous = resumable(out, header)
            if previous is not None:
                header = resumed(header, previous)
                kept = kept_claims(previous, order)
        if previous is not None and (told := other_code(header, previous)):
            console.print(Text(f"Note: {told}."), soft_wrap=True)
    done = settled(kept)
    rest = [claim for claim in chosen if claim.id not in done]
    if resume:
        recorded = len(chosen) - len(rest)
        console.print(f"Resuming: {recorded} of {number_of_claims(len(chosen))} recorded.")
    for line in (*crew.remarks, kernel_line()):
        console.print(Text(line), soft_wrap=True)
    if asked.store is not None and not resume:
        # Whatever else is in a folder of this name is not ours.
        forget(asked.store)
    recorder = Recorder(out, header, order, kept)
    try:
        with terminated_as_interrupted(), RunProgress(console, len(rest)) as progress:
            run_claims(
                rest,
                asked,
                crew,
                lambda outcome: progress.done(recorder.record(outcome)),
                on_start=progress.started,
                on_share=progress.share,
                expected_seconds=previous_seconds(out, header),
            )
        results = recorder.finish()
    except (KeyboardInterrupt, CrewLost, NotRecorded) as end:
        why = "" if isinstance(end, KeyboardInterrupt) else f", for {end}"
        recorded = len(recorder.results)
        verb = "stands" if recorded == 1 else "stand"
        stand = f"{number_of_claims(recorded)} {verb} in {out}"
        console.print(Text(f"Interrupted{why}; {stand}. Go on with --resume."), soft_wrap=True)
        return INTERRUPTED
    claims = [results[claim.id] for claim in chosen]
    console.print(verdict_table(claims))
    for claim in claims:
        if not claim.as_expected:
            console.print(Text("\n".join(surprise(claim)) + "\n"))
    try:
        report = _report(console, out, min(crew.jobs, cores()))
    except OSError as error:
        told = f"No report, for {out} cannot be written: {error.strerror}. --resume writes it."
        console.print(Text(told), soft_wrap=True)
        return INTERRUPTED
    console.print(f"{counts(claims)}; {time.perf_counter() - start:.1f} s")
    console.print(Text(f"Report: {report}"), soft_wrap=True)
    return 0 if all(claim.as_expected for claim in claims) else 1


def _report(console: Console, out: Path, jobs: int) -> Path:
    with console.status("Writing the report"):
        from figures.report import write_report

        return write_report(out, jobs)


def _registry() -> Registry:
    from claims.selection import load_registry

    return load_registry(REGISTRY_MODULE)


def _chosen(
    asked: Asked, only: Sequence[str] = (), paper: str | None = None
) -> tuple[Registry, tuple[Claim, ...]]:
    """All claims, and those that are meant, of which one at least can be judged."""
    from claims.selection import require_judgeable

    registry = _registry()
    chosen = _select(registry, only, paper)
    if asked.subject is not None:
        chosen = _about(asked.subject, registry, only, paper)
    with usage_errors(None):
        require_judgeable(chosen, asked.tier, asked.seed, asked.place)
    return registry, chosen


def _about(
    subject: str, registry: Registry, only: Sequence[str], paper: str | None
) -> tuple[Claim, ...]:
    """Those of the claims that are meant that can be asked of the optimiser under test."""
    from claims.subject import about, load_subject, select_about

    with usage_errors("--subject"):
        loaded = load_subject(subject)
        chosen = select_about(loaded, registry, only, paper)
    origin = f" ({loaded.origin})" if loaded.origin else ""
    fit = len(about(loaded, registry))
    told = f"Under test: {subject}{origin}, of {loaded.takes}; {fit} claims are about it."
    standard_console().print(Text(told), soft_wrap=True)
    return chosen


def _select(registry: Registry, only: Sequence[str], paper: str | None) -> tuple[Claim, ...]:
    from claims.selection import select

    with usage_errors("--paper"):
        select(registry, [], paper)
    with usage_errors("--only"):
        return select(registry, only, paper)


if __name__ == "__main__":
    main()
