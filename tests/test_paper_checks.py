"""The command line: what it prints, what it leaves behind, and how it ends."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

import paper_checks
from claims.results import read_results, sole_recorder
from claims.running import here
from tests.claims import fakes
from tests.claims.test_results import edit
from tests.command_line import FAKES, ROOT, call, refuse

DRIVER = f"import paper_checks; paper_checks.REGISTRY_MODULE = {FAKES!r}; paper_checks.main()"


@pytest.fixture(autouse=True)
def _fake_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paper_checks, "REGISTRY_MODULE", FAKES)


def spawn(*arguments: object, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", DRIVER, *map(str, arguments)],
        cwd=ROOT, env=os.environ | environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def await_claims(out: Path, count: int) -> None:
    """Until ``count`` claims are recorded."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if (out / "results.json").exists() and len(read_results(out)) >= count:
            return
        time.sleep(0.02)
    pytest.fail(f"no {count} claims were recorded")


def test_a_whole_run_through_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(here, "cores", lambda: 2)
    result = call("--paper", "random", "--jobs", 100_000, "--out", tmp_path)
    assert result.exit_code == 0, result.output
    assert "3 claims: 3 HOLDS" in result.output
    assert "100000 jobs are asked for; 2 run at once" in result.output
    assert "Flows: the " in result.output
    assert f"Report: {tmp_path / 'report.html'}" in result.output
    assert "random.sampled-a" in (tmp_path / "report.html").read_text()
    results = read_results(tmp_path)
    assert [claim.id for claim in results] == [claim.id for claim in fakes.SAMPLED]
    assert results.run["finished"] is not None
    assert results.run["jobs"] == 2
    assert set(results.run["versions"]) == {
        "python", "torch", "numpy", "scipy", "numba", "sympy", "matplotlib", "paper-checks",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("passing", 0),
        ("refuted", 0),
        ("failing", 1),
        ("vacuous", 1),
        ("raising", 1),
    ],
)
def test_the_exit_code_is_the_verdict(
    tmp_path: Path, in_process: list[str], name: str, code: int
) -> None:
    result = call("--only", f"fake.{name}", "--out", tmp_path)
    assert result.exit_code == code, result.output
    assert in_process == [f"fake.{name}"]


@pytest.mark.parametrize(
    "only",
    [
        ("--only", "fake.passing,fake.refuted"),
        ("--only", "fake.p*, fake.refuted"),
        ("--only", "fake.passing", "--only", "fake.re*,fake.pass*"),
    ],
)
def test_commas_separate_claims(tmp_path: Path, in_process: list[str], only: list[str]) -> None:
    assert call(*only, "--out", tmp_path).exit_code == 0
    assert in_process == ["fake.passing", "fake.refuted"]


def test_an_unexpected_verdict_is_explained(tmp_path: Path, in_process: list[str]) -> None:
    output = call("--only", "fake.[frsv]*", "--out", tmp_path).output
    assert "fake.failing: FAILS, expected HOLDS" in output
    assert "error: 0.5 > 0.01   MISSED" in output
    assert "the check misses" not in output, "its lines say so"
    assert "a control meets the same bounds: wrong law" in output
    assert "ZeroDivisionError: no inverse of zero" in output
    assert "fake.refuted:" not in output
    assert re.search(r"^1 skipped: needs the paper tier *$", output, re.M), output


def test_the_table_fits_100_columns(tmp_path: Path, in_process: list[str]) -> None:
    output = call("--paper", "fake", "--out", tmp_path).output
    output += call("--paper", "long", "--out", tmp_path).output
    output += call("list").output
    lines = [line for line in output.splitlines() if str(tmp_path) not in line]
    assert max(map(len, lines)) <= 100
    row = next(line for line in lines if line.startswith(" fake.passing"))
    assert re.search(r"HOLDS +\S+ <= 0\.01 +99% +1 > 0\.01 +\d+\.\d", row), row


