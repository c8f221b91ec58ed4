"""From recorded results to the arrays a figure reads, or to what is missing for it."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from pathlib import Path

from claims.registry import Verdict
from claims.results import OWN, Results
from figures.figure import Figure, Sources
from figures.numbers import moment


def missing_claims(figure: Figure, results: Results) -> dict[str, str]:
    """The claims whose evidence ``figure`` reads and ``results`` lacks, each with the reason."""
    missing = {}
    for identifier in figure.claims:
        if identifier not in results:
            missing[identifier] = "was not run"
        elif results.standing(identifier).evidence is None:
            verdict = results[identifier].verdict
            if verdict is Verdict.ERROR:
                missing[identifier] = "ended in an error"
            elif verdict is Verdict.SKIPPED:
                missing[identifier] = "was skipped"
            else:
                missing[identifier] = "recorded no evidence"
    return missing


def skipped(identifier: str, results: Results) -> bool:
    """Whether the run skipped the claim."""
    return identifier in results and results[identifier].verdict is Verdict.SKIPPED


def sources(figure: Figure, results: Results) -> Sources:
    """The arrays of every claim that ``figure`` reads; read only when this is called."""
    return Sources({name: results.standing(name).arrays(prefix="") for name in figure.claims})


def earlier_sentence(figure: Figure, results: Results) -> str:
    """Which of what ``figure`` reads is of an earlier run; empty where nothing is."""
    told = [
        f"{name} of the {results.earlier[name].run['tier']} tier, "
        f"{moment(results.earlier[name].run['started'])}"
        for name in figure.claims
        if name in results.earlier
    ]
    return f"Of an earlier run: {'; '.join(told)}." if told else ""


def missing_sentence(figure: Figure, missing: dict[str, str]) -> str:
    """``equal-rate is left out: usg.equal-rate was not run.``"""
    reasons = ", ".join(f"{identifier} {reason}" for identifier, reason in missing.items())
    return f"The figure {figure.name} is left out: {reasons}."


def command(identifiers: Iterable[str], results: Results, out: Path) -> str:
    """The command that records the evidence of ``identifiers`` beside the ``results`` in ``out``.

    A run goes on only with its own tier, seed, device and dtype, so these are named. Empty where
    the run skipped all of them: it would again; and where it has a subject, which can be asked few.
    """
    words = ["python", "paper_checks.py"]
    wanted = [name for name in identifiers if not skipped(name, results)]
    if not wanted or "subject" in results.run:
        return ""
    for identifier in wanted:
        words += ["--only", identifier]
    words += ["--tier", str(results.run["tier"]), "--seed", str(results.run["seed"])]
    words += ["--device", str(results.run["device"])] if results.run["device"] != "cpu" else []
    dtype = results.run.get("dtype", OWN)
    words += ["--dtype", str(dtype)] if dtype != OWN else []
    return shlex.join([*words, "--out", str(out), "--resume"])
