"""The subject under test: how it is named, what it is asked, what it changes."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from claims import REGISTRY
from claims.registry import Verdict
from claims.running.one import run_claim
from claims.subject import Subject, about_subjects, load_subject
from simulate.optimizers import LoRAMuon

OWN = """
import torch

def shortened(pairs, lr):
    from simulate.optimizers import LoRAMuon
    return LoRAMuon(pairs, lr=lr / 2, momentum=0.0)

def rated(pairs, rate): ...

number = 3
"""


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
    asked = about_subjects(REGISTRY)
    assert "lora-muon.gauge" in {claim.id for claim in asked}
    assert all(claim.expected is Verdict.HOLDS for claim in asked)


@pytest.mark.parametrize("identifier", ["lora-muon.gauge", "lora-rite.gauge"])
def test_a_covariant_optimiser_holds_and_adam_does_not(identifier: str) -> None:
    assert verdict(identifier, load_subject("simulate.optimizers:LoRAMuon")) is Verdict.HOLDS
    assert verdict(identifier, load_subject("torch.optim:Adam")) is Verdict.FAILS


def test_one_of_ours_by_its_members_is_the_claim_itself() -> None:
    def exact(pairs: Any, lr: float) -> torch.optim.Optimizer:
        return LoRAMuon(pairs, lr=lr, momentum=0.0)

    claim = REGISTRY["lora-muon.solves-split"]
    ours = run_claim(claim, "quick", 0).evidence
    theirs = run_claim(claim, "quick", 0, subject=Subject("ours", "pairs", exact)).evidence
    assert ours is not None
    assert theirs is not None
    for one, other in zip(ours.measurements, theirs.measurements, strict=True):
        assert one.name == other.name
        assert one.value == pytest.approx(other.value, rel=1e-6, abs=1e-12)


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
        ("OWN:number", "is a int, and no optimiser"),
        ("OWN:rated", "an argument lr is expected"),
        ("torch:eye", "a first argument called pairs"),
    ],
)
def test_what_is_no_subject(own: str, name: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        load_subject(name.replace("OWN", own))


def test_a_claim_s_own_optimiser_keeps_its_options() -> None:
    setting = REGISTRY["lora-muon.gauge"].setting("quick", 0)
    own = setting.optimizer(LoRAMuon, momentum=0.0)
    assert isinstance(own, partial)
    assert own.keywords == {"momentum": 0.0}