def test_a_run_that_is_killed_goes_on_with_resume(tmp_path: Path, in_process: list[str]) -> None:
    """Two sampled claims are recorded when the run is killed in the middle of the gated one."""
    gate = tmp_path / "gate"
    names = ("--only", "random.sampled-[ab]", "--only", "slow.gated", "--out", tmp_path)
    run = spawn(*names, "--jobs", 2, **{fakes.GATE: str(gate)})
    await_claims(tmp_path, 2)
    run.kill()
    # Its output ends only when the last worker is gone: none is left behind.
    run.communicate(timeout=30)
    recorded = read_results(tmp_path)
    assert [claim.id for claim in recorded] == ["random.sampled-a", "random.sampled-b"]
    assert recorded.run["finished"] is None
    gate.touch()
    resumed = call("--resume", *names)
    assert in_process == ["slow.gated"]
    assert resumed.exit_code == 0, resumed.output
    assert "Resuming: 2 of 3 claims recorded." in resumed.output
    assert "3 claims: 3 HOLDS" in resumed.output


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_says_how_to_go_on(tmp_path: Path, how: signal.Signals) -> None:
    names = ("--only", "fake.skipped", "--only", "slow.gated", "--jobs", 2, "--out", tmp_path)
    run = spawn(*names, **{fakes.GATE: str(tmp_path / "never")})
    await_claims(tmp_path, 1)
    run.send_signal(how)
    output, _ = run.communicate(timeout=30)
    assert run.returncode == 130, output
    assert f"Interrupted; 1 claim stands in {tmp_path}. Go on with --resume." in output
    assert "Traceback" not in output


def test_what_claims_keep_on_their_way_is_gone_on_with_by_resume_alone(tmp_path: Path) -> None:
    def parts(*options: str) -> list[str]:
        result = call("--only", "work.*", "--out", tmp_path, "--jobs", 1, *options)
        assert result.exit_code == 0, result.output
        return sorted(path.name for path in (tmp_path / "cells" / "quick").iterdir())

    first, second = fakes.part_name(0), fakes.part_name(1)
    assert parts() == [first]
    assert parts() == [first], "a new run keeps nothing of an old one"
    (tmp_path / "results.json").unlink()
    assert parts("--resume") == sorted([first, second])
    (tmp_path / "cells" / "quick" / "of somebody else").touch()
    assert parts() == [first, "of somebody else"]


def test_a_run_that_was_stopped_is_gone_on_with_after_one_of_another_tier(
    tmp_path: Path, in_process: list[str]
) -> None:
    """What a full run had, claims and parts of them, a quick one in between leaves alone."""
    first, refuted = "fake.passing", "fake.refuted"
    part = tmp_path / "cells" / "full" / fakes.part_name(0)
    full = ("--tier", "full", "--out", tmp_path)
    assert call("--only", first, *full).exit_code == 0
    before = read_results(tmp_path)[first]
    part.parent.mkdir(parents=True)
    part.touch()
    assert call("--only", f"{first},{refuted}", "--out", tmp_path).exit_code == 0
    assert part.exists()
    in_process.clear()
    resumed = call("--only", f"{first},{refuted}", *full, "--resume")
    assert "Resuming: 1 of 2 claims recorded." in resumed.output
    assert in_process == [refuted]
    assert read_results(tmp_path)[first] == before
    assert [str(path.name) for path in tmp_path.glob("results-*")] == ["results-quick.json"]
    assert part.exists()
    # A new full run keeps nothing of the old one.
    assert call("--only", first, *full).exit_code == 0
    assert not part.exists()


def test_resume_keeps_what_is_recorded_and_runs_what_raised(
    tmp_path: Path, in_process: list[str]
) -> None:
    assert call("--only", "fake.[pr]*", "--out", tmp_path).exit_code == 1
    before = read_results(tmp_path)
    in_process.clear()
    result = call("--paper", "fake", "--out", tmp_path, "--resume")
    assert in_process == ["fake.skipped", "fake.failing", "fake.vacuous", "fake.raising"]
    assert "Resuming: 2 of 6 claims recorded." in result.output
    assert "6 claims:" in result.output
    after = read_results(tmp_path)
    assert after["fake.passing"] == before["fake.passing"]
    assert after.run["started"] == before.run["started"]
    assert after.run["seconds"] > before.run["seconds"]


