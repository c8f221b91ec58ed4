"""The HTML report: one file that needs nothing else, from the recorded results."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from claims.registry import Verdict
from claims.results import Recorded, Results, place_of, read_results, write_atomically
from figures import numbers
from figures.mathml import mathematics
from figures.placement import place

# A sign beside the colour and the word, so that none of the three has to be seen.
SIGNS = {
    Verdict.HOLDS: "✓",
    Verdict.REFUTED: "≠",
    Verdict.FAILS: "✗",
    Verdict.VACUOUS: "○",
    Verdict.ERROR: "!",
    Verdict.SKIPPED: "\u2013",
}
MEANINGS = {
    Verdict.HOLDS: "the check meets its bounds and every control misses one",
    Verdict.REFUTED: "a counterexample was found, as declared",
    Verdict.FAILS: "the check misses a bound",
    Verdict.VACUOUS: "a control meets the bounds too, so the check proves nothing",
    Verdict.ERROR: "the check raised an error",
    Verdict.SKIPPED: "not run",
}
SOURCES = {
    "paper": "stated by the paper",
    "derived": "derived from the paper's definitions",
    "related": "stated by a related paper",
}


def write_report(out: Path, jobs: int = 1) -> Path:
    """Write OUT/report.html from OUT/results.json and its evidence; the path written to.

    With more jobs than one the figures are drawn in so many processes.

    Raises ResultsError where the results are missing or damaged. A figure whose evidence is
    missing or damaged is left out, with a sentence that says so.
    """
    html = render_report(read_results(out), jobs)
    return write_atomically(out / "report.html", lambda stream: stream.write(html.encode()))


def render_report(results: Results, jobs: int = 1) -> str:
    """The report as HTML."""
    environment = Environment(
        loader=PackageLoader("figures"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        mathematics=mathematics,
        number=numbers.number,
        bound=numbers.bound,
        margin=numbers.margin,
        share_left=numbers.share_left,
        duration=numbers.duration,
        moment=numbers.moment,
        where=place_of,
    )
    return environment.get_template("report.html").render(_view(results, jobs))


def _view(results: Results, jobs: int) -> dict[str, Any]:
    counts = Counter(claim.verdict for claim in results.claims)
    papers: dict[str, list[Recorded]] = {}
    for claim in results.claims:
        papers.setdefault(claim.paper, []).append(claim)
    return {
        "run": results.run,
        "claims": results.claims,
        "earlier": results.earlier,
        "papers": papers,
        "counts": {verdict: counts[verdict] for verdict in Verdict if counts[verdict]},
        "unexpected": [claim for claim in results.claims if not claim.as_expected],
        "figures": place(results, jobs),
        "signs": SIGNS,
        "meanings": MEANINGS,
        "sources": SOURCES,
    }
