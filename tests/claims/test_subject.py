"""The subject under test: how it is named, what it is asked, what it changes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.optim import Optimizer

from claims import REGISTRY
from claims.registry import Claim, Make, Verdict
from claims.results import Recorder, read_results
from claims.results.provenance import OtherRun, resumed, run_header
from claims.running.one import run_claim
from claims.subject import Subject, about, load_subject
from simulate.optimizers import LoRAMuon, Muon
from tests.claims import fakes

OWN = """
import torch

def shortened(pairs, lr):
    from simulate.optimizers import LoRAMuon, Muon
    return LoRAMuon(pairs, lr=lr / 2, momentum=0.0)

def rated(pairs, rate): ...

def placed(pairs, lr, /): ...

def asking(params, lr, *, decay, steps=3): ...

number = 3
"""


ASKED = {claim.id: claim for claim in REGISTRY if claim.subject is not None}
OF_MATRICES = {claim.id: claim for claim in ASKED.values() if claim.subject == "matrices"}
Broken = Callable[[int, Any], bool]
STILL: dict[str, Any] = {"momentum": 0.0, "nesterov": False, "weight_decay": 0.0}


def polar(params: Any, lr: float, **options: Any) -> Optimizer:
    return Muon(params, lr=lr, adjust_lr_fn="unadjusted", **{**STILL, **options})


def still(pairs: Any, lr: float) -> Optimizer:
    return LoRAMuon(pairs, lr=lr, momentum=0.0)


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module in the working directory."""
    (tmp_path / "own_optimizers.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    sys.modules.pop("own_optimizers", None)
    return "own_optimizers"


def verdict(identifier: str, subject: Subject) -> Verdict:
    return run_claim(REGISTRY[identifier], "quick", 0, subject=subject).verdict


def test_an_optimiser_of_pairs_and_one_of_parameters() -> None:
    pairs = load_subject("simulate.optimizers:LoRAMuon")
    params = load_subject("torch.optim:Adam")
    assert (pairs.takes, params.takes) == ("pairs", "params")
    assert "torch" in params.origin
    of_pairs, of_both = ({claim.id for claim in about(each, REGISTRY)} for each in (pairs, params))
    assert "lora-muon.gauge" in of_pairs
    # One of parameters may be asked of matrices as well, one of pairs may not.
    assert of_both - of_pairs == set(OF_MATRICES)
    assert of_pairs <= of_both
    assert all(claim.expected is Verdict.HOLDS for claim in about(params, REGISTRY))


@pytest.mark.parametrize("identifier", ["lora-muon.gauge", "lora-rite.gauge"])
def test_a_covariant_optimiser_holds_and_adam_does_not(identifier: str) -> None:
    assert verdict(identifier, load_subject("simulate.optimizers:LoRAMuon")) is Verdict.HOLDS
    assert verdict(identifier, load_subject("torch.optim:Adam")) is Verdict.FAILS


def test_one_of_ours_by_its_members_is_the_claim_itself() -> None:
    claim = REGISTRY["lora-muon.solves-split"]
    ours = run_claim(claim, "quick", 0).evidence
    theirs = run_claim(claim, "quick", 0, subject=Subject("ours", "pairs", still)).evidence
    assert ours is not None
    assert theirs is not None
    for one, other in zip(ours.measurements, theirs.measurements, strict=True):
        assert one.name == other.name
        assert one.value == pytest.approx(other.value, rel=1e-6, abs=1e-12)


def small(claim: Claim) -> Claim:
    """A claim that is quick to be asked."""
    sizes = {"seeds": 4, "members": 60, "horizons": (8, 16, 32), "control_horizons": (8, 16),
             "steps": 8, "drawn": 60}  # fmt: skip
    own = claim.tiers["quick"]
    return replace(claim, tiers={"quick": {name: sizes.get(name, own[name]) for name in own}})


@pytest.mark.parametrize(
    ("options", "holding"),
    [
        ({"orthogonalizer": "svd"}, set(OF_MATRICES)),
        # Newton-Schulz turns with the axes, in the dtype of the matrix; bfloat16 does not.
        ({"orthogonalizer": "muon"}, {"tensorion.equivariance"}),
        ({"orthogonalizer": "torch"}, set()),
        # From 0 there is nothing to decay, and of a run to the optimum, 0, it is no hindrance.
        (
            {"orthogonalizer": "svd", "weight_decay": 0.5},
            {"tensorion.equivariance", "tensorion.lmo-optimal", "low-rank.msgd-rate"},
        ),
    ],
    ids=["exact", "Newton-Schulz", "bfloat16", "decay"],
)
def test_what_a_step_of_matrices_is_asked(options: dict[str, Any], holding: set[str]) -> None:
    subject = Subject("polar", "params", partial(polar, **options))
    verdicts = {
        name: run_claim(small(claim), "quick", 0, subject=subject).verdict
        for name, claim in OF_MATRICES.items()
    }
    assert {name for name, verdict in verdicts.items() if verdict is Verdict.HOLDS} == holding
    assert {*verdicts.values()} <= {Verdict.HOLDS, Verdict.FAILS}


def uphill(pairs: Any, lr: float) -> Optimizer:
    optimizer = still(pairs, lr)

    def turn(*_: Any) -> None:
        for group in optimizer.param_groups:
            for p in group["params"]:
                p.grad.neg_()

    optimizer.register_step_pre_hook(turn)
    return optimizer


@pytest.mark.parametrize(
    ("make", "failing"),
    [
        (still, set()),
        (
            lambda pairs, lr: still(pairs, 2 * lr),
            {"solves-split", "projector-form", "rank-step-scale"},
        ),
        (uphill, {"solves-split", "projector-form"}),
    ],
    ids=["right", "twice", "uphill"],
)
def test_what_is_wrong_is_told_by_several_claims(make: Make, failing: set[str]) -> None:
    subject = Subject("theirs", "pairs", make)
    own = {name: claim for name, claim in ASKED.items() if name.startswith("lora-muon.")}
    verdicts = {
        name.removeprefix("lora-muon."): run_claim(
            small(claim), "quick", 0, subject=subject
        ).verdict
        for name, claim in own.items()
    }
    assert {name for name, verdict in verdicts.items() if verdict is Verdict.FAILS} == failing
    assert {*verdicts.values()} <= {Verdict.HOLDS, Verdict.FAILS}


@pytest.mark.parametrize("name", ["torch.optim:SGD", "torch.optim:Adam", "torch.optim:Muon"])
def test_torch_s_own_are_other_methods(name: str) -> None:
    subject = load_subject(name)
    verdicts = {
        each: run_claim(small(claim), "quick", 0, subject=subject).verdict
        for each, claim in OF_MATRICES.items()
    }
    turns = Verdict.HOLDS if name.endswith("SGD") else Verdict.FAILS
    assert verdicts == dict.fromkeys(OF_MATRICES, Verdict.FAILS) | {"tensorion.equivariance": turns}


# low-rank.msgd-rate has three ranks by itself, and one beside a subject.
@pytest.mark.parametrize("identifier", sorted({*OF_MATRICES} - {"low-rank.msgd-rate"}))
def test_controls_stay_what_they_are(identifier: str) -> None:
    claim = small(OF_MATRICES[identifier])
    ours, theirs = (
        run_claim(claim, "quick", 0, subject=subject)
        for subject in (None, Subject("polar", "params", partial(polar, orthogonalizer="svd")))
    )
    assert ours.verdict is theirs.verdict is Verdict.HOLDS
    for name, control in ours.controls.items():
        assert control.measurements == theirs.controls[name].measurements


class Breaking:
    """Sound optimisers, of which some leave one value behind everywhere with every step.

    Args:
        broken: whether one does, from its number, counted from 1, and what it is given.
    """

    def __init__(self, make: Make, broken: Broken, value: float) -> None:
        self.make, self.broken, self.value, self.made = make, broken, value, 0

    def __call__(self, given: Any, lr: float) -> Optimizer:
        optimizer: Optimizer = self.make(given, lr=lr)
        self.made += 1
        if self.broken(self.made, given):
            optimizer.register_step_post_hook(self._lose)
        return optimizer

    def _lose(self, optimizer: Optimizer, *_: Any) -> None:
        for group in optimizer.param_groups:
            for p in group["params"]:
                p.data.fill_(self.value)


@pytest.mark.parametrize(
    ("name", "broken", "value"),
    [
        *((name, lambda number, given: True, torch.nan) for name in ASKED),
        *((name, lambda number, given: number == 2, torch.nan) for name in ASKED),
        # Of matrices of several shapes the last.
        ("tensorion.equivariance", lambda number, given: given[0].shape == (7, 4), torch.nan),
        ("tensorion.descent", lambda number, given: given[0].shape == (7, 4), torch.nan),
        # Its square overflows.
        ("low-rank.descent", lambda number, given: True, 1e200),
        ("tensorion.descent", lambda number, given: True, 1e200),
    ],
)
def test_what_is_not_a_number_holds_nothing(name: str, broken: Broken, value: float) -> None:
    takes: Any = "params" if name in OF_MATRICES else "pairs"
    sound = partial(polar, orthogonalizer="svd") if name in OF_MATRICES else still
    subject = Subject("broken", takes, Breaking(sound, broken, value))
    outcome = run_claim(small(ASKED[name]), "quick", 0, subject=subject)
    assert outcome.verdict in (Verdict.FAILS, Verdict.ERROR), outcome.reason
    assert "control" not in outcome.reason


def test_pairs_are_not_matrices() -> None:
    run = run_claim(
        OF_MATRICES["tensorion.equivariance"], "quick", 0,
        subject=load_subject("simulate.optimizers:LoRAMuon"),
    )  # fmt: skip
    assert run.verdict is Verdict.ERROR
    assert "pairs (B, A) are expected by simulate.optimizers:LoRAMuon; given matrices" in run.reason


def test_a_function_that_makes_no_optimiser_is_told() -> None:
    made: Any = None
    subject = Subject("forgetful", "pairs", lambda pairs, lr: made)
    run = run_claim(REGISTRY["lora-muon.projector-form"], "quick", 0, subject=subject)
    assert run.verdict is Verdict.ERROR
    assert run.reason == "TypeError: forgetful: an optimiser with a step() is expected; given None"


def test_one_that_needs_a_closure_is_told() -> None:
    run = run_claim(
        REGISTRY["lora-muon.projector-form"], "quick", 0, subject=load_subject("torch.optim:LBFGS")
    )
    assert run.verdict is Verdict.ERROR
    assert "torch.optim:LBFGS: a step() of nothing but gradients is expected" in run.reason
    assert "'closure'" in run.reason


def test_a_subject_that_changed_is_not_gone_on_with(own: str, tmp_path: Path) -> None:
    name = f"{own}:shortened"
    load_subject(name)
    before = run_header("quick", 0, 1, "paper_checks.py", name)
    recorder = Recorder(tmp_path / "out", before)
    recorder.record(run_claim(fakes.PASSING, "quick", 0))
    previous = recorder.finish()
    assert read_results(tmp_path / "out").run == previous.run
    assert resumed(before, previous)["subject"] == name
    Path(f"{own}.py").write_text(OWN + "\n# mended")
    with pytest.raises(OtherRun, match="the recorded run has the subject source "):
        resumed(run_header("quick", 0, 1, "paper_checks.py", name), previous)


def test_a_rate_that_is_not_kept_is_found_out(own: str) -> None:
    subject = load_subject(f"{own}:shortened")
    assert verdict("lora-muon.solves-split", subject) is Verdict.FAILS
    assert verdict("lora-muon.gauge", subject) is Verdict.HOLDS


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("torch.optim", "package.module:name is expected"),
        ("no_such_module:Adam", "'no_such_module' cannot be imported"),
        ("torch.optim:Adm", "did you mean 'Adam'"),
        ("OWN:number", "is of type int, and no optimiser"),
        ("OWN:rated", "an argument lr, by name, is expected"),
        ("OWN:placed", "an argument lr, by name, is expected"),
        ("lib/own.py:f", "and no file; .*: for this one PYTHONPATH=lib and --subject own:f$"),
        ("own.py:f", "and no file; given 'own.py:f': for this one --subject own:f$"),
        ("OWN:asking", "defaults are expected of decay: write a function of"),
        ("torch:eye", "a first argument called pairs"),
    ],
)
def test_what_is_no_subject(own: str, name: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        load_subject(name.replace("OWN", own))


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("1 / 0", r"ZeroDivisionError: division by zero \(.*broken.py, line 1\)"),
        ("def f(:", r"invalid syntax \(broken.py, line 1\)"),
        ("import no_such_thing", "No module named 'no_such_thing'"),
        ("import sys\nsys.exit(3)", r"SystemExit: 3 \(.*broken.py, line 2\)"),
    ],
)
def test_a_module_that_raises_is_told_with_the_place(own: str, source: str, said: str) -> None:
    Path("broken.py").write_text(source)
    sys.modules.pop("broken", None)
    with pytest.raises(ValueError, match=f"'broken' cannot be imported: {said}"):
        load_subject("broken:f")


def test_a_claim_s_own_optimiser_keeps_its_options() -> None:
    setting = REGISTRY["lora-muon.gauge"].setting("quick", 0)
    own = setting.optimizer(LoRAMuon, momentum=0.0)
    assert isinstance(own, partial)
    assert own.keywords == {"momentum": 0.0}
