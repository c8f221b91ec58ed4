"""What the pages show, runs; what the README promises, exists."""

from __future__ import annotations

import re
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from claims import REGISTRY
from claims.registry import Claim, Verdict
from claims.results.evidence_file import labelled_arrays
from claims.running.one import run_claim
from claims.subject import load_subject
from figures.figure import Sources
from geometry.flops import low_rank_msign_flops, orthogonalize_flops
from geometry.orthogonalizers import ORTHOGONALIZERS, scalar_response
from geometry.polar import msign
from simulate.optimizers.rate_adjustment import RATE_ADJUSTMENTS
from simulate.sweep import sweep
from simulate.tasks.equivariance import OBJECTIONS
from tests.claims.test_registry import require_in_full
from tests.figures.test_figures import require_named

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


# The keys of the papers whose claims a page has.
PAPERS = {
    "uniform-spectral-growth.md": {"usg"},
    "lora-muon.md": {"lora-muon", "spectron", "lora-rite"},
    "low-rank-orthogonalization.md": {"low-rank", "nesterov", "practical"},
    "tensorion.md": {"tensorion"},
    "riemannlora.md": {"riemannlora"},
}


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)


@pytest.mark.parametrize("page", ["README.md", "docs/flows.md"])
def test_the_library_examples_run(page: str) -> None:
    (example,) = blocks(ROOT / page, "python")
    names: dict[str, Any] = {}
    exec(compile(example, page, "exec"), names)
    arrivals = names["trajectory"].arrival_times(0.9).median(0).values
    assert bool((arrivals.diff() < 0).all())


def test_the_polar_factor_example_runs() -> None:
    example, _ = blocks(ROOT / "docs" / "polar-factors.md", "python")
    names: dict[str, Any] = {}
    exec(compile(example, "polar-factors", "exec"), names)
    assert names["smoothed"].shape == names["G"].shape
    assert float(names["bound"].max()) < 1e-6


def test_the_low_rank_example_gives_the_numbers_beside_it() -> None:
    _, example = blocks(ROOT / "docs" / "polar-factors.md", "python")
    names: dict[str, Any] = {}
    exec(compile(example, "polar-factors", "exec"), names)
    factor, U, V = names["O"], names["U"], names["V"]
    assert (factor - msign(names["M"])).abs().max() < 1e-12
    assert float(factor.square().sum()) == pytest.approx(5)
    assert float((U @ V.mT).square().sum()) == pytest.approx(15)
    drawn = low_rank_msign_flops(1024, 1024, 64, "columns", orthogonalizer="muon")
    assert orthogonalize_flops(1024, 1024, "muon") / drawn == pytest.approx(86.7, abs=0.05)


def test_the_orthogonaliser_table_is_what_comes_out() -> None:
    page = (ROOT / "docs" / "polar-factors.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| (\S*) ?\| (\S*) ?\| (\S*) ?\|", page, re.M)
    assert {name for name, *_ in rows} == set(ORTHOGONALIZERS)
    s = torch.logspace(-3, 0, 4001, dtype=torch.float64)
    for name, *cells in rows:
        for steps, cell in zip((5, 8, 12), cells, strict=True):
            if cell:
                worst = float((1 - scalar_response(name, s, steps)).abs().max())
                assert worst == pytest.approx(float(cell), rel=0.06, abs=1e-15)


def test_the_example_of_a_claim_holds() -> None:
    conserved, signs = claims_of_the_examples()
    outcome = run_claim(conserved, "quick", 0)
    assert outcome.verdict is Verdict.HOLDS, outcome.reason
    outcome = run_claim(signs, "quick", 0)
    assert outcome.verdict is Verdict.REFUTED, outcome.reason


def claims_of_the_examples() -> tuple[Claim, ...]:
    names: dict[str, Any] = {}
    for example in blocks(ROOT / "docs" / "adding-a-claim.md", "python"):
        exec(compile(example, "adding-a-claim", "exec"), names)
    claims: tuple[Claim, ...] = names["CLAIMS"]
    return claims


