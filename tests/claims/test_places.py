"""Where claims are asked to run: which can, which are skipped, and what a run records of it."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from claims import REGISTRY
from claims.measuring.flowing import integrate_there
from claims.registry import DEVICES, DTYPES, HERE, Place, Setting, Verdict
from claims.results import Recorder, read_results
from claims.results.provenance import OtherRun, kind, resumed, run_header
from claims.running.gpus import gpu_names
from claims.running.here import _freest
from claims.running.one import run_claim
from claims.running.worker import _seeing
from flows import Field, MatrixFactorization, gradient_flow, spectral_flow
from tests.claims import fakes
from tests.elsewhere import elsewhere

CUDA = Place("cuda")
IN_FLOAT64 = Place("cpu", "float64")


def test_a_claim_that_stays_on_the_cpu_is_skipped_elsewhere_with_the_reason() -> None:
    claim = replace(fakes.PASSING, stays="it times the CPU")
    outcome = run_claim(claim, "quick", 0, place=CUDA)
    assert (outcome.verdict, outcome.reason) == (
        Verdict.SKIPPED,
        "not on cuda: it times the CPU",
    )
    assert run_claim(claim, "quick", 0, place=HERE).verdict is Verdict.HOLDS


def test_a_claim_of_one_dtype_is_skipped_in_another() -> None:
    claim = replace(fakes.PASSING, dtypes=("float32",))
    assert run_claim(claim, "quick", 0, place=Place("cpu", "float32")).verdict is Verdict.HOLDS
    outcome = run_claim(claim, "quick", 0, place=Place("cpu", "bfloat16"))
    assert outcome.verdict is Verdict.SKIPPED
    assert outcome.reason.startswith("not in bfloat16: ")


def test_a_claim_in_float64_is_one_when_it_is_asked_in_it() -> None:
    assert run_claim(fakes.PASSING, "quick", 0, place=IN_FLOAT64).verdict is Verdict.HOLDS
    narrow = re.compile("b?float(16|32)")
    for claim in REGISTRY:
        alone, of_several = claim.dtypes == ("float64",), claim.dtypes == ()
        assert not (alone and narrow.search(claim.setup)), claim.id
        assert not of_several or narrow.search(claim.setup), claim.id


def test_what_can_be_asked_for_is_what_some_claim_takes() -> None:
    assert {each for claim in REGISTRY for each in claim.dtypes} == {*DTYPES}
    assert {each for claim in REGISTRY for each in claim.devices} == {*DEVICES}


def test_a_claim_that_compares_dtypes_is_skipped_in_any() -> None:
    outcome = run_claim(replace(fakes.PASSING, dtypes=()), "quick", 0, place=IN_FLOAT64)
    assert outcome.reason == "not in float64: its criterion is stated for dtypes of its own"


def test_a_setting_hands_out_the_dtype_that_was_asked_for_or_the_claim_s_own() -> None:
    own = fakes.PASSING.setting("quick", 0)
    assert (own.device, own.dtype(torch.float32)) == ("cpu", torch.float32)
    asked = fakes.PASSING.setting("quick", 0, place=Place("cuda", "bfloat16"))
    assert (asked.device, asked.dtype(torch.float32)) == ("cuda", torch.bfloat16)


def test_unknown_places_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match="did you mean 'cuda'"):
        Place("cudo")
    with pytest.raises(ValueError, match="did you mean 'float32'"):
        Place("cpu", "float3")
    with pytest.raises(ValueError, match="unknown dtype 'int8'"):
        replace(fakes.PASSING, dtypes=("int8",))
    with pytest.raises(ValueError, match="unknown device 'tpu'"):
        replace(fakes.PASSING, devices=("cpu", "tpu"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there_is_said() -> None:
    assert gpu_names("cpu") == ()
    with pytest.raises(ValueError, match=r"cuda is asked for.*finds no GPU here; run without"):
        gpu_names("cuda")


def test_on_a_gpu_sums_come_in_one_order_and_float32_is_whole() -> None:
    seen: list[tuple[bool, bool]] = []

    def flags() -> tuple[bool, bool]:
        return torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.allow_tf32

    def check(setting: Setting) -> Any:
        seen.append(flags())
        return fakes.measured(0.0)

    before = flags()
    claim = replace(fakes.fake("flags", check), devices=DEVICES)
    assert run_claim(claim, "quick", 0, place=CUDA).verdict is Verdict.HOLDS
    run_claim(claim, "quick", 0)
    assert seen == [(True, False), before]
    assert flags() == before


def test_workers_share_out_the_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    class Taken:
        def __init__(self, gpu: int) -> None:
            self.gpu = gpu

    lanes: list[Any] = [Taken(0), Taken(2), Taken(0)]
    assert _freest(lanes, 3) == 1
    assert _freest(lanes, 0) is None
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert _seeing(1)["CUDA_VISIBLE_DEVICES"] == "1"
    # Of those that were left to this process.
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6")
    assert _seeing(1)["CUDA_VISIBLE_DEVICES"] == "6"


def header(place: Place, *gpus: str) -> dict[str, Any]:
    return run_header("quick", 0, 1, "paper_checks.py", None, place, gpus)


def test_a_run_says_where_it_was_and_goes_on_there_alone(tmp_path: Path) -> None:
    here = header(HERE)
    assert (here["device"], here["dtype"], "gpus" in here) == ("cpu", "own", False)
    there = header(Place("cuda", "bfloat16"), "H", "H")
    assert (there["device"], there["dtype"], there["gpus"]) == ("cuda", "bfloat16", "H")
    assert (kind(here), kind(there)) == ("quick", "quick-cuda-bfloat16")
    recorder = Recorder(tmp_path, header(CUDA, "H"))
    recorder.record(run_claim(fakes.PASSING, "quick", 0))
    previous = recorder.finish()
    assert read_results(tmp_path).run == previous.run
    assert resumed(header(CUDA, "H"), previous)["device"] == "cuda"
    for other, said in (
        (here, "has the device cuda; this one would have cpu"),
        (header(Place("cuda", "float32"), "H"), "has the dtype own; this one would have float32"),
        (header(CUDA, "A"), "has the gpus H; this one would have A"),
    ):
        with pytest.raises(OtherRun, match=said):
            resumed(other, previous)


def test_results_of_before_there_was_a_dtype_are_gone_on_with(tmp_path: Path) -> None:
    old = header(HERE)
    del old["dtype"]
    recorder = Recorder(tmp_path, old)
    recorder.record(run_claim(fakes.PASSING, "quick", 0))
    assert resumed(header(HERE), recorder.finish())["dtype"] == "own"


def test_a_run_on_a_gpu_leaves_what_the_cpu_came_to(tmp_path: Path) -> None:
    for place in (HERE, CUDA):
        recorder = Recorder(tmp_path, header(place))
        recorder.record(run_claim(fakes.PASSING, "quick", 0, place=place))
        recorder.finish()
    results = read_results(tmp_path)
    assert results["fake.passing"].verdict is Verdict.SKIPPED
    assert results.earlier["fake.passing"].run["device"] == "cpu"
    assert results.standing("fake.passing").verdict is Verdict.HOLDS


@pytest.mark.parametrize("flow", ["gradient", "spectral"])
def test_a_flow_is_carried_there_and_what_comes_of_it_back(
    flow: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = MatrixFactorization.planted(m=6, n=7, singular_values=[3, 2], rank=2, seed=0)
    start = problem.gaussian_init(0.3, seed=range(2))
    betas = torch.tensor([0.5, 0.3], dtype=torch.float64)
    field = gradient_flow(problem) if flow == "gradient" else spectral_flow(problem, betas)
    options: dict[str, Any] = {"kernel": "plain", "method": "dormand_prince", "rtol": 1e-3}
    setting = fakes.PASSING.setting("quick", 0)
    there: list[torch.device] = []
    velocity = Field.velocity

    def noted(self: Field, coordinates: Any, states: torch.Tensor) -> torch.Tensor:
        there.append(states.device)
        return velocity(self, coordinates, states)

    here = integrate_there(setting, field, start, [0.05, 0.1], **options)
    with elsewhere() as device:
        monkeypatch.setattr(Setting, "device", str(device))
        monkeypatch.setattr(Field, "velocity", noted)
        apart = integrate_there(setting, field, start, [0.05, 0.1], **options)
        assert set(there) == {device}
        # Not told of it before, it integrates again, and there too.
        there.clear()
        arrived = apart.arrival_times(0.5)
        assert set(there) == {device}
    for one, other in (
        (apart.states, here.states),
        (apart.loss, here.loss),
        (apart.energy, here.energy),
        (apart.products, here.products),
        (arrived, here.arrival_times(0.5)),
    ):
        torch.testing.assert_close(one, other)
    assert apart.problem.device.type == apart.field.problem.device.type == "cpu"
    assert apart.work.accepted.device.type == "cpu"
