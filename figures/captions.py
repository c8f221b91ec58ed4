"""A figure's caption, and where what it shows comes from, as text to take along with its file."""

from __future__ import annotations

import textwrap

from claims.results import Results, place_of
from figures.figure import Figure
from figures.numbers import moment

WIDTH = 100


def caption(figure: Figure, results: Results) -> str:
    """Title, caption, and for each claim that the figure reads: source, verdict, run.

    For a claim that the run skipped these are of the earlier run whose evidence is drawn.
    """
    paragraphs = [f"{figure.title}.", figure.caption]
    paragraphs += [_origin(name, results) for name in figure.claims]
    return "\n\n".join(textwrap.fill(text, WIDTH) for text in paragraphs) + "\n"


def _origin(name: str, results: Results) -> str:
    claim = results.standing(name)
    run = results.earlier[name].run if name in results.earlier else results.run
    return (
        f"Evidence of {name} ({claim.reference}): {claim.verdict}; {run['tier']} tier, "
        f"seed {run['seed']}, {place_of(run)}, {moment(run['started'])}, "
        f"commit {run['commit'] or 'unknown'}."
    )
