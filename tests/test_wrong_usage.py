"""The command line, wrongly used: what was given, what is expected, and nothing is left behind."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import paper_checks
from claims.registry import DEVICES, DTYPES, TIERS, Registry
from tests.claims import fakes
from tests.command_line import FAKES, ROOT, call, refuse


@pytest.fixture(autouse=True)
def _fake_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paper_checks, "REGISTRY_MODULE", FAKES)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--tier", "quik"), "unknown tier 'quik'; expected one of quick, full, paper; "
                             "did you mean 'quick'?"),
        (("--device", "cudo"), "unknown device 'cudo'; expected one of cpu, cuda; "
                               "did you mean 'cuda'?"),
        (("--dtype", "int8"), "unknown dtype 'int8'; expected one of float64, float32"),
        (("--jobs", 0), "--jobs: expected at least 1, got 0"),
        (("--jobs", "two"), "--jobs"),
        (("--only", "fake.pasing"), "did you mean 'fake.passing'?"),
        (("--only", "nothing.*"), "unknown claim 'nothing.*'"),
        (("--only", "fake.passing,fake.pasing"), "unknown claim 'fake.pasing'; expected one of"),
        (("--only", "fake.passing,"), "unknown claim ''"),
        (("--paper", "faek"), "unknown paper 'faek'"),
        (("--paper", ""), "unknown paper ''"),
        (("--dtype", "float16"), "unknown dtype 'float16'; expected one of float64, float32, bf"),
        (("--colour", "red"), "--colour"),
        (("--subject", "torch.optim:Adm"), "did you mean 'Adam'?"),
        (("--subject", "nowhere:Adam"), "the module 'nowhere' cannot be imported"),
        (("lits",), "Did you mean 'list'?"),
        (("fake.passing",), "COMMAND: 'fake.passing' is none; claims are run by --only fake.pas"),
        (("list", "--paper", "faek"), "did you mean 'fake'?"),
        (("show", "fake.pasing"), "did you mean 'fake.passing'?"),
        (("--scheduler", "--out", "x"), "--scheduler: ADDRESS is expected, got the option '--out'"),
        (("--out", "--resume"), "--out: DIR is expected, got the option '--resume'"),
        (("--seed", "--help"), "--seed: a value is expected, got the option '--help'"),
        (("show", "fake.passing", "--out", "--paper"), "--out: DIR is expected, got the option"),
        (("--tier", "full", "list"), "--tier: goes with a run; write options of 'list' after it"),
    ],
)  # fmt: skip
def test_wrong_usage_ends_with_2_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[object, ...], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    refuse(said, *arguments)
    assert list(tmp_path.iterdir()) == []


def test_an_output_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        refuse("cannot be written: Not a directory", "--only", "fake.passing", "--out", out)


def test_usage_errors_leave_earlier_results_alone(tmp_path: Path, in_process: list[str]) -> None:
    call("--only", "fake.passing", "--out", tmp_path)
    before = (tmp_path / "results.json").read_bytes()
    refuse("unknown claim", "--only", "nothing", "--out", tmp_path)
    assert (tmp_path / "results.json").read_bytes() == before


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (("--only", "fake.skipped"), "1 skipped, needs the paper tier"),
        (("--only", "fake.[ps]*", "--dtype", "bfloat16"),
         "2 skipped, not in bfloat16: its criterion is stated for float64"),
        (("--paper", "fake", "--device", "cuda"), "6 skipped, not on cuda: it is stated and"),
    ],
)  # fmt: skip
def test_a_run_that_would_judge_nothing_is_refused(
    tmp_path: Path, in_process: list[str], asked: tuple[str, ...], said: str
) -> None:
    refuse(f"nothing that is asked for can be judged: {said}", *asked, "--out", tmp_path)
    assert in_process == []
    assert list(tmp_path.iterdir()) == []


def test_what_is_skipped_beside_others_contradicts_nothing(
    tmp_path: Path, in_process: list[str]
) -> None:
    result = call("--only", "fake.[ps]*", "--out", tmp_path)
    assert result.exit_code == 0, result.output
    assert "1 HOLDS, 1 SKIPPED" in result.output


def test_a_skip_that_raises_is_an_error_of_its_claim(
    tmp_path: Path, in_process: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def raises(_: object) -> None:
        raise OSError("no corpus")

    broken = Registry([replace(fakes.PASSING, skip=raises)])
    monkeypatch.setattr(fakes, "REGISTRY", broken)
    result = call("--out", tmp_path)
    assert result.exit_code == 1
    assert "OSError: no corpus" in result.output


def test_help_and_cheap_usage_errors_import_nothing_heavy() -> None:
    script = (
        "import sys, paper_checks\n"
        "sys.argv[1:] = {arguments}\n"
        "try: paper_checks.main()\n"
        "except SystemExit as end: code = end.code\n"
        "print(code, sorted({{'torch', 'numpy', 'matplotlib', 'sympy'}} & set(sys.modules)))"
    )
    for arguments, code in ((["--help"], 0), (["--tier", "quik"], 2), (["--jobs", "0"], 2)):
        run = subprocess.run(
            [sys.executable, "-c", script.format(arguments=arguments)],
            cwd=ROOT, capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert run.stdout.splitlines()[-1] == f"{code} []"


def test_the_names_are_those_of_the_claims() -> None:
    assert paper_checks.TIERS == TIERS
    assert paper_checks.DEVICES == DEVICES
    assert paper_checks.DTYPES == DTYPES