def test_the_examples_of_claims_are_declared_in_full() -> None:
    for claim in claims_of_the_examples():
        require_in_full(claim)


def test_the_example_of_a_figure_draws_that_of_a_claim() -> None:
    (example,) = blocks(ROOT / "docs" / "adding-a-figure.md", "python")
    names: dict[str, Any] = {}
    exec(compile(example, "adding-a-figure", "exec"), names)
    figure = names["FIGURE"]
    conserved, _ = claims_of_the_examples()
    outcome = run_claim(conserved, "quick", 0)
    recorded = Sources({conserved.id: labelled_arrays(outcome.evidence, outcome.controls)})
    assert figure.claims == (conserved.id,)
    (axes,) = figure.drawing(recorded).axes
    assert len(axes.lines) == 10
    require_named(figure, recorded)


def test_the_example_of_an_optimiser_descends_as_it_says() -> None:
    *_, example = blocks(ROOT / "docs" / "optimizers.md", "python")
    names: dict[str, Any] = {}
    exec(compile(example, "optimizers", "exec"), names)
    W, start, optimizer = names["W"].detach(), names["start"], names["optimizer"]
    # The gradient is W itself, so every singular value falls by lr times the sum of all.
    moved = torch.linalg.svdvals(start - W)
    total = torch.linalg.svdvals(start).sum(-1, keepdim=True)
    lr = optimizer.param_groups[0]["lr"][:, None]
    assert float((moved - lr * total).abs().max()) <= 1e-11
    assert optimizer.state_dict()["state"][0]["step"] == 1


def test_the_example_of_tensors_trains_every_parameter() -> None:
    _, example, _ = blocks(ROOT / "docs" / "optimizers.md", "python")
    names: dict[str, Any] = {}
    exec(compile(example, "optimizers", "exec"), names)
    stepped = [p for optimizer in names["optimizers"] for p in optimizer.state]
    assert {id(p) for p in stepped} == {id(p) for p in names["model"].parameters()}
    assert [p.ndim for p in names["tensors"]] == [4, 2]


def test_the_example_on_the_manifold_approaches_its_target() -> None:
    example, *_ = blocks(ROOT / "docs" / "optimizers.md", "python")
    names: dict[str, Any] = {}
    exec(compile(example, "optimizers", "exec"), names)
    B, A = (factor.detach() for factor in names["pair"])
    assert float((B.mT @ B - A @ A.mT).abs().max()) <= 1e-12
    found = torch.linalg.matrix_norm(B @ A - names["target"])
    # Twenty steps of .1 along directions of rank 8 at most.
    assert float(found) < 0.95 * float(torch.linalg.matrix_norm(names["target"]))


def test_the_tables_of_rate_adjustments_are_the_same() -> None:
    page = (ROOT / "docs" / "optimizers.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)`(?:, also `None`)? \| .* \| .* \|$", page, re.M)
    assert [name for name in rows if name in RATE_ADJUSTMENTS] == list(RATE_ADJUSTMENTS)


def test_the_corpus_example_runs_and_its_numbers_are_what_comes_out() -> None:
    example, *_ = blocks(ROOT / "docs" / "tasks.md", "python")
    names: dict[str, Any] = {}
    exec(compile(example, "tasks", "exec"), names)
    language = names["language"]
    assert names["losses"].shape == (256, 128)
    assert names["best"] == pytest.approx(language.entropy_rate, rel=0.1)
    page = (ROOT / "docs" / "tasks.md").read_text(encoding="utf-8")
    (text,) = blocks(ROOT / "docs" / "tasks.md", "text")
    assert text.strip() in names["corpus"].decode(names["corpus"].train)
    rows = dict(re.findall(r"^\| (\d|all) \| (\d\.\d{4}) \|$", page, re.M))
    optima = [*language.context_optima(6).tolist(), language.entropy_rate]
    assert rows == dict(zip([*"0123456", "all"], (f"{x:.4f}" for x in optima), strict=True))
    assert f"{language.states:,} states" in page
    assert f"H(π) is {language.state_entropy:.2f} nats" in page


