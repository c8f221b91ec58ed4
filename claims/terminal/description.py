"""A claim in words: what ``show`` prints."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable, Mapping
from typing import Any

from claims.registry import Check, Claim
from claims.results.provenance import place_of
from claims.results.recorded import Recorded, Results
from claims.terminal.readable import readable
from claims.terminal.verdict_table import measurement_lines

WIDTH = 96


def describe(claim: Claim, last: Results | None, otherwise: str, *, unicode: bool = True) -> str:
    """Everything declared of ``claim``, and its record in ``last``; ``otherwise`` stands for None.

    ``unicode`` writes formulas with Unicode letters; without it they stay LaTeX.
    """
    plain: Callable[[str], str] = readable if unicode else str
    sections = [
        (claim.id, claim.title),
        ("statement", plain(claim.statement)),
        ("source", f"{claim.source}; {plain(claim.reference)}"),
        ("setup", plain(claim.setup)),
        ("criterion", plain(claim.criterion)),
        ("expected", str(claim.expected)),
    ]
    if claim.subject is not None:
        what = "LoRA pairs" if claim.subject == "pairs" else "matrices"
        sections.append(("can be asked of", f"any optimiser of {what}, by --subject"))
    parts = [f"{name}\n{_indented(text)}" for name, text in sections]
    parts.append(f"derivation\n{_docstring(claim.check)}")
    for name, control in claim.controls.items():
        parts.append(f"control: {name}\n{_docstring(control)}")
    parts.append("last evidence\n" + (_evidence(last, claim.id) if last else _indented(otherwise)))
    return "\n\n".join(parts)


def _indented(text: str) -> str:
    return textwrap.fill(text, WIDTH, initial_indent="  ", subsequent_indent="  ")


def _docstring(check: Check) -> str:
    return textwrap.indent(inspect.getdoc(check) or "(no docstring)", "  ")


def _evidence(results: Results, identifier: str) -> str:
    """The record of the run, and of an earlier one where the run skipped the claim."""
    told = _told(results.run, results[identifier])
    earlier = results.earlier.get(identifier)
    return told if earlier is None else f"{told}\n\n{_told(earlier.run, earlier.claim)}"


def _told(run: Mapping[str, Any], claim: Recorded) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in run["versions"].items())
    lines = [
        f"{claim.verdict} ({claim.seconds:.1f} s): {claim.reason}",
        f"run of {run['started']}, tier {run['tier']}, seed {run['seed']}, {place_of(run)}",
        versions,
        *(f"check: {line}" for line in measurement_lines(claim.measurements)),
        *_control_lines(claim),
        *claim.remarks,
    ]
    trace = (claim.traceback or "").rstrip().splitlines()
    return "\n".join([*map(_indented, lines), *(f"  {line}" for line in trace)])


def _control_lines(claim: Recorded) -> list[str]:
    return [
        f"control {name}: {line}"
        for name, control in claim.controls.items()
        for line in measurement_lines(control.measurements)
    ]
