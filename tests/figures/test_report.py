"""The HTML report: whole, self-contained, escaped, and honest about what is missing."""

from __future__ import annotations

import base64
import re
from collections import Counter
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest

from claims.results import ResultsError, read_results
from figures.catalogue import FIGURES
from figures.report import write_report
from tests.figures.synthetic_run import (
    ERROR_CLAIM,
    HOSTILE,
    HTML_CLAIM,
    REFUTED_CLAIM,
    SKIPPED_CLAIM,
    STATEMENTS,
    VACUOUS_CLAIM,
    write_run,
)

VOID = {"meta", "link", "img", "input", "br"}


class Page(HTMLParser):
    """Tags, attributes and text of a page; every tag that opens must close, in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def html(tmp_path_factory: pytest.TempPathFactory) -> str:
    out = write_run(tmp_path_factory.mktemp("report"), seeds=5)
    path = write_report(out)
    assert path == out / "report.html"
    assert {file.name for file in out.iterdir()} == {"results.json", "evidence", "report.html"}
    return path.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


def card(html: str, claim: str) -> str:
    match = re.search(
        rf'<article class="claim \w+" id="{re.escape(claim)}".*?</article>', html, re.S
    )
    assert match
    return match[0]


def test_every_claim_has_one_card_with_its_verdict_in_words(html: str, page: Page) -> None:
    cards = {str(article["id"]): str(article["class"]) for article in page.all("article")}
    assert {name: cards[name] for name in STATEMENTS} == dict.fromkeys(STATEMENTS, "claim HOLDS")
    assert cards[HTML_CLAIM] == "claim FAILS"
    assert cards[VACUOUS_CLAIM] == "claim VACUOUS"
    assert cards[REFUTED_CLAIM] == "claim REFUTED"
    assert cards[ERROR_CLAIM] == "claim ERROR"
    assert cards[SKIPPED_CLAIM] == "claim SKIPPED"
    for name, classes in cards.items():
        assert f"</span>{classes.removeprefix('claim ')}</span>" in card(html, name)


def test_ids_are_unique_and_every_inner_link_leads_somewhere(page: Page) -> None:
    ids = Counter(attributes["id"] for _, attributes in page.tags if attributes.get("id"))
    assert [name for name, count in ids.items() if count > 1] == []
    targets = {str(link["href"]) for link in page.all("a")}
    assert {target for target in targets if target.removeprefix("#") not in ids} == set()


def test_the_contents_lead_to_every_paper_and_to_the_foot(html: str) -> None:
    (contents,) = re.findall(r'<nav class="contents".*?</nav>', html, re.DOTALL)
    papers = re.findall(r'<h2 id="(paper-\d+)">', html)
    assert re.findall(r'href="#([^"]*)"', contents) == [*papers, "figures", "verdicts", "run"]


def test_the_source_of_a_claim_is_seen_without_opening_anything(html: str) -> None:
    shown = card(html, "usg.equal-rate")
    assert "stated by the paper (Theorem 5.7 of arXiv 2602.06385)" in shown.partition("<details")[0]


def test_what_is_folded_is_printed(html: str) -> None:
    printed = html.partition("@media print")[2].partition("</style>")[0]
    assert "details::details-content { content-visibility: visible; }" in printed


def test_statements_are_mathml(html: str) -> None:
    shown = card(html, "usg.equal-rate")
    assert "<msqrt>" in shown
    assert r'alttext="\frac{\mathrm{d}}{\mathrm{d}t}\sqrt{d_i} = 1 + O(\beta^2)"' in shown
    assert r"$\frac" not in shown
    assert 'class="latex"' not in html


def test_measurements_controls_and_margins(html: str) -> None:
    shown = card(html, "usg.smallest-first")
    assert "largest deviation from unit rate" in shown
    assert "≤ 0.0116" in shown
    assert "in [1.7, 2.3]" in shown
    assert "50% left" in shown
    assert "width:50.0%" in shown
    assert "exactly at the bound" in shown
    assert "<strong>gradient flow</strong> fails, as it must: it misses every bound." in shown
    broken = card(html, HTML_CLAIM)
    assert "not a number" in broken
    assert "gradient flow measured no number somewhere, so its failing shows nothing" in broken
    assert "as it must" not in broken
    assert "Every seed is shown." in shown
    assert "Theorem 5.7 of arXiv 2602.06385" in shown


def test_the_head_counts_verdicts_and_names_the_unexpected(page: Page) -> None:
    assert "3 of 41 verdicts are not the expected ones" in page.text
    for count in ("36 HOLDS", "1 FAILS", "1 VACUOUS", "1 REFUTED", "1 ERROR", "1 SKIPPED"):
        assert count in page.text


def test_the_other_verdicts_give_their_reasons(html: str) -> None:
    assert "meets every bound too, so the check proves nothing" in card(html, VACUOUS_CLAIM)
    assert "mode 1 comes last" in card(html, REFUTED_CLAIM)
    assert "no GPU here" in card(html, SKIPPED_CLAIM)
    raised = card(html, ERROR_CLAIM)
    assert re.search(r"<details><summary>Traceback</summary><pre>Traceback \(most", raised)


def test_everything_recorded_is_escaped(html: str, page: Page) -> None:
    assert page.all("script") == []
    assert HOSTILE not in html
    assert page.text.count(HOSTILE) >= 5  # title, statement, criterion, remark, traceback
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)


def test_nothing_is_fetched(html: str, page: Page) -> None:
    resources = [
        str(attributes[name])
        for tag, attributes in page.tags
        for name in ("src", "srcset", "data", "poster", "action", "href")
        if name in attributes and tag != "a"
    ]
    assert resources
    assert all(resource.startswith("data:") for resource in resources)
    assert "http" not in re.sub(r'"data:[^"]*"', "", html)
    assert "@import" not in html
    assert "url(" not in html


def test_each_figure_stands_once_beside_the_first_claim_it_reads(html: str, page: Page) -> None:
    assert [str(figure["id"]) for figure in page.all("figure")] == [
        "figure-singular-values",
        "figure-arrivals",
        "figure-equal-rate",
        "figure-order-boundary",
        "figure-saddles-and-rates",
        "figure-discretisation",
        "figure-lockstep",
        "figure-l2",
        "figure-adapter-spectra",
        "figure-tangent-share",
        "figure-gauge-drift",
        "figure-gram-and-qr",
        "figure-scale-dependence",
        "figure-rates-by-rank",
        "figure-rates-by-size",
        "figure-rates-by-rescaling",
        "figure-step-time",
        "figure-orthogonalizer-error",
        "figure-alignment",
        "figure-heavy-tail-rates",
        "figure-crossover",
        "figure-sketched-pretraining",
        "figure-gradient-spectra",
        "figure-tensor-norms",
        "figure-unfolding-choice",
        "figure-tensor-convergence",
        "figure-gauge-error",
        "figure-locally-optimal-start",
        "figure-riemannion-spectrum",
        "figure-manifold-finetuning",
    ]
    for figure in FIGURES:
        assert f'id="figure-{figure.name}"' in card(html, figure.claims[0])
        for other in figure.claims[1:]:
            assert f'href="#figure-{figure.name}"' in card(html, other)
    assert [image["alt"] for image in page.all("img")]
    assert {image["alt"] for image in page.all("img")} == {figure.caption for figure in FIGURES}


def test_images_are_whole_and_small(html: str, page: Page) -> None:
    for image in page.all("img"):
        kind, _, content = str(image["src"]).partition(";base64,")
        start = {"data:image/svg+xml": b"<?xml", "data:image/png": b"\x89PNG"}[kind]
        assert base64.b64decode(content, validate=True).startswith(start)
    assert len(html.encode()) < 150_000 * len(FIGURES)


def test_the_foot_says_how_the_run_was_made(page: Page) -> None:
    for fact in (
        "--out <out>",
        "0123456789abcdef",
        "torch 2.13.0",
        "2026-03-01 09:30 UTC",
        "quick",
    ):
        assert fact in page.text


def test_headings_do_not_skip_a_level_and_the_page_suits_phones(html: str) -> None:
    levels = [int(level) for level in re.findall(r"<h([1-6])", html)]
    assert levels[0] == 1
    assert all(later <= earlier + 1 for earlier, later in pairwise(levels))
    assert 'content="width=device-width, initial-scale=1"' in html
    assert "prefers-color-scheme: dark" in html


def test_figures_without_evidence_are_left_out_with_a_sentence(tmp_path: Path) -> None:
    out = write_run(tmp_path, without=["usg.local-rate", "usg.l2-convergence"], seeds=2)
    (out / "evidence" / "quick" / "usg.equal-rate.npz").write_bytes(b"damaged")
    (out / "evidence" / "quick" / "usg.specgd-tracks-flow.npz").unlink()
    html = write_report(out).read_text(encoding="utf-8")
    page = Page(html)
    drawn = {str(figure["id"]) for figure in page.all("figure")}
    left_out = {"equal-rate", "saddles-and-rates", "discretisation", "l2"}
    assert drawn == {f"figure-{figure.name}" for figure in FIGURES if figure.name not in left_out}
    sentence = "The figure saddles-and-rates is left out: usg.local-rate was not run."
    assert sentence in card(html, "usg.saddle-escape")
    assert "The figure l2 is left out: usg.l2-convergence was not run." in page.text
    assert "usg.equal-rate.npz is damaged" in card(html, "usg.equal-rate")
    assert "does not exist" in card(html, "usg.specgd-tracks-flow")


def test_the_number_of_processes_changes_no_byte(tmp_path: Path) -> None:
    kept = {"usg.l2-convergence", "low-rank.cost", "usg.specgd-tracks-flow"}
    out = write_run(tmp_path, without=set(STATEMENTS) - kept, seeds=2)
    # One that cannot be drawn is told from another process as well.
    (out / "evidence" / "quick" / "usg.specgd-tracks-flow.npz").unlink()
    alone = write_report(out).read_bytes()
    assert write_report(out, jobs=2).read_bytes() == alone
    assert b"The figure discretisation is left out" in alone


def test_a_run_of_one_kind_says_so_in_its_head(tmp_path: Path) -> None:
    others = {HTML_CLAIM, VACUOUS_CLAIM, REFUTED_CLAIM, ERROR_CLAIM, SKIPPED_CLAIM}
    only = "usg.local-rate"
    without = (set(STATEMENTS) | others) - {only}
    html = write_report(write_run(tmp_path, without=without, seeds=1)).read_text()
    assert "1 claim, and every verdict is the expected one." in html
    html = write_report(write_run(tmp_path, without=without - {SKIPPED_CLAIM}, seeds=1)).read_text()
    assert "Of 2 claims, 1 was skipped; every other verdict is the expected one." in html


def test_a_run_without_claims_is_a_report_too(tmp_path: Path) -> None:
    everything = {claim.id for claim in read_results(write_run(tmp_path / "a", seeds=1)).claims}
    html = write_report(write_run(tmp_path / "b", without=everything, seeds=1)).read_text()
    assert "No claim was recorded." in Page(html).text


def test_damaged_results_are_an_error_and_leave_the_old_report(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text("{")
    (tmp_path / "report.html").write_text("old")
    with pytest.raises(ResultsError, match=r"results\.json is damaged"):
        write_report(tmp_path)
    assert (tmp_path / "report.html").read_text() == "old"


def test_a_skipped_claim_shows_its_last_run_of_another_tier(tmp_path: Path) -> None:
    claim = "lora-muon.lr-transfer-width-depth"
    others = set(STATEMENTS) - {claim}
    write_run(tmp_path, without=others, tier="full")
    write_run(tmp_path, without=others, skipped=[claim])
    html = write_report(tmp_path).read_text(encoding="utf-8")
    Page(html)
    shown = card(html, claim)
    assert "Skipped: begins later." in shown
    assert "Last run here: HOLDS" in shown
    assert "full tier, seed 0, " in shown
    assert "largest deviation from unit rate" in shown
    assert "<strong>AdamW</strong> fails, as it must" in shown
    assert 'id="figure-rates-by-size"' in shown
    assert f"Of an earlier run: {claim} of the full tier" in shown
    # A run that has none says what it said.
    alone = write_run(tmp_path / "alone", without=others, skipped=[claim])
    shown = card(write_report(alone).read_text(encoding="utf-8"), claim)
    assert "Last run here" not in shown
    assert f"The figure rates-by-size is left out: {claim} was skipped." in shown