def test_the_image_example_trains_and_tunes() -> None:
    _, example, *_ = blocks(ROOT / "docs" / "tasks.md", "python")
    names: dict[str, Any] = {}
    exec(compile(example, "tasks", "exec"), names)
    assert names["pixels"].shape == (1000, 256)
    trained, other, untrained = names["scores"].test.tolist()
    assert min(trained, other) > untrained
    assert names["curve"].accuracy.shape == (2,)


def test_the_tensor_example_trains() -> None:
    _, _, example, _ = blocks(ROOT / "docs" / "tasks.md", "python")
    names: dict[str, Any] = {}
    exec(compile(example, "tasks", "exec"), names)
    assert names["regression"].loss(names["W"]).shape == (2, 3)
    assert names["errors"].held_out.flatten().tolist() == pytest.approx([1.0] * 18)
    assert names["errors"].diverged == {}


def test_the_factorization_example_runs_in_flow_time() -> None:
    *_, example = blocks(ROOT / "docs" / "tasks.md", "python")
    names: dict[str, Any] = {}
    exec(compile(example, "tasks", "exec"), names)
    run, descent, problem = names["run"], names["descent"], names["problem"]
    assert run.singular_values.shape == (2, 8, 401, 5)
    assert bool(run.diverged.isinf().all())
    fast, slow = run.arrival_times(0.9)
    # W moves by the rate in every direction there is: half the rate takes twice the steps.
    assert float((slow[:, -1] / fast[:, -1]).mean()) == pytest.approx(2, rel=0.03)
    # sqrt(d) grows by the rate in each step, from nothing to sqrt(.9 sigma).
    arrived = descent.arrival_times(0.9).median(0).values
    expected = (0.9 * problem.singular_values).sqrt() / 0.01
    assert float((arrived - expected).abs().max()) <= 2


def test_the_table_of_optimisers_that_reduce_is_what_is_declared() -> None:
    page = (ROOT / "docs" / "tasks.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (.*`.*) \| (.*) \|$", page, re.M)
    named = {name for row, _ in rows for name in re.findall(r"`(?:torch\.optim\.)?(\w+)`", row)}
    assert named - {"MemberAdamW"} == {kind.__name__ for kind in OBJECTIONS}


def test_the_training_example_trains() -> None:
    example, *_ = blocks(ROOT / "docs" / "training.md", "python")
    names: dict[str, Any] = {}
    exec(compile(example, "training", "exec"), names)
    record, least = names["record"], names["language"].entropy_rate
    assert record.losses.shape == (150, 6)
    assert record.diverged == {}
    slow, middle, _ = names["by_rate"].tolist()
    assert least < middle < slow < float(names["language"].context_optima(0)[0])


def test_the_example_of_members_that_leave_loses_one(capsys: pytest.CaptureFixture[str]) -> None:
    _, example, _ = blocks(ROOT / "docs" / "training.md", "python")
    names: dict[str, Any] = {"torch": torch}
    exec(compile(example, "training", "exec"), names)
    (told,) = re.findall(r"print\(reasons\)  # (.*)", example)
    assert capsys.readouterr().out.strip() == told
    assert len(names["B"]) == len(names["A"]) == 2
    assert len(names["optimizer"].state) == 2


def test_the_fine_tuning_example_goes_on_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    training, _, example = blocks(ROOT / "docs" / "training.md", "python")
    # What is made before the first run is all that the second example needs.
    names: dict[str, Any] = {}
    exec(compile(training[: training.index("record =")], "training", "exec"), names)
    exec(compile(example, "fine-tuning", "exec"), names)
    validation, spectra = names["tuned"].record.validation, names["spectra"]
    assert bool((validation[40] < validation[0] - 0.2).all())
    assert [found.shape for found in spectra] == [(4, 2, 8)] * 3
    assert all(bool((later[..., 0] > sooner[..., 0]).all()) for sooner, later in pairwise(spectra))


