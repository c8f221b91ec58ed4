"""A registry of small claims, one for every verdict, for the tests of everything around claims."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from claims.registry import (
    DEVICES,
    DTYPES,
    Check,
    Claim,
    Evidence,
    Measurement,
    Registry,
    Setting,
    Verdict,
)
from simulate.fingerprint import name_of
from simulate.processes import local_processes

# While this file does not exist, the slow claims of a run wait for it.
GATE = "PAPER_CHECKS_TEST_GATE"
GATE_SECONDS = 60


def measured(value: float, **rest: Any) -> Evidence:
    return Evidence((Measurement("error", value, "<=", 1e-2),), **rest)


def always(value: float, **rest: Any) -> Check:
    def check(setting: Setting) -> Evidence:
        """By inspection."""
        return measured(value, **rest)

    return check


def sampled(setting: Setting) -> Evidence:
    """The mean of Gaussians is small, by the law of large numbers."""
    generator = torch.Generator().manual_seed(setting.seed)
    drawn = torch.randn(setting["count"], 8, generator=generator, dtype=torch.float64)
    # The global generators must not leak between claims either.
    leaked = float(torch.rand(())) * 1e-12
    mean = drawn.T @ drawn / setting["count"]
    error = float((mean - torch.eye(8, dtype=torch.float64)).abs().max()) * 1e-3 + leaked
    return measured(error, arrays={"mean": mean.numpy(), "seeds": np.array(setting.seeds(3))})


def placed(setting: Setting) -> Evidence:
    """What a claim is told of its place."""
    told = {
        "device": setting.device,
        "dtype": str(setting.dtype(torch.float64)),
        "processes": str(setting.means.processes),
        "visible": os.environ.get("CUDA_VISIBLE_DEVICES", "all"),
    }
    return measured(0.0, arrays={name: np.array(value) for name, value in told.items()})


def raises(setting: Setting) -> Evidence:
    """Fails on the way."""
    raise ZeroDivisionError("no inverse of zero")


def dies(setting: Setting) -> Evidence:
    """Takes its process with it."""
    os.kill(os.getpid(), 9)
    raise AssertionError("unreachable")


def gated(setting: Setting) -> Evidence:
    """Waits until the test lets it through."""
    gate = os.environ.get(GATE)
    deadline = time.monotonic() + GATE_SECONDS
    while gate and not Path(gate).exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    return measured(1e-3)


def part_name(number: int) -> str:
    """Of the part that is kept by long work after so many."""
    return f"{name_of({'part': number})}.part"


def long_work(setting: Setting) -> Evidence:
    """Tells how far it is, keeps a part, and has processes of its own."""
    means = setting.means
    means.progress(0.5)
    kept = 0
    if means.store is not None:
        kept = len(list(means.store.glob("*.part")))
        means.store.mkdir(parents=True, exist_ok=True)
        (means.store / part_name(kept)).touch()
    ends = {1}
    if means.processes > 1:
        with local_processes(means.processes) as processes:
            ends = set(processes.map(abs, [1, -1]))
    return measured(
        1e-3 * len(ends), arrays={"processes": np.array(means.processes), "kept": np.array(kept)}
    )


def tells_and_stays(setting: Setting) -> Evidence:
    """Tells how far it is, and then is not done for long."""
    setting.means.progress(0.5)
    time.sleep(GATE_SECONDS)
    return measured(1e-3)


def fake(
    name: str,
    check: Check,
    control: Check | Mapping[str, Check] | None = None,
    paper: str = "fake",
    **rest: Any,
) -> Claim:
    controls = control if isinstance(control, Mapping) else {"wrong law": control or always(1.0)}
    texts: dict[str, Any] = {
        "title": f"The {name} claim",
        "statement": r"$\sigma_i \le \beta^2$ for every mode.",
        "reference": "Nobody (2026), Theorem 1",
        "source": "derived",
        "setup": "Nothing is set up.",
        "criterion": "The error is at most .01.",
        "tiers": {"quick": {"count": 2000}, "full": {"count": 4000}},
    }
    return Claim(
        id=f"{paper}.{name}", paper=paper, check=check, controls=controls, **(texts | rest)
    )


def skipped_below_paper(setting: Setting) -> str | None:
    return None if setting.tier == "paper" else "needs the paper tier"


PASSING = fake("passing", sampled)
REFUTED = fake("refuted", always(0.0, counterexample="$x = 2$"), expected=Verdict.REFUTED)
SKIPPED = fake("skipped", always(0.0), skip=skipped_below_paper)
# Begun last, also where there is one core.
GATED = fake("gated", gated, paper="slow", seconds=0.0)
STAYING = fake("staying", tells_and_stays, paper="slow")
SAMPLED = [fake(f"sampled-{letter}", sampled, paper="random") for letter in "abc"]
FAILING = fake("failing", always(0.5))
VACUOUS = fake("vacuous", always(0.001), always(0.002))
RAISING = fake("raising", raises)
DYING = fake("dying", dies, paper="fatal")
WORKING = fake("working", long_work, paper="work")
PLACED = [
    fake(name, placed, paper="place", devices=DEVICES, dtypes=DTYPES) for name in ("one", "two")
]
LONG = fake(
    "a-claim-whose-name-is-longer-than-any-other-name-in-the-registry",
    always(1.234567e-5),
    {"a control with a very long name indeed": always(9.87654e11), "nan": always(float("nan"))},
    paper="long",
)

REGISTRY = Registry(
    [
        PASSING,
        REFUTED,
        SKIPPED,
        GATED,
        STAYING,
        *SAMPLED,
        FAILING,
        VACUOUS,
        RAISING,
        DYING,
        WORKING,
        *PLACED,
        LONG,
    ]
)
