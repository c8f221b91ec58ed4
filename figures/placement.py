"""Which figure stands beside which claim of the report, and why some are left out."""

from __future__ import annotations

import base64
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field

from claims.results import Results
from figures.catalogue import FIGURES
from figures.evidence import earlier_sentence, missing_claims, missing_sentence, sources
from figures.figure import Figure

PNG_DPI = 180  # sharp on a dense screen at the width of the report
# Bytes up to which an SVG is small enough; to draw a PNG beside it takes as long again.
SMALL_SVG = 230_000

# An image, or the sentence why there is none.
_Drawn = tuple[str, str]


@dataclass(frozen=True)
class Placed:
    """A drawn figure and the claim it stands beside: the first one, in order, that it reads."""

    figure: Figure
    image: str
    claim: str
    note: str = ""


@dataclass
class Placement:
    """Every figure of the catalogue is in ``placed`` or, with a sentence, in ``left_out``."""

    placed: list[Placed] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)

    def beside(self, claim: str) -> list[Placed]:
        """Figures that stand beside ``claim``."""
        return [placed for placed in self.placed if placed.claim == claim]

    def elsewhere(self, claim: str) -> list[Placed]:
        """Figures that read ``claim`` and stand beside another one."""
        return [p for p in self.placed if claim in p.figure.claims and p.claim != claim]

    def lacking(self, claim: str) -> list[str]:
        """The sentences on figures that would read ``claim`` and could not be drawn."""
        return [self.left_out[f.name] for f in FIGURES if _concerns(f, claim, self.left_out)]


def _concerns(figure: Figure, claim: str, left_out: dict[str, str]) -> bool:
    return claim in figure.claims and figure.name in left_out


def place(results: Results, jobs: int = 1) -> Placement:
    """Draw every figure whose evidence is there, once, in as many processes as jobs are given."""
    placement = Placement()
    missing = {figure.name: missing_claims(figure, results) for figure in FIGURES}
    there = [figure for figure in FIGURES if not missing[figure.name]]
    images = dict(
        zip((figure.name for figure in there), _images(there, results, jobs), strict=True)
    )
    for figure in FIGURES:
        if missing[figure.name]:
            placement.left_out[figure.name] = missing_sentence(figure, missing[figure.name])
            continue
        image, trouble = images[figure.name]
        if trouble:
            placement.left_out[figure.name] = trouble
            continue
        first = next(claim.id for claim in results.claims if claim.id in figure.claims)
        note = earlier_sentence(figure, results)
        placement.placed.append(Placed(figure, image, first, note))
    return placement


def _images(there: list[Figure], results: Results, jobs: int) -> list[_Drawn]:
    if min(jobs, len(there)) <= 1:
        return [_drawn(figure, results) for figure in there]
    count, context = len(there), multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(jobs, count), mp_context=context) as pool:
        names = [figure.name for figure in there]
        return list(pool.map(_drawn_by_name, names, [results] * count))


def _drawn_by_name(name: str, results: Results) -> _Drawn:
    # What draws does not travel between processes; its name does.
    return _drawn(next(each for each in FIGURES if each.name == name), results)


def _drawn(figure: Figure, results: Results) -> _Drawn:
    try:
        return small_image(figure, results), ""
    except Exception as error:  # no figure is worth a report: say what happened, and go on
        return "", (
            f"The figure {figure.name} is left out: it could not be drawn "
            f"({type(error).__name__}: {error})."
        )


def small_image(figure: Figure, results: Results) -> str:
    """The figure as a data URI: SVG, or PNG where an SVG that is not small is the larger one."""
    arrays = sources(figure, results)
    kind, content = "svg+xml", figure.render(arrays, "svg")
    if len(content) > SMALL_SVG:
        png = figure.render(arrays, "png", dpi=PNG_DPI)
        if len(png) < len(content):
            kind, content = "png", png
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
