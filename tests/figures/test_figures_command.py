"""The command line of the figures: what it writes, what it refuses, and its exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from figures.__main__ import app
from figures.catalogue import FIGURES
from tests.figures.synthetic_run import write_run


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, list(arguments))
    return result.exit_code, " ".join(result.output.split())


def copy_of(source: Path, target: Path) -> Path:
    (target / "evidence" / "quick").mkdir(parents=True)
    for path in source.rglob("*"):
        if path.is_file() and path.suffix in (".json", ".npz"):
            (target / path.relative_to(source)).write_bytes(path.read_bytes())
    return target


def drawn_in(out: Path) -> list[str]:
    """The drawings, without the captions beside them."""
    paths = sorted((out / "figures").iterdir())
    return [path.name for path in paths if path.suffix != ".txt"]


def test_all_figures_in_the_default_formats(recorded_run: Path, tmp_path: Path) -> None:
    out = copy_of(recorded_run, tmp_path / "out")
    code, output = run("--out", str(out))
    assert code == 0
    written = {path.name for path in (out / "figures").iterdir()}
    endings = ("svg", "png", "txt")
    assert written == {f"{figure.name}.{ending}" for figure in FIGURES for ending in endings}
    assert all(name in output for name in written if not name.endswith(".txt"))


def test_a_caption_goes_with_every_figure(recorded_run: Path, tmp_path: Path) -> None:
    out = copy_of(recorded_run, tmp_path / "out")
    assert run("arrivals", "--out", str(out))[0] == 0
    (figure,) = [figure for figure in FIGURES if figure.name == "arrivals"]
    text = " ".join((out / "figures" / "arrivals.txt").read_text().split())
    assert text.startswith(f"{figure.title}. {figure.caption} Evidence of usg.smallest-first")
    for claim in figure.claims:
        assert (
            f"Evidence of {claim} (Theorem 5.7 of arXiv 2602.06385): HOLDS; quick tier, seed 0, "
            "cpu, 2026-03-01 09:30 UTC, commit 0123456789abcdef."
        ) in text


def test_a_caption_names_the_run_that_is_drawn(tmp_path: Path) -> None:
    out = write_run(tmp_path, seeds=2, tier="full")
    write_run(tmp_path, seeds=2, skipped=["usg.smallest-first"])
    assert run("arrivals", "--out", str(out))[0] == 0
    text = " ".join((out / "figures" / "arrivals.txt").read_text().split())
    _, first, second = text.split("Evidence of ")
    assert "HOLDS; full tier" in first
    assert "HOLDS; quick tier" in second


def test_named_figures_and_formats(recorded_run: Path, tmp_path: Path) -> None:
    out = copy_of(recorded_run, tmp_path / "out")
    code, _ = run("arrivals", "l2", "arrivals", "--out", str(out), "--format", "pdf, svg")
    assert code == 0
    assert drawn_in(out) == ["arrivals.pdf", "arrivals.svg", "l2.pdf", "l2.svg"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("equal-rat",), "there is no figure 'equal-rat'. Did you mean 'equal-rate'?"),
        (("zzz",), "there is no figure 'zzz'. Known: singular-values, equal-rate,"),
        (("l2", "--format", "svg,pgn"), "there is no format 'pgn'. Did you mean 'png'?"),
        (("--format", ""), "there is no format ''. Known: svg, pdf, png."),
    ],
)
def test_wrong_usage_exits_with_2_and_names_the_nearest(
    recorded_run: Path, arguments: tuple[str, ...], expected: str
) -> None:
    code, output = run(*arguments, "--out", str(recorded_run))
    assert code == 2
    assert expected in output
    assert not (recorded_run / "figures").exists()


def test_no_results_exits_with_2_and_names_the_file(tmp_path: Path) -> None:
    code, output = run("--out", str(tmp_path / "nowhere"))
    assert code == 2
    assert "results.json does not exist" in output


def test_a_folder_that_cannot_be_written_exits_with_2(recorded_run: Path, tmp_path: Path) -> None:
    out = copy_of(recorded_run, tmp_path / "out")
    (out / "figures").touch()
    code, output = run("l2", "--out", str(out), "--format", "svg")
    assert code == 2
    assert f"error: {out / 'figures'} cannot be written: File exists" in output


def test_damaged_results_exit_with_2(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text('{"schema": 1, "run"')
    code, output = run("--out", str(tmp_path))
    assert code == 2
    assert "results.json is damaged" in output


def test_missing_evidence_exits_with_1_and_says_what_to_run(tmp_path: Path) -> None:
    out = write_run(tmp_path, without=["usg.local-rate", "usg.equal-rate"], seeds=2)
    names = ["saddles-and-rates", "equal-rate", "arrivals"]
    code, output = run(*names, "--out", str(out), "--format", "svg")
    assert code == 1
    assert "The figure saddles-and-rates is left out: usg.local-rate was not run." in output
    assert (
        "python paper_checks.py --only usg.local-rate --only usg.equal-rate --tier quick --seed 0"
        in output
    )
    assert drawn_in(out) == ["arrivals.svg"]


def test_of_a_run_with_a_subject_nothing_is_advised(tmp_path: Path) -> None:
    out = write_run(tmp_path, without=["usg.equal-rate"], seeds=2)
    results = json.loads((out / "results.json").read_text())
    results["run"]["subject"] = "torch.optim:Adam"
    (out / "results.json").write_text(json.dumps(results))
    code, output = run("equal-rate", "--out", str(out), "--format", "svg")
    assert code == 1
    assert "The figure equal-rate is left out: usg.equal-rate was not run." in output
    assert "To record" not in output, "a subject can be asked few claims"


def test_what_the_run_skipped_is_missing_only_where_it_was_asked_for(tmp_path: Path) -> None:
    claim, name = "lora-muon.lr-transfer-width-depth", "rates-by-size"
    out = write_run(tmp_path, skipped=[claim], seeds=2)
    arguments = ("--out", str(out), "--format", "svg")
    code, output = run(name, *arguments)
    assert code == 1
    assert f"{name} is left out: {claim} was skipped." in output
    assert "To record what is missing" not in output, "the run would skip it again"
    code, output = run(*arguments)
    assert code == 0, output
    assert f"{name} is left out" in output
    assert len(drawn_in(out)) == len(FIGURES) - 1
    # What another tier has recorded is drawn.
    write_run(out, seeds=2, tier="full")
    write_run(out, skipped=[claim], seeds=2)
    code, output = run(name, *arguments)
    assert code == 0, output
    assert (out / "figures" / f"{name}.svg").exists()


def test_damaged_evidence_exits_with_1_and_names_the_file(
    recorded_run: Path, tmp_path: Path
) -> None:
    out = copy_of(recorded_run, tmp_path / "out")
    (out / "evidence" / "quick" / "usg.l2-convergence.npz").write_bytes(b"not an archive")
    code, output = run("l2", "order-boundary", "--out", str(out), "--format", "svg")
    assert code == 1
    assert "usg.l2-convergence.npz is damaged" in output
    assert drawn_in(out) == ["order-boundary.svg"]


def test_help_lists_every_figure_and_what_it_reads() -> None:
    code, output = run("--help")
    assert code == 0
    for figure in FIGURES:
        assert figure.name in output
        assert figure.claims[0] in output
