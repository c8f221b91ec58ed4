"""Running claims: every verdict comes out, one claim never harms another, numbers never move."""

from __future__ import annotations

import multiprocessing
import random
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import ortho_group

from claims.registry import Claim, Evidence, Measurement, Setting, Verdict
from claims.results import Outcome
from claims.running.crew import Asked
from claims.running.here import Here
from claims.running.lanes import standing_lanes
from claims.running.many import run_claims
from claims.running.one import run_claim
from tests.claims import fakes

FAKES = "tests.claims.fakes"
ASKED = Asked("quick", 0, FAKES)
EXPECTED = {
    "fake.passing": Verdict.HOLDS,
    "fake.refuted": Verdict.REFUTED,
    "fake.skipped": Verdict.SKIPPED,
    "fake.failing": Verdict.FAILS,
    "fake.vacuous": Verdict.VACUOUS,
    "fake.raising": Verdict.ERROR,
    "fatal.dying": Verdict.ERROR,
}


def run(claims: Sequence[Claim], jobs: int) -> tuple[Outcome, ...]:
    return run_claims(claims, ASKED, Here(jobs))


def numbers(outcome: Outcome) -> tuple[list[float], dict[str, bytes]]:
    """Everything measured, to the last bit."""
    assert outcome.evidence is not None
    values = [m.value for m in outcome.evidence.measurements]
    return values, {name: array.tobytes() for name, array in outcome.evidence.arrays.items()}


def test_every_verdict_comes_out_and_a_dead_worker_costs_one_claim() -> None:
    claims = [fakes.REGISTRY[name] for name in ("fatal.dying", *EXPECTED)][:-1]
    recorded: list[str] = []
    started: list[str] = []
    outcomes = run_claims(
        claims,
        ASKED,
        Here(2),
        lambda outcome: recorded.append(outcome.claim.id),
        on_start=lambda claim: started.append(claim.id),
    )
    assert [outcome.claim for outcome in outcomes] == claims
    assert {o.claim.id: o.verdict for o in outcomes} == EXPECTED
    assert sorted(recorded) == sorted(started) == sorted(EXPECTED)
    reasons = {o.claim.id: o.reason for o in outcomes}
    assert reasons["fatal.dying"].startswith("the worker process died (killed by SIGKILL, perhaps")
    assert reasons["fake.skipped"] == "needs the paper tier"
    assert reasons["fake.refuted"] == "$x = 2$"


def test_the_numbers_depend_on_neither_jobs_nor_order_nor_selection() -> None:
    alone = {claim.id: numbers(run_claim(claim, "quick", 0)) for claim in fakes.SAMPLED}
    one = run([fakes.PASSING, *fakes.SAMPLED], jobs=1)
    two = run([*reversed(fakes.SAMPLED)], jobs=2)
    for outcomes in (one[1:], two):
        assert {o.claim.id: numbers(o) for o in outcomes} == alone
    assert len({str(value) for value in alone.values()}) == 3, "claims must not share their seeds"


def test_another_seed_gives_other_numbers() -> None:
    claim = fakes.SAMPLED[0]
    assert numbers(run_claim(claim, "quick", 0)) != numbers(run_claim(claim, "quick", 1))


def test_what_raises_keeps_what_was_measured_and_the_traceback() -> None:
    claim = fakes.fake("half", fakes.always(0.0), {"one": fakes.always(1.0), "two": fakes.raises})
    outcome = run_claim(claim, "quick", 0)
    assert outcome.verdict is Verdict.ERROR
    assert outcome.reason == "ZeroDivisionError: no inverse of zero"
    assert outcome.traceback is not None
    assert "in raises" in outcome.traceback
    assert outcome.evidence is not None
    assert set(outcome.controls) == {"one"}


def test_a_control_with_a_criterion_of_its_own_is_an_error() -> None:
    def other(_: Setting) -> Evidence:
        return Evidence((Measurement("error", 1.0, "<=", 0.5),))

    outcome = run_claim(fakes.fake("other", fakes.always(0.0), other), "quick", 0)
    assert outcome.verdict is Verdict.ERROR
    assert "criteria" in outcome.reason


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (np.array([None]), "'kept' holds Python objects"),
        ([[1, 2], [3]], "'kept' is none of numpy's: setting an array element with a sequence"),
        (torch.ones(2, requires_grad=True), "'kept' is none of numpy's: Can't call numpy()"),
        (torch.ones(2, dtype=torch.bfloat16), "in a dtype that numpy has"),
    ],
)
def test_arrays_that_cannot_be_written_are_told_by_name(given: Any, said: str) -> None:
    claim = fakes.fake("objects", fakes.always(0.0, arrays={"kept": given}))
    outcome = run_claim(claim, "quick", 0)
    assert outcome.verdict is Verdict.ERROR
    assert said in outcome.reason


