"""How evidence becomes a verdict, and what a declaration must not leave out."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from claims.judging import judge
from claims.registry import (
    Claim,
    Evidence,
    Measurement,
    Registry,
    Setting,
    Verdict,
)
from claims.results.evidence_file import evidence_name
from claims.results.recorded import recorded
from claims.running.one import run_claim
from claims.selection import load_registry, select
from claims.terminal.verdict_table import surprise
from tests.claims import fakes
from tests.claims.fakes import always, fake, measured

NUMBERS = st.floats(allow_nan=False, allow_infinity=False, width=32)


def verdict(claim: Claim, evidence: Evidence, *controls: Evidence) -> Verdict:
    return judge(claim, evidence, dict(zip(claim.controls, controls, strict=True)))[0]


@pytest.mark.parametrize(
    ("value", "relation", "bound", "holds", "margin"),
    [
        (0.5, "<=", 1.0, True, 0.5),
        (1.0, "<=", 1.0, True, 0.0),
        (1.5, "<=", 1.0, False, -0.5),
        (3.0, ">=", 2.0, True, 0.5),
        (1.0, ">=", 2.0, False, -0.5),
        (-3.0, "<=", -2.0, True, 0.5),
        (2.0, "within", (1.7, 2.3), True, 1.0),
        (1.7, "within", (1.7, 2.3), True, 0.0),
        (2.6, "within", (1.7, 2.3), False, -1.0),
        (0.0, "<=", 0.0, True, 1.0),
        (1e-300, "<=", 0.0, False, -math.inf),
        (math.nan, "<=", 1.0, False, -math.inf),
        (math.nan, "within", (0.0, 1.0), False, -math.inf),
        (math.inf, "<=", 1.0, False, -math.inf),
    ],
)
def test_a_measurement_holds_and_has_a_margin(
    value: float, relation: Any, bound: Any, holds: bool, margin: float
) -> None:
    measurement = Measurement("error", value, relation, bound)
    assert measurement.holds is holds
    assert measurement.margin == pytest.approx(margin)


@given(value=NUMBERS, bound=NUMBERS, above=st.booleans())
def test_a_margin_is_negative_exactly_where_the_bound_is_missed(
    value: float, bound: float, above: bool
) -> None:
    measurement = Measurement("error", value, ">=" if above else "<=", bound)
    assert (measurement.margin >= 0) == measurement.holds


@given(value=NUMBERS, edges=st.lists(NUMBERS, min_size=2, max_size=2, unique=True))
def test_the_margin_of_a_band_has_the_same_sign(value: float, edges: list[float]) -> None:
    measurement = Measurement("slope", value, "within", (min(edges), max(edges)))
    assert (measurement.margin >= 0) == measurement.holds


@pytest.mark.parametrize(
    ("relation", "bound", "said"),
    [
        ("<", 1.0, "unknown relation '<'"),
        ("within", 1.0, "does not fit"),
        ("<=", (0.0, 1.0), "does not fit"),
        ("within", (0.0, 0.5, 1.0), "does not fit"),
        ("<=", "1", "'error', bound: one real number is expected; given '1', of type str"),
        (">=", torch.ones(2), "one real number is expected; given tensor"),
    ],
)
def test_a_bound_must_fit_its_relation(relation: Any, bound: Any, said: str) -> None:
    with pytest.raises((ValueError, TypeError), match=said):
        Measurement("error", 0.0, relation, bound)


@pytest.mark.parametrize("value", [0.5, np.float32(0.5), np.array(0.5), torch.tensor(0.5)])
def test_whatever_is_one_number_is_kept_as_a_float(value: Any) -> None:
    measurement = Measurement("error", value, "within", (value, value))
    assert (measurement.value, measurement.bound) == (0.5, (0.5, 0.5))
    assert type(measurement.value) is float


@pytest.mark.parametrize(
    "value", ["0.5", None, 0.5 + 0j, np.complex64(0.5), np.ones(2), torch.ones(2)]
)
def test_what_is_no_number_is_told_by_its_name(value: Any) -> None:
    with pytest.raises(TypeError, match="'error', value: one real number is expected; given "):
        Measurement("error", value, "<=", 1.0)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"measurements": Measurement("error", 0.0, "<=", 1.0)}, "a tuple of Measurement is"),
        ({"remarks": "twelve seeds"}, "a tuple of str is expected; given 'twelve seeds'"),
        ({"arrays": [np.ones(2)]}, "arrays by name are expected"),
    ],
)
def test_evidence_that_is_none_is_told(given: dict[str, Any], said: str) -> None:
    one: dict[str, Any] = {"measurements": (Measurement("error", 0.0, "<=", 1.0),)}
    with pytest.raises(TypeError, match=said):
        Evidence(**(one | given))


def test_evidence_needs_measurements_with_names_of_their_own() -> None:
    with pytest.raises(ValueError, match="at least one measurement"):
        Evidence(())
    one = Measurement("error", 0.0, "<=", 1.0)
    with pytest.raises(ValueError, match="must differ"):
        Evidence((one, one))


def test_verdicts() -> None:
    good, bad = measured(0.001), measured(1.0)
    claim, refuted = fakes.PASSING, fakes.REFUTED
    assert verdict(claim, good, bad) is Verdict.HOLDS
    assert verdict(claim, bad, bad) is Verdict.FAILS
    assert verdict(claim, good, good) is Verdict.VACUOUS
    assert verdict(claim, bad, good) is Verdict.FAILS
    assert verdict(refuted, measured(0.0, counterexample="x"), bad) is Verdict.REFUTED
    assert verdict(refuted, good, bad) is Verdict.FAILS
    assert verdict(refuted, measured(0.0, counterexample="x"), good) is Verdict.VACUOUS
    assert verdict(claim, measured(math.nan), bad) is Verdict.FAILS
    # What breaks the check may break a control that measures beside it.
    assert verdict(claim, measured(math.nan), measured(math.nan)) is Verdict.FAILS


def test_a_counterexample_and_the_declaration_must_agree() -> None:
    shown = measured(0.0, counterexample="$x = 2$")
    found, why = judge(fakes.PASSING, shown, {"wrong law": measured(1.0)})
    assert found is Verdict.FAILS
    assert why == "not declared refuted, but the check shows a counterexample: $x = 2$"
    found, why = judge(fakes.REFUTED, measured(1.0), {"wrong law": measured(0.0)})
    assert found is Verdict.FAILS
    assert why.endswith("declared refuted, bounds are what a counterexample meets)")
    outcome = run_claim(
        fake("not-so", always(1.0), always(0.0), expected=Verdict.REFUTED), "quick", 0
    )
    assert surprise(recorded(outcome, Path(), None))[1].strip() == why


def test_one_control_that_holds_is_enough_to_be_vacuous() -> None:
    claim = fake("two", always(0.0), {"one": always(1.0), "other": always(1.0)})
    assert verdict(claim, measured(0.0), measured(1.0), measured(0.0)) is Verdict.VACUOUS
    assert verdict(claim, measured(0.0), measured(1.0), measured(1.0)) is Verdict.HOLDS


def test_a_control_must_be_there_and_measure_by_the_same_criterion() -> None:
    with pytest.raises(ValueError, match="declares the controls"):
        judge(fakes.PASSING, measured(0.0), {})
    looser = Evidence((Measurement("error", 1.0, "<=", 0.5),))
    with pytest.raises(ValueError, match="by criteria the check does not have"):
        judge(fakes.PASSING, measured(0.0), {"wrong law": looser})
    with pytest.raises(ValueError, match="a NaN is no failed control: wrong law: error"):
        judge(fakes.PASSING, measured(0.0), {"wrong law": measured(math.nan)})


def test_a_claim_without_a_control_is_refused() -> None:
    with pytest.raises(ValueError, match="has no control"):
        fake("bare", always(0.0), {})


def test_what_a_claim_declares_must_exist() -> None:
    with pytest.raises(ValueError, match=r"unknown tier 'quik'.*did you mean 'quick'"):
        fake("typo", always(0.0), tiers={"quik": {}})
    with pytest.raises(ValueError, match="HOLDS and REFUTED can be expected"):
        fake("odd", always(0.0), expected=Verdict.FAILS)
    with pytest.raises(ValueError, match=r"two claims are called 'fake\.passing'"):
        Registry([fakes.PASSING, fakes.PASSING])
    whole: Any = (fakes.PASSING,)
    with pytest.raises(TypeError, match=r"\*CLAIMS of a paper; given \(Claim"):
        Registry([whole])


@pytest.mark.parametrize(
    ("field", "given", "said"),
    [
        ("controls", [always(1.0)], r"controls such as \{'name': control\} are expected; given \["),
        (
            "controls",
            {"wrong law": measured(1.0)},
            "wrong law is to be a function of a Setting; giv",
        ),
        ("check", measured(0.0), "check is to be a function of a Setting; given Evidence"),
        ("skip", "too slow", "skip is to be a function of a Setting; given 'too slow'"),
        ("tiers", ["quick"], "tiers such as .* are expected; given"),
        ("devices", "cuda", r"devices such as \('cpu', 'cuda'\) are expected; given 'cuda'"),
        ("subject", "params", "unknown subject 'params'; expected one of 'matrices', 'pairs'"),
        ("expected", "REFUTED", r"expects 'REFUTED'; .* of claims\.registry\.Verdict"),
    ],
)
def test_a_declaration_of_another_kind_is_refused(field: str, given: Any, said: str) -> None:
    wrong: dict[str, Any] = {field: given}
    with pytest.raises((ValueError, TypeError), match=said):
        dataclasses.replace(fakes.PASSING, **wrong)


@pytest.mark.parametrize("reason", [True, False, ""])
def test_a_skip_gives_its_reason_or_none(reason: Any) -> None:
    claim = dataclasses.replace(fakes.PASSING, skip=lambda setting: reason)
    with pytest.raises(TypeError, match=f"why it cannot run, or None; given {reason!r}"):
        claim.skipped(claim.setting("quick", 0))


@pytest.mark.parametrize("name", ["", "mine imbalance", "../mine", "mine/imbalance", "m" * 101])
def test_an_id_that_is_no_file_name_is_refused_before_anything_runs(name: str) -> None:
    with pytest.raises(ValueError, match=r"letters, digits, '\.', '_' and '-' were expected"):
        dataclasses.replace(fakes.PASSING, id=name)


def test_an_unknown_source_is_refused() -> None:
    source: Any = "papr"
    with pytest.raises(ValueError, match=r"unknown source 'papr'.*did you mean 'paper'"):
        dataclasses.replace(fakes.PASSING, source=source)


def test_a_tier_inherits_what_it_does_not_name() -> None:
    claim = fake("sizes", always(0.0), tiers={"quick": {"a": 1, "b": 2}, "paper": {"b": 9}})
    assert dict(claim.setting("full", 0).sizes) == {"a": 1, "b": 2}
    assert claim.setting("paper", 0)["b"] == 9
    with pytest.raises(ValueError, match="unknown size 'c'"):
        claim.setting("quick", 0)["c"]
    with pytest.raises(ValueError, match="unknown tier"):
        claim.setting("slow", 0)


def test_seeds_belong_to_the_claim_and_the_run() -> None:
    seeds = {(c.id, s): c.setting("quick", s).seed for c in fakes.REGISTRY for s in (0, 1)}
    assert len(set(seeds.values())) == len(seeds)
    setting: Setting = fakes.PASSING.setting("quick", 0)
    # A stored number: the seeds must not move from one version to the next.
    assert setting.seed == 2261921562
    assert list(setting.seeds(2)) == [setting.seed, setting.seed + 1]


def test_claims_are_chosen_by_id_pattern_and_paper() -> None:
    registry = fakes.REGISTRY
    assert select(registry) == tuple(registry)
    assert select(registry, paper="random") == tuple(fakes.SAMPLED)
    # The registry's order, each claim once, whatever the order and the overlap of the patterns.
    assert select(registry, ["random.sampled-b", "*.sampled-?"]) == tuple(fakes.SAMPLED)
    assert select(registry, ["*-a"], paper="random") == (fakes.SAMPLED[0],)


@pytest.mark.parametrize(
    ("only", "paper", "said"),
    [
        (["fake.pasing"], None, "unknown claim 'fake.pasing'.*did you mean 'fake.passing'"),
        (["fake.passing", "nothing.*"], None, r"unknown claim 'nothing.\*'"),
        (["fake.passing"], "random", "unknown claim 'fake.passing'; expected one of 'random"),
        ([], "randon", "unknown paper 'randon'.*did you mean 'random'"),
    ],
)
def test_what_matches_nothing_is_answered_with_the_nearest(
    only: list[str], paper: str | None, said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        select(fakes.REGISTRY, only, paper)


def test_a_module_without_a_registry_is_refused() -> None:
    assert load_registry("tests.claims.fakes") is fakes.REGISTRY
    with pytest.raises(AttributeError):
        load_registry("math")


def require_in_full(claim: Claim) -> None:
    assert claim.id.startswith(f"{claim.paper}."), claim.id
    assert evidence_name(claim.id, "quick").endswith(f"/{claim.id}.npz")
    for field in dataclasses.fields(Claim):
        if field.type == "str":
            assert getattr(claim, field.name).strip(), f"{claim.id} has no {field.name}"
    assert claim.statement.count("$") % 2 == 0, f"{claim.id}: unpaired dollar sign"
    for name, check in {"check": claim.check, **claim.controls}.items():
        assert check.__doc__, f"{claim.id}: {name} has no docstring"


def test_every_claim_of_the_registry_is_declared_in_full() -> None:
    for claim in load_registry("claims"):
        require_in_full(claim)
