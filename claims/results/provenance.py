"""What a run was run with, and whether a later run may go on with it."""

from __future__ import annotations

import platform
import shutil
import subprocess
from collections.abc import Collection
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from claims.registry import Verdict
from claims.results.recorded import Recorded, Results

PACKAGES = ("torch", "numpy", "scipy", "numba", "sympy", "matplotlib", "paper-checks")
HOME = Path(__file__).resolve().parents[2]


class OtherRun(ValueError):
    """The recorded run is not the one that is to go on."""


def run_header(
    tier: str, seed: int, jobs: int, command: str, subject: str | None = None
) -> dict[str, Any]:
    """Everything that the numbers of a run may depend on."""
    return {
        "tier": tier,
        "seed": seed,
        "command": command,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "versions": {"python": platform.python_version()} | {p: _version(p) for p in PACKAGES},
        "device": "cpu",
        "jobs": jobs,
    } | ({} if subject is None else {"subject": subject})


def resumed(header: dict[str, Any], previous: Results) -> dict[str, Any]:
    """``header`` for a run that goes on with ``previous``: it began then, and took that time.

    Raises OtherRun where the two differ in anything that changes the numbers.
    """
    for name in ("tier", "seed", "device", "subject", "versions"):
        before: Any = previous.run.get(name)
        now: Any = header.get(name)
        if before != now:
            if name == "versions":
                changed = [p for p in sorted({*before, *now}) if before.get(p) != now.get(p)]
                before = ", ".join(f"{p} {before.get(p, 'absent')}" for p in changed)
                now = ", ".join(f"{p} {now.get(p, 'absent')}" for p in changed)
            raise OtherRun(f"the recorded run has the {name} {before}; this one would have {now}")
    return header | {"started": previous.run["started"], "seconds": previous.run["seconds"]}


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