def test_the_example_of_a_start_leaves_the_loss(capsys: pytest.CaptureFixture[str]) -> None:
    (example,) = blocks(ROOT / "docs" / "riemannlora.md", "python")
    names: dict[str, Any] = {}
    exec(compile(example, "riemannlora", "exec"), names)
    change, _, values = capsys.readouterr().out.partition(" ")
    assert abs(float(change)) <= 1e-14
    assert values.startswith("tensor([")
    assert [start.B.shape for start in names["starts"]] == [(48, 4), (32, 4)]


def test_the_sweep_example_tunes_every_line(capsys: pytest.CaptureFixture[str]) -> None:
    (example,) = blocks(ROOT / "docs" / "sweeps.md", "python")
    names: dict[str, Any] = {}
    exec(compile(example, "sweeps", "exec"), names)
    curves = names["curves"]
    assert [curve.line.architecture.rank for curve in curves] == [2, 4, 2, 4]
    assert all(curve.losses.shape == (len(curve.rates), 6) for curve in curves)
    assert capsys.readouterr().out.count("LoRA-Muon") == 2


def test_the_sweep_on_a_cluster_comes_to_what_it_comes_to_here() -> None:
    pytest.importorskip("distributed")
    (example,) = blocks(ROOT / "docs" / "clusters.md", "python")
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(example, "clusters", "exec"), names)
    for there, here in zip(names["curves"], sweep(*names["asked"]), strict=True):
        assert there.losses.shape == (3, 2)
        assert np.array_equal(there.losses, here.losses)


def test_the_optimisers_of_the_example_are_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (example,) = blocks(ROOT / "docs" / "checking-your-optimiser.md", "python")
    (tmp_path / "my_optimizers.py").write_text(example, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    claim = REGISTRY["lora-rite.gauge"]
    verdicts = {
        name: run_claim(claim, "quick", 0, subject=load_subject(f"my_optimizers:{name}")).verdict
        for name in ("plain_adam", "scaled")
    }
    assert verdicts == {"plain_adam": Verdict.FAILS, "scaled": Verdict.HOLDS}
    claim = REGISTRY["tensorion.lmo-optimal"]
    exact = run_claim(claim, "quick", 0, subject=load_subject("my_optimizers:exact_muon"))
    assert exact.verdict is Verdict.HOLDS


def test_every_paper_has_a_page() -> None:
    assert sorted(key for keys in PAPERS.values() for key in keys) == sorted(REGISTRY.papers)


@pytest.mark.parametrize(("name", "papers"), PAPERS.items())
def test_the_paper_s_page_has_every_claim(name: str, papers: set[str]) -> None:
    page = (ROOT / "docs" / name).read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([a-z-]+\.[a-z0-9.-]+)` \|", page, re.M)
    assert sorted(rows) == sorted(claim.id for claim in REGISTRY if claim.paper in papers)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#\s]+)\)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_the_readme_shows_the_table_that_is_printed() -> None:
    page = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^([a-z-]+\.[a-z0-9.-]+) +([A-Z]+) ", page, re.M)
    assert [name for name, _ in rows] == [claim.id for claim in REGISTRY]
    reasons = {claim.id: claim.skip(claim.setting("quick", 0)) for claim in REGISTRY}
    begun_later = {name for name, reason in reasons.items() if reason}
    expected = {claim.id: str(claim.expected) for claim in REGISTRY}
    assert dict(rows) == expected | dict.fromkeys(begun_later, "SKIPPED")
    counted = Counter(verdict for _, verdict in rows)
    told = ", ".join(f"{counted[verdict]} {verdict}" for verdict in Verdict if counted[verdict])
    why = Counter(reason for reason in reasons.values() if reason)
    lines = [*(f"{count} skipped: {reason}" for reason, count in why.items()), ""]
    assert "\n" + "\n".join(lines) + f"{len(rows)} claims: {told}; " in page


@pytest.mark.parametrize(
    ("page", "told", "count"),
    [
        ("docs/lora-muon.md", "Twenty-four claims: ", 24),
        ("docs/low-rank-orthogonalization.md", "Eighteen claims. ", 18),
    ],
)
def test_pages_count_their_claims(page: str, told: str, count: int) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    assert told in text
    assert len(re.findall(r"^\| `[a-z-]+\.[a-z0-9.-]+` \|", text, re.M)) == count