def test_resume_keeps_claims_that_are_not_chosen(tmp_path: Path, in_process: list[str]) -> None:
    call("--only", "fake.passing", "--only", "fake.raising", "--out", tmp_path)
    result = call("--only", "fake.refuted", "--out", tmp_path, "--resume")
    assert result.exit_code == 0
    assert "1 claim: 1 REFUTED" in result.output
    assert [c.id for c in read_results(tmp_path)] == [
        "fake.passing",
        "fake.refuted",
        "fake.raising",
    ]


def test_resume_tells_of_another_commit(tmp_path: Path, in_process: list[str]) -> None:
    call("--only", "fake.passing", "--out", tmp_path)
    resume = ("--only", "fake.passing", "--out", tmp_path, "--resume")
    assert "Note:" not in call(*resume).output
    edit(tmp_path, "run", "commit", value="0123abc")
    assert "Note: what is kept was recorded at commit 0123abc; this is" in call(*resume).output


def test_resume_tells_of_other_code_in_the_same_commit(
    tmp_path: Path, in_process: list[str]
) -> None:
    call("--only", "fake.passing", "--out", tmp_path)
    edit(tmp_path, "run", "code", value="0123")
    output = call("--only", "fake.passing", "--out", tmp_path, "--resume").output
    assert "Note: what is kept was recorded at code 0123; this is code " in output


def test_two_runs_into_one_folder_at_once_are_refused(
    tmp_path: Path, in_process: list[str]
) -> None:
    asked = ("--only", "fake.passing", "--out", tmp_path)
    with sole_recorder(tmp_path):
        refuse("another run records into", *asked)
        refuse("another run records into", *asked, "--resume")
    assert in_process == []
    assert call(*asked).exit_code == 0


def test_what_cannot_be_written_ends_the_run_and_is_said(
    tmp_path: Path, in_process: list[str]
) -> None:
    asked = ("--only", "random.*", "--out", tmp_path)
    (tmp_path / "evidence").touch()
    stopped = call(*asked)
    assert stopped.exit_code == 130, stopped.output
    said = f"Interrupted, for {tmp_path} cannot be written: Not a directory; 0 claims stand in"
    assert said in stopped.output
    (tmp_path / "evidence").unlink()
    (tmp_path / "report.html").mkdir()
    without = call(*asked)
    assert without.exit_code == 130, without.output
    assert "3 HOLDS" not in without.output
    assert f"No report, for {tmp_path} cannot be written: Is a directory" in without.output
    (tmp_path / "report.html").rmdir()
    in_process.clear()
    assert call(*asked, "--resume").exit_code == 0
    assert in_process == []


def test_resume_with_nothing_recorded_starts(tmp_path: Path, in_process: list[str]) -> None:
    result = call("--only", "fake.passing", "--out", tmp_path / "new", "--resume")
    assert result.exit_code == 0
    assert "Resuming: 0 of 1 claim recorded." in result.output


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--tier", "full"), "the recorded run has the tier quick; this one would have full"),
        (("--seed", 7), "the recorded run has the seed 0; this one would have 7"),
        (("--dtype", "float32"), "the recorded run has the dtype own; this one would have float32"),
    ],
)
def test_resume_refuses_another_run(
    tmp_path: Path, in_process: list[str], options: tuple[object, ...], said: str
) -> None:
    call("--only", "fake.passing", "--out", tmp_path)
    before = (tmp_path / "results.json").read_bytes()
    refuse(said, "--resume", "--out", tmp_path, *options)
    assert (tmp_path / "results.json").read_bytes() == before


def test_resume_refuses_other_versions_and_damage(tmp_path: Path, in_process: list[str]) -> None:
    call("--only", "fake.passing", "--out", tmp_path)
    resume = ("--only", "fake.*", "--resume", "--out", tmp_path)
    whole = (tmp_path / "results.json").read_bytes()
    edit(tmp_path, "run", "versions", "numpy", value="1.0")
    refuse("the recorded run has the versions numpy 1.0; this one would have numpy", *resume)
    (tmp_path / "results.json").write_bytes(whole[:-50])
    refuse("results.json is damaged", *resume)
    refuse("; without it the run begins anew", *resume)
    (tmp_path / "results.json").write_bytes(whole)
    (tmp_path / "evidence/quick/fake.passing.npz").write_bytes(b"")
    refuse("fake.passing.npz is damaged", *resume)
    assert in_process == ["fake.passing"]


