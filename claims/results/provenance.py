"""What a run was run with, and whether a later run may go on with it."""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from claims.registry import HERE, Place, Verdict
from claims.results.recorded import Recorded, Results
from simulate.fingerprint import source_digest

PACKAGES = ("torch", "numpy", "scipy", "numba", "sympy", "matplotlib", "paper-checks")
# Whose code the numbers of claims hang on.
ROOMS = ("geometry", "flows", "simulate", "claims")
HOME = Path(__file__).resolve().parents[2]
# The dtype of a run in which every claim computes in the one that it is declared for.
OWN = "own"
# What later versions added, and what it was before.
BEFORE = {"dtype": OWN}


class OtherRun(ValueError):
    """The recorded run is not the one that is to go on."""


def run_header(
    tier: str,
    seed: int,
    jobs: int,
    command: str,
    subject: str | None = None,
    place: Place = HERE,
    gpus: Sequence[str] = (),
) -> dict[str, Any]:
    """Everything that the numbers of a run may depend on.

    ``gpus`` are the names of those that it computes on.
    """
    optional = {
        "subject": subject,
        "subject_source": subject and _source(subject),
        "gpus": ", ".join(dict.fromkeys(gpus)) or None,
    }
    return {
        "tier": tier,
        "seed": seed,
        "command": command,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "code": source_digest(ROOMS)[:12],
        "versions": versions(),
        "device": place.device,
        "dtype": place.dtype or OWN,
        "jobs": jobs,
    } | {name: value for name, value in optional.items() if value is not None}


def versions() -> dict[str, str]:
    """Of Python and of the packages that numbers may depend on, by name."""
    return {"python": platform.python_version()} | {p: _version(p) for p in PACKAGES}


def resumed(header: dict[str, Any], previous: Results) -> dict[str, Any]:
    """``header`` for a run that goes on with ``previous``: it began then, and took that time.

    Raises OtherRun where the two differ in anything that changes the numbers.
    """
    for name in (
        "tier", "seed", "device", "dtype", "gpus", "subject", "subject_source", "versions",
    ):  # fmt: skip
        before: Any = previous.run.get(name, BEFORE.get(name))
        now: Any = header.get(name)
        if before != now:
            if name == "versions":
                changed = [p for p in sorted({*before, *now}) if before.get(p) != now.get(p)]
                before = ", ".join(f"{p} {before.get(p, 'absent')}" for p in changed)
                now = ", ".join(f"{p} {now.get(p, 'absent')}" for p in changed)
            what = name.replace("_", " ")
            raise OtherRun(f"the recorded run has the {what} {before}; this one would have {now}")
    return header | {"started": previous.run["started"], "seconds": previous.run["seconds"]}


def other_code(header: Mapping[str, Any], previous: Results) -> str:
    """That what was recorded is of other code, in words; empty where it is not known to be."""
    before, now = (
        {name: run[name] for name in ("commit", "code") if name in run}
        for run in (previous.run, header)
    )
    changed = [name for name in before if before[name] != now[name]]
    was, is_now = (", ".join(f"{name} {run[name]}" for name in changed) for run in (before, now))
    return f"what is kept was recorded at {was}; this is {is_now}" if changed else ""


def place_of(run: Mapping[str, Any]) -> str:
    """Where and in what a run computed, in words: "cpu", or "cuda, bfloat16"."""
    dtype = run.get("dtype", OWN)
    return run["device"] if dtype == OWN else f"{run['device']}, {dtype}"


def kind(run: Mapping[str, Any]) -> str:
    """The runs whose results take each other's place: of one tier, device and dtype."""
    dtype = run.get("dtype", OWN)
    return kind_of(run["tier"], Place(run["device"], None if dtype == OWN else dtype))


def kind_of(tier: str, place: Place) -> str:
    """The kind of a run that is asked for: "full", or "quick-cuda-bfloat16"."""
    elsewhere = [] if place == HERE else [place.device, *filter(None, [place.dtype])]
    return "-".join([tier, *elsewhere])


def kept_claims(previous: Results, known: Collection[str]) -> tuple[Recorded, ...]:
    """The claims of ``previous`` that still exist.

    Raises ResultsError where the evidence of one of them is missing or damaged.
    """
    kept = tuple(claim for claim in previous if claim.id in known)
    for claim in kept:
        claim.arrays()
    return kept


def settled(kept: Collection[Recorded]) -> set[str]:
    """The ids of those that need not run again: all but those that raised."""
    return {claim.id for claim in kept if claim.verdict is not Verdict.ERROR}


def _source(subject: str) -> str | None:
    """A digest of the file of a subject's module, which was loaded, where it has one."""
    file = getattr(sys.modules.get(subject.partition(":")[0]), "__file__", None)
    return None if file is None else sha256(Path(file).read_bytes()).hexdigest()[:12]


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _commit() -> str | None:
    """The commit of this checkout, with "-dirty" where files differ from it; None outside one."""
    git = shutil.which("git")
    if git is None:
        return None
    command = [git, "-C", str(HOME), "describe", "--always", "--dirty", "--abbrev=40"]
    where = [git, "-C", str(HOME), "rev-parse", "--show-toplevel"]
    top = subprocess.run(where, capture_output=True, text=True, check=False)
    # Installed inside somebody else's repository, we must not report theirs.
    if top.returncode or Path(top.stdout.strip()) != HOME:
        return None
    described = subprocess.run(
        [*command, "--exclude", "*"], capture_output=True, text=True, check=False
    )
    return described.stdout.strip() if described.returncode == 0 else None