def test_no_evidence_is_told_with_the_part_that_gave_none() -> None:
    nothing: Any = lambda setting: None  # noqa: E731
    outcome = run_claim(fakes.fake("forgetful", fakes.always(0.0), nothing), "quick", 0)
    assert outcome.reason == "TypeError: Evidence is expected to be returned; given None"
    assert (outcome.traceback or "").endswith("This is the control 'wrong law'.\n")


def test_a_claim_runs_on_one_thread_and_leaves_the_process_as_it_was() -> None:
    seen: list[int] = []

    def check(_: Setting) -> Evidence:
        seen.append(torch.get_num_threads())
        torch.manual_seed(1)
        return fakes.measured(0.0)

    before, state = torch.get_num_threads(), torch.get_rng_state()
    torch.set_num_threads(2)
    try:
        run_claim(fakes.fake("threads", check), "quick", 0)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert seen == [1]
    assert torch.equal(torch.get_rng_state(), state)


def test_global_generators_begin_at_the_claim_s_seed() -> None:
    def check(_: Setting) -> Evidence:
        turned = ortho_group.rvs(4)[0, 0] ** 2
        return fakes.measured(1e-3 * (turned + random.random() + float(torch.rand(()))))

    claim, state = fakes.fake("careless", check), random.getstate()
    first = numbers(run_claim(claim, "quick", 0))
    assert random.getstate() == state
    assert first == numbers(run_claim(claim, "quick", 0))
    assert first != numbers(run_claim(claim, "quick", 1))


def test_the_longest_claims_start_first_and_unknown_ones_before_them() -> None:
    started: list[str] = []
    claims = [fakes.SKIPPED, fakes.REFUTED, fakes.FAILING]
    run_claims(
        claims,
        ASKED,
        Here(1),
        on_start=lambda claim: started.append(claim.id),
        expected_seconds={"fake.skipped": 1.0, "fake.refuted": 5.0},
    )
    assert started == ["fake.failing", "fake.refuted", "fake.skipped"]


def test_where_no_run_is_known_the_claims_say_which_are_long() -> None:
    started: list[str] = []
    claims = [fakes.SKIPPED, replace(fakes.REFUTED, seconds=5.0), fakes.FAILING]
    run_claims(claims, ASKED, Here(1), on_start=lambda claim: started.append(claim.id))
    assert started == ["fake.refuted", "fake.skipped", "fake.failing"]


def test_an_interruption_ends_the_workers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(fakes.GATE, str(tmp_path / "never"))

    def interrupt(outcome: Outcome) -> None:
        raise KeyboardInterrupt

    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run_claims([fakes.GATED, fakes.SKIPPED], ASKED, Here(2), interrupt)
    assert multiprocessing.active_children() == []
    assert time.monotonic() - start < fakes.GATE_SECONDS, "the claim in flight was waited for"


def test_a_long_claim_tells_how_far_it_is_and_has_the_jobs_left_over(tmp_path: Path) -> None:
    told: list[tuple[str, float]] = []
    outcomes = run_claims(
        [fakes.WORKING],
        replace(ASKED, store=tmp_path),
        Here(3),
        on_share=lambda claim, share: told.append((claim.id, share)),
    )
    # Check and control are halves of the whole.
    assert told == [("work.working", 0.25)]
    evidence = outcomes[0].evidence
    assert evidence is not None
    assert evidence.arrays["processes"] == 3
    assert evidence.arrays["kept"] == 0
    assert [path.name for path in tmp_path.iterdir()] == [fakes.part_name(0)]
    # Two claims have one each.
    two = run([fakes.WORKING, fakes.PASSING], jobs=3)[0].evidence
    assert two is not None
    assert two.arrays["processes"] == 1


def test_no_jobs_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 1, got 0"):
        run([fakes.PASSING], jobs=0)


def test_nothing_to_run_is_nothing_run() -> None:
    assert run([], jobs=2) == ()


def test_standing_lanes_are_put_to_work_and_end() -> None:
    claims = [fakes.PASSING, fakes.REFUTED]
    with standing_lanes(2, FAKES) as standing:
        outcomes = run_claims(claims, ASKED, Here(1, standing=standing))
        first, other = (lane._process for lane in standing)
        # What was not needed still stands.
        assert (first.is_alive(), other.is_alive()) == (False, True)
    assert not other.is_alive()
    assert [outcome.claim.id for outcome in outcomes] == [claim.id for claim in claims]
    alone = run(claims, jobs=1)
    assert [numbers(outcome) for outcome in outcomes] == [numbers(outcome) for outcome in alone]
