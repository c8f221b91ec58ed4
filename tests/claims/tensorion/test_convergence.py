"""Tensorion's contest: planted curves get the numbers they should, and runs are runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from claims import REGISTRY
from claims.judging import judge
from claims.measuring.tuned import Tuned
from claims.registry import Setting, Verdict
from claims.running.one import run_claim
from claims.tensorion import arenas, convergence
from claims.tensorion.arenas import Arena, Ran
from claims.tensorion.convergence import ADAMW, FLAT, OURS
from simulate.cells import Contestant
from simulate.schedules import linear_decay
from simulate.tasks import TensorRegression
from simulate.tuning import Protocol, Tuning

TRAINED = ("tensorion.convergence",)
TINY: dict[str, Any] = {
    "seeds": 2, "steps": 4, "recorded": 3, "regression": (3, 2, 3, 2), "completion": (4, 5, 6),
    "trained": (2, 3, 3), "widths": (3, 4), "matrix": (5, 6),
}  # fmt: skip
STEPS = np.arange(0.0, 121, 5)


def tiny() -> Setting:
    return replace(REGISTRY[TRAINED[0]], tiers={"full": TINY}).setting("full", 0)


def planted(
    monkeypatch: pytest.MonkeyPatch,
    ends: Mapping[str, float],
    off: Mapping[str, float],
    still: str = "",
) -> None:
    """Curves that fall exponentially to ``ends``, and what a rate beside the best costs.

    Rates are nothing to the losses of ``still``.
    """

    def ran(arena: Arena, contestants: Mapping[str, Contestant]) -> dict[str, Ran]:
        made = {}
        for name in contestants:
            seeds = np.exp(0.01 * np.random.default_rng(len(name)).standard_normal((6, 1)))
            curves = np.exp(np.log(ends.get(name, 0.1) * seeds) * STEPS / 120)
            tuning = Tuning(Protocol((0.01, 0.1, 1.0)))
            beside_it = 1.0 if name == still else 2.0
            costs = np.array([[beside_it], [1.0], [beside_it]])
            tuning.add((0.01, 0.1, 1.0), curves[:, -1] * costs)
            beside = curves[:, -1] * off.get(name, 2.0)
            made[name] = Ran(Tuned(tuning, np.stack([curves] * 3)), np.stack([beside, beside]))
        return made

    monkeypatch.setattr(convergence, "run_in", ran)
    nothing = Arena(lambda *_: np.empty(0), STEPS, (0.01, 0.1, 1.0))
    monkeypatch.setattr(convergence, "_arenas", lambda _: {"a task": nothing})


def test_slower_by_so_much_is_measured_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    planted(monkeypatch, {OURS: 0.1, FLAT: 0.01, ADAMW: 0.1}, {OURS: 3.0})
    evidence = convergence.check_convergence(tiny())
    assert evidence.holds
    slower, edges, _ = (measurement.value for measurement in evidence.measurements)
    assert edges == 0
    # Half of the way to .01 takes half of the steps, or all of them.
    assert slower == pytest.approx(np.log(2), abs=0.03)
    assert evidence.counterexample is not None
    assert "times as many steps as Muon, flattened" in evidence.counterexample
    assert any("a task, Tensorion over AdamW: steps" in remark for remark in evidence.remarks)


def test_what_does_not_learn_refutes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    planted(monkeypatch, {FLAT: 0.01}, {}, still=OURS)
    evidence = convergence.check_convergence(tiny())
    missed = [measurement.name for measurement in evidence.measurements if not measurement.holds]
    assert missed == ["best rates left at an edge, of those compared"]


def test_faster_is_no_counterexample_and_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    planted(monkeypatch, {OURS: 0.01}, {FLAT: 3.0})
    evidence = convergence.check_convergence(tiny())
    assert not evidence.holds
    assert evidence.remarks[0] == (
        "of 2 comparisons Tensorion has fewer steps in 2, the opposite in 0; a lower loss in 2, "
        "the opposite in 0; less lost beside the best rate in 1, the opposite in 0"
    )


def test_on_matrices_nothing_differs() -> None:
    claim = REGISTRY[TRAINED[0]]
    (control,) = (control(tiny()) for control in claim.controls.values())
    assert not control.holds
    assert not control.arrays["differences"].any()


def test_muon_on_the_flattened_tensor_is_muon() -> None:
    arena = arenas.regression(tiny(), (3, 4, 2), (2, 2, 2))
    flat = arena.train(convergence.CONTESTANTS[FLAT], (0.03,))
    # Of the same numbers as a matrix.
    task = TensorRegression(
        (3, 4, 2), (2, 2, 2), tiny().seeds(2), samples=48, noise=0.1, condition=100.0, batch_size=64
    )
    W = torch.nn.Parameter(torch.zeros(2, 3, 8, dtype=torch.float64))
    lr = torch.full((2,), 0.03, dtype=torch.float64)
    optimizer = convergence.muon([W], lr)
    schedule = linear_decay(4)
    for step in range(4):
        W.grad = task.gradient(W.detach().reshape(2, 3, 4, 2), step).reshape(W.shape)
        optimizer.param_groups[0]["lr"] = lr * schedule(step)
        optimizer.step()
    error = task.held_out_error(W.detach().reshape(2, 3, 4, 2))
    assert flat[0, :, -1] == pytest.approx(error.numpy(), rel=1e-12)


def test_runs_go_from_end_to_end() -> None:
    outcome = run_claim(replace(REGISTRY[TRAINED[0]], tiers={"full": TINY}), "full", 0)
    assert outcome.verdict is not Verdict.ERROR, outcome.traceback
    assert outcome.evidence is not None
    arrays = outcome.evidence.arrays
    assert arrays["tasks"].tolist() == ["tensor regression", "tensor completion", "convolutions"]
    for task in arrays["tasks"]:
        assert arrays[f"curves, {task}"].shape == (4, 2, 3)
        assert arrays[f"bands, {task}"].shape == (4, 3, 3)
        assert arrays[f"off, {task}"].shape == (4, 2, 2)
        assert np.isfinite(arrays[f"differences, {task}"]).all()


def test_the_verdict_is_as_declared(monkeypatch: pytest.MonkeyPatch) -> None:
    claim, setting = REGISTRY[TRAINED[0]], tiny()
    controls = {name: control(setting) for name, control in claim.controls.items()}
    planted(monkeypatch, {FLAT: 0.01}, {OURS: 3.0})
    assert judge(claim, claim.check(setting), controls)[0] is Verdict.REFUTED


def test_the_quick_tier_says_why_it_skips() -> None:
    outcome = run_claim(REGISTRY[TRAINED[0]], "quick", 0)
    assert outcome.verdict is Verdict.SKIPPED
    assert "begins at the full tier" in outcome.reason
