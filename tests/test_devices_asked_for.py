"""The command line and devices: what is asked for, what there is, and what is recorded of it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import paper_checks
from claims.results import read_results
from tests.claims import fakes
from tests.command_line import FAKES, call, refuse


@pytest.fixture(autouse=True)
def _fake_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paper_checks, "REGISTRY_MODULE", FAKES)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there_is_wrong_usage(tmp_path: Path) -> None:
    out = tmp_path / "out"
    refuse("cuda is asked for, and torch", "--device", "cuda", "--out", out)
    assert not out.exists()


def test_a_run_on_gpus_through_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two, by name alone: what claims are told, what is skipped, and what is recorded."""
    from claims.running import gpus, here

    monkeypatch.setattr(gpus, "gpu_names", lambda device: ("One", "Other"))
    monkeypatch.setattr(here, "cores", lambda: 8)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    names = ("--only", "place.*", "--only", "fake.passing", "--out", tmp_path)
    asked = ("--device", "cuda", "--dtype", "float32", "--jobs", 8)
    result = call(*names, *asked)
    assert result.exit_code == 0, result.output
    assert "2 HOLDS, 1 SKIPPED" in result.output
    results = read_results(tmp_path)
    assert results["fake.passing"].reason.startswith("not on cuda: ")
    run = results.run
    assert (run["device"], run["dtype"], run["gpus"], run["jobs"]) == (
        "cuda", "float32", "One, Other", 8,
    )  # fmt: skip
    told = [results[claim.id].arrays() for claim in fakes.PLACED]
    assert {(str(each["device"]), str(each["dtype"])) for each in told} == {
        ("cuda", "torch.float32")
    }
    assert {str(each["visible"]) for each in told} == {"0", "1"}
    report = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<dd>cuda, float32 (One, Other), 8 jobs</dd>" in report
    # Further processes would see the same GPU.
    assert {int(each["processes"]) for each in told} == {1}
    shown = call("show", "place.one", "--out", tmp_path).output
    assert "tier quick, seed 0, cuda, float32" in shown
    # By default one job a GPU.
    call("--only", "place.one", "--device", "cuda", "--out", tmp_path / "again")
    assert read_results(tmp_path / "again").run["jobs"] == 2
