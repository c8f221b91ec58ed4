"""From recorded results to the arrays a figure reads, or to what is missing for it."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from pathlib import Path

from claims.registry import Verdict
from claims.results import Results
from figures.figure import Figure, Sources


def missing_claims(figure: Figure, results: Results) -> dict[str, str]:
    """The claims whose evidence ``figure`` reads and ``results`` lacks, each with the reason."""
    recorded = {claim.id: claim for claim in results.claims}
    missing = {}
    for identifier in figure.claims:
        if identifier not in recorded:
            missing[identifier] = "was not run"
        elif recorded[identifier].evidence is None:
            verdict = recorded[identifier].verdict
            if verdict is Verdict.ERROR:
                missing[identifier] = "ended in an error"
            elif verdict is Verdict.SKIPPED:
                missing[identifier] = "was skipped"
            else:
                missing[identifier] = "recorded no evidence"
    return missing


def sources(figure: Figure, results: Results) -> Sources:
    """The arrays of every claim that ``figure`` reads; read only when this is called."""
    return Sources({c.id: c.arrays(prefix="") for c in results.claims if c.id in figure.claims})


def missing_sentence(figure: Figure, missing: dict[str, str]) -> str:
    """``equal-rate is left out: usg.equal-rate was not run.``"""
    reasons = ", ".join(f"{identifier} {reason}" for identifier, reason in missing.items())
    return f"The figure {figure.name} is left out: {reasons}."


def command(identifiers: Iterable[str], results: Results, out: Path) -> str:
    """The command that records the evidence of ``identifiers`` beside the ``results`` in ``out``.

    A run goes on only with its own tier and seed, so these are named.
    """
    words = ["python", "paper_checks.py"]
    for identifier in identifiers:
        words += ["--only", identifier]
    words += ["--tier", str(results.run["tier"]), "--seed", str(results.run["seed"])]
    return shlex.join([*words, "--out", str(out), "--resume"])
