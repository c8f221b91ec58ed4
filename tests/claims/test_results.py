"""What is written is read back whole, and what is damaged is named."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from claims.registry import Claim, Evidence, Measurement, Setting, Verdict
from claims.results import (
    NotRecorded,
    Outcome,
    Recorded,
    Recorder,
    ResultsError,
    read_results,
    resumable,
)
from claims.running.one import run_claim
from claims.terminal.description import describe
from tests.claims import fakes

RUN = {
    "tier": "quick", "seed": 0, "command": "paper_checks.py", "commit": None,
    "started": "2026-01-01T00:00:00+00:00", "versions": {"python": "3"}, "device": "cpu", "jobs": 1,
}  # fmt: skip


def record(out: Path, *claims: Claim) -> Recorder:
    recorder = Recorder(out, RUN, [claim.id for claim in fakes.REGISTRY])
    for claim in claims:
        recorder.record(run_claim(claim, "quick", 0))
    return recorder


def edit(out: Path, *keys: str | int, value: Any) -> None:
    """Set the value at the place ``keys`` of the results file."""
    content = json.loads((out / "results.json").read_text())
    node = content
    for key in keys[:-1]:
        node = node[key]
    node[keys[-1]] = value
    (out / "results.json").write_text(json.dumps(content))


def test_what_is_read_is_what_was_recorded(tmp_path: Path) -> None:
    recorder = record(tmp_path, fakes.PASSING, fakes.REFUTED, fakes.RAISING, fakes.LONG)
    assert read_results(tmp_path).run["finished"] is None
    written = recorder.finish()
    read = read_results(tmp_path)
    # NaN differs from itself, so the claim with one is compared by what is printed of it.
    assert [repr(claim) for claim in read] == [repr(claim) for claim in written]
    assert read.claims[:3] == written.claims[:3]
    assert dict(read.run) == dict(written.run)
    assert read.run["finished"] is not None


def test_arrays_come_back_by_prefix(tmp_path: Path) -> None:
    outcome = run_claim(fakes.PASSING, "quick", 0)
    control = Evidence(outcome.controls["wrong law"].measurements, {"times": np.arange(3.0)})
    record(tmp_path).record(
        Outcome(**{**vars(outcome), "controls": {"wrong law": control}})
    )  # fmt: skip
    recorded = read_results(tmp_path)["fake.passing"]
    assert outcome.evidence is not None
    np.testing.assert_array_equal(recorded.arrays()["mean"], outcome.evidence.arrays["mean"])
    np.testing.assert_array_equal(recorded.arrays("control/wrong law")["times"], [0, 1, 2])
    assert set(recorded.arrays("")) == {"check/mean", "check/seeds", "control/wrong law/times"}


def test_claims_stand_in_the_order_of_the_registry(tmp_path: Path) -> None:
    record(tmp_path, fakes.FAILING, fakes.SKIPPED, fakes.PASSING)
    assert [c.id for c in read_results(tmp_path)] == [
        "fake.passing",
        "fake.skipped",
        "fake.failing",
    ]


def test_numbers_that_json_lacks_are_written_as_text(tmp_path: Path) -> None:
    values = (math.nan, math.inf, -math.inf)
    evidence = Evidence(tuple(Measurement(str(v), v, "<=", math.inf) for v in values))
    outcome = Outcome(fakes.PASSING, Verdict.FAILS, "", evidence, {}, 0.0, None)
    record(tmp_path).record(outcome)
    raw = (tmp_path / "results.json").read_text()
    json.loads(raw, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    read = [m.value for m in read_results(tmp_path).claims[0].measurements]
    assert math.isnan(read[0])
    assert read[1:] == [math.inf, -math.inf]


def test_a_band_is_read_back_as_a_pair(tmp_path: Path) -> None:
    evidence = Evidence((Measurement("slope", 2.1, "within", (1.7, 2.3)),))
    record(tmp_path).record(Outcome(fakes.PASSING, Verdict.HOLDS, "", evidence, {}, 0.0, None))
    assert read_results(tmp_path).claims[0].measurements == evidence.measurements


def test_worst_is_the_measurement_with_the_least_room() -> None:
    near, far = Measurement("near", 0.9, "<=", 1.0), Measurement("far", 5.0, ">=", 1.0)
    assert _recorded(far, near).worst == near
    assert _recorded().worst is None


def test_earlier_results_stay_until_the_first_claim_is_recorded(tmp_path: Path) -> None:
    record(tmp_path, fakes.PASSING, fakes.FAILING)
    recorder = Recorder(tmp_path, RUN)
    assert len(read_results(tmp_path)) == 2
    recorder.record(run_claim(fakes.REFUTED, "quick", 0))
    assert [claim.id for claim in read_results(tmp_path)] == ["fake.refuted"]


def test_evidence_of_an_earlier_run_does_not_outlive_an_error(tmp_path: Path) -> None:
    recorder = record(tmp_path, fakes.PASSING)
    assert (tmp_path / "evidence/quick/fake.passing.npz").exists()
    recorder.record(Outcome(fakes.PASSING, Verdict.ERROR, "boom", None, {}, 0.0, "trace"))
    assert read_results(tmp_path)["fake.passing"].evidence is None
    assert not (tmp_path / "evidence/quick/fake.passing.npz").exists()


def test_a_write_that_fails_leaves_the_earlier_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = record(tmp_path, fakes.PASSING)
    before = (tmp_path / "results.json").read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(NotRecorded, match="cannot be written: No space left on device"):
        recorder.record(run_claim(fakes.FAILING, "quick", 0))
    assert (tmp_path / "results.json").read_bytes() == before
    assert [claim.id for claim in recorder.results] == ["fake.passing"]


def test_an_unknown_id_is_answered_with_the_nearest(tmp_path: Path) -> None:
    record(tmp_path, fakes.PASSING)
    with pytest.raises(ValueError, match=r"'fake\.pasing'.*did you mean 'fake\.passing'"):
        read_results(tmp_path)["fake.pasing"]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match=r"results\.json does not exist"):
        read_results(tmp_path)


def test_every_truncation_is_damage(tmp_path: Path) -> None:
    record(tmp_path, fakes.PASSING, fakes.FAILING)
    path = tmp_path / "results.json"
    whole = path.read_bytes().rstrip()
    for length in range(0, len(whole), 97):
        path.write_bytes(whole[:length])
        with pytest.raises(ResultsError, match=r"results\.json is damaged"):
            read_results(tmp_path)


@pytest.mark.parametrize(
    ("keys", "value", "said"),
    [
        (("schema",), 1, "has schema 1; this version reads schema 2"),
        (("schema",), "1", "schema should be an integer"),
        (("run", "seed"), True, "run.seed should be an integer"),
        (("run", "tier"), "../quick", "run.tier should be one of quick, full, paper"),
        (("run", "device"), "tpu", "run.device should be one of cpu, cuda"),
        (("run", "dtype"), "float8", "run.dtype should be one of own, float64, float32, bfloat16"),
        (("run", "versions"), [], "run.versions should be an object"),
        (("claims",), {}, "claims should be a list"),
        (("claims", 0, "verdict"), "MAYBE", "one of HOLDS"),
        (("claims", 0, "seconds"), "long", "claims[0].seconds should be a number"),
        (("claims", 0, "id"), "../../etc", "claims[0].id should be a claim's id"),
        (("claims", 1, "id"), "fake.passing", "an id that no other claim has"),
        (("claims", 0, "evidence"), "../secret.npz", "claims[0].evidence should be null or"),
        (("claims", 0, "measurements", 0, "value"), None, "[0].value should be a number"),
        (("claims", 0, "measurements", 0, "value"), 0.5, "measurements[0].holds should be false"),
        (("claims", 0, "measurements", 0, "bound"), [1.0], "a number or a pair of numbers"),
        (("claims", 0, "measurements", 0, "bound"), [0.0, 1.0], "does not fit the relation"),
        (("claims", 0, "measurements", 0, "relation"), "<", "unknown relation '<'"),
        (("claims", 0, "measurements", 0, "margin"), 0.5, "measurements[0].margin should be"),
        (("claims", 0, "controls", "wrong law"), {}, "has no 'measurements'"),
    ],
)  # fmt: skip
def test_damage_is_named_with_its_place(
    tmp_path: Path, keys: tuple[str | int, ...], value: Any, said: str
) -> None:
    record(tmp_path, fakes.PASSING, fakes.FAILING)
    edit(tmp_path, *keys, value=value)
    with pytest.raises(ResultsError) as error:
        read_results(tmp_path)
    assert said in str(error.value)
    assert str(tmp_path / "results.json") in str(error.value)


@pytest.mark.parametrize("content", [b"NaN", b"\xff\xfe", b"[" * 100_000])
def test_what_is_not_json_is_damage(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "results.json").write_bytes(content)
    with pytest.raises(ResultsError, match=r"results\.json is damaged"):
        read_results(tmp_path)


def test_damaged_evidence_is_named(tmp_path: Path) -> None:
    record(tmp_path, fakes.PASSING)
    recorded = read_results(tmp_path)["fake.passing"]
    path = tmp_path / "evidence/quick/fake.passing.npz"
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[200] ^= 1
    for damaged in (whole[:100], b"", b"not an archive", bytes(flipped)):
        path.write_bytes(damaged)
        with pytest.raises(ResultsError, match=r"fake\.passing\.npz is damaged"):
            recorded.arrays()
    path.unlink()
    with pytest.raises(ResultsError, match=r"fake\.passing\.npz does not exist"):
        recorded.arrays()


def _recorded(*measurements: Measurement) -> Recorded:
    texts = dict.fromkeys(
        "id paper title statement reference source setup criterion reason".split(), ""
    )
    return Recorded(
        **texts, expected=Verdict.HOLDS, verdict=Verdict.HOLDS, remarks=(), counterexample=None,
        measurements=measurements, controls={}, seconds=0.0, traceback=None, evidence=None,
        folder=Path(),
    )  # fmt: skip


STARTED = {
    "quick": "2026-01-03T00:00:00+00:00",
    "full": "2026-01-01T00:00:00+00:00",
    "paper": "2026-01-02T00:00:00+00:00",
}


def begins_later(setting: Setting) -> str | None:
    return "begins at the full tier" if setting.tier == "quick" else None


LATER = fakes.fake("later", fakes.sampled, skip=begins_later)


def record_tier(out: Path, tier: str, *claims: Claim) -> None:
    recorder = Recorder(out, {**RUN, "tier": tier, "started": STARTED[tier]})
    for claim in claims:
        recorder.record(run_claim(claim, tier, 0))
    recorder.finish()


def test_what_a_tier_skips_is_known_from_the_last_run_of_another(tmp_path: Path) -> None:
    record_tier(tmp_path, "full", LATER, fakes.PASSING)
    before = read_results(tmp_path)["fake.later"]
    for _ in range(2):  # a second quick run knows it too
        record_tier(tmp_path, "quick", LATER, fakes.PASSING)
        results = read_results(tmp_path)
        assert results["fake.later"].verdict is Verdict.SKIPPED
        assert set(results.earlier) == {"fake.later"}, "what ran is of this run"
        earlier = results.earlier["fake.later"]
        assert earlier.run["tier"] == "full"
        assert earlier.run["started"] == STARTED["full"]
        assert earlier.claim == before
        assert results.standing("fake.later") == before
        assert results.standing("fake.passing") == results["fake.passing"]
        assert np.array_equal(earlier.claim.arrays()["mean"], before.arrays()["mean"])


def test_no_kind_of_run_takes_away_the_evidence_of_another(tmp_path: Path) -> None:
    record_tier(tmp_path, "full", fakes.PASSING)
    full = read_results(tmp_path)["fake.passing"]
    whole = full.arrays()
    record_tier(tmp_path, "quick", fakes.PASSING)
    assert full.evidence == "evidence/full/fake.passing.npz"
    assert read_results(tmp_path)["fake.passing"].evidence == "evidence/quick/fake.passing.npz"
    assert full.arrays().keys() == whole.keys()
    assert all(np.array_equal(full.arrays()[name], whole[name]) for name in whole)


def test_what_is_gone_on_with_is_the_last_run_of_the_kind(tmp_path: Path) -> None:
    assert resumable(tmp_path, {**RUN, "tier": "full"}) is None
    record_tier(tmp_path, "full", fakes.PASSING, fakes.REFUTED)
    record_tier(tmp_path, "quick", fakes.PASSING)
    for tier, count in (("full", 2), ("quick", 1)):
        found = resumable(tmp_path, {**RUN, "tier": tier})
        assert found is not None
        assert (found.run["tier"], len(found)) == (tier, count)
    # Where there is none the caller is to say why it may not.
    other = resumable(tmp_path, {**RUN, "tier": "paper"})
    assert other is not None
    assert other.run["tier"] == "quick"


def test_results_that_a_run_goes_on_with_are_there_until_new_ones_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record_tier(tmp_path, "full", fakes.PASSING)
    record_tier(tmp_path, "quick", fakes.PASSING)
    full = {**RUN, "tier": "full"}
    kept = resumable(tmp_path, full)
    assert kept is not None

    def no_room(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", no_room)
        with pytest.raises(NotRecorded):
            Recorder(tmp_path, full, kept=kept.claims).finish()
    assert resumable(tmp_path, full) == kept
    Recorder(tmp_path, full, kept=kept.claims).finish()
    assert read_results(tmp_path)["fake.passing"] == kept["fake.passing"]
    assert sorted(path.name for path in tmp_path.glob("*.json")) == [
        "results-quick.json",
        "results.json",
    ]


def test_the_last_of_several_other_tiers_counts(tmp_path: Path) -> None:
    for tier in ("full", "paper", "quick"):
        record_tier(tmp_path, tier, LATER)
    assert read_results(tmp_path).earlier["fake.later"].run["tier"] == "paper"
    # Run again, it is of this run.
    record_tier(tmp_path, "full", LATER)
    assert read_results(tmp_path).earlier == {}
    record_tier(tmp_path, "quick", LATER)
    assert sorted(path.name for path in tmp_path.glob("*.json")) == [
        "results-full.json",
        "results-paper.json",
        "results.json",
    ]


def test_damaged_results_of_another_tier_are_named(tmp_path: Path) -> None:
    record_tier(tmp_path, "full", LATER)
    record_tier(tmp_path, "quick", LATER)
    (tmp_path / "results-full.json").write_text("{")
    with pytest.raises(ResultsError, match=r"results-full\.json is damaged"):
        read_results(tmp_path)
    # Where nothing was skipped nobody looks.
    record_tier(tmp_path, "quick", fakes.PASSING)
    assert read_results(tmp_path).earlier == {}


def test_show_tells_the_earlier_run_of_a_skipped_claim(tmp_path: Path) -> None:
    record_tier(tmp_path, "full", LATER)
    record_tier(tmp_path, "quick", LATER)
    told = describe(LATER, read_results(tmp_path), "")
    assert "SKIPPED" in told
    assert f"run of {STARTED['full']}, tier full" in told
    assert "HOLDS" in told
    assert "control wrong law: error" in told