def test_without_resume_a_damaged_file_is_replaced(tmp_path: Path, in_process: list[str]) -> None:
    (tmp_path / "results.json").write_text("{")
    assert call("--only", "fake.passing", "--out", tmp_path).exit_code == 0
    assert [claim.id for claim in read_results(tmp_path)] == ["fake.passing"]


def test_somebody_else_s_optimiser_through_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paper_checks, "REGISTRY_MODULE", "claims")
    monkeypatch.chdir(tmp_path)
    asked = ("--only", "lora-muon.rank-step-scale", "--jobs", 1, "--subject")
    result = call(*asked, "torch.optim:Adam")
    assert result.exit_code == 1, result.output
    assert "Under test: torch.optim:Adam (torch" in result.output
    out = tmp_path / "out" / "torch.optim.Adam"
    assert [str(claim.verdict) for claim in read_results(out)] == ["FAILS"]
    assert "<dd>torch.optim:Adam</dd>" in (out / "report.html").read_text(encoding="utf-8")
    refuse("the recorded run has the subject torch.optim:Adam; this one would have torch.optim:SGD",
           *asked, "torch.optim:SGD", "--resume", "--out", out)  # fmt: skip
    for option, name in (("--only", "usg.reduction"), ("--only", "usg.*"), ("--paper", "usg")):
        refuse(
            f"there is '{name}', but it cannot be asked of torch.optim:SGD, an optimiser of "
            "params; these claims can: lora-muon.",
            "--subject",
            "torch.optim:SGD",
            option,
            name,
        )
    refuse(
        "did you mean 'usg.reduction'?", "--subject", "torch.optim:SGD", "--only", "usg.reductio"
    )


def test_list_names_every_claim() -> None:
    output = call("list").output
    short = [claim for claim in fakes.REGISTRY if claim is not fakes.LONG]
    for claim in short:
        assert re.search(rf"{re.escape(claim.id)} .*{claim.source} +{claim.expected}", output)
    assert "random.sampled-a" not in call("list", "--paper", "fake").output


def test_show_tells_all_of_a_claim(tmp_path: Path, in_process: list[str]) -> None:
    before = call("show", "fake.passing", "--out", tmp_path).output
    assert "holds no run of it" in before
    call("--only", "fake.passing", "--out", tmp_path)
    output = call("show", "fake.passing", "--out", tmp_path).output
    for said in (
        "σᵢ ≤ β² for every mode", "by the law of large numbers", "Nothing is set up",
        "at most .01", "control: wrong law", "By inspection", "HOLDS (",
        "tier quick, seed 0, cpu", "control wrong law: error: 1 > 0.01   MISSED",
    ):  # fmt: skip
        assert said in output
    (tmp_path / "results.json").write_text("[]")
    refuse("results.json is damaged", "show", "fake.passing", "--out", tmp_path)


def test_help_is_complete() -> None:
    output = call("--help").output
    for said in ("--only", "--paper", "--tier", "--seed", "--jobs", "--out", "--resume",
                 "--subject", "--device", "--dtype", "--scheduler", "VACUOUS", "Examples:",
                 "Exit status", "list", "show"):  # fmt: skip
        assert said in output


def test_an_ascii_terminal_gets_the_formula_as_it_is_written(tmp_path: Path) -> None:
    runner = CliRunner(charset="ascii")
    result = runner.invoke(paper_checks.app, ["show", "fake.passing", "--out", str(tmp_path)])
    assert result.exit_code == 0
    assert r"$\sigma_i \le \beta^2$ for every mode." in result.output


def test_the_results_are_strict_json(tmp_path: Path, in_process: list[str]) -> None:
    call("--paper", "long", "--out", tmp_path)
    content = json.loads(
        (tmp_path / "results.json").read_text(), parse_constant=lambda name: pytest.fail(name)
    )
    assert content["claims"][0]["controls"]["nan"]["measurements"][0]["value"] == "nan"
