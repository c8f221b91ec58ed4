"""Which figure stands beside which claim of the report, and why some are left out."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field

from claims.results import Results
from figures.catalogue import FIGURES
from figures.evidence import earlier_sentence, missing_claims, missing_sentence, sources
from figures.figure import Figure

PNG_DPI = 180  # sharp on a dense screen at the width of the report


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


def place(results: Results) -> Placement:
    """Draw every figure whose evidence is there, once."""
    placement = Placement()
    for figure in FIGURES:
        missing = missing_claims(figure, results)
        if missing:
            placement.left_out[figure.name] = missing_sentence(figure, missing)
            continue
        try:
            image = smallest_image(figure, results)
        except Exception as error:  # no figure is worth a report: say what happened, and go on
            placement.left_out[figure.name] = (
                f"The figure {figure.name} is left out: it could not be drawn "
                f"({type(error).__name__}: {error})."
            )
            continue
        first = next(claim.id for claim in results.claims if claim.id in figure.claims)
        note = earlier_sentence(figure, results)
        placement.placed.append(Placed(figure, image, first, note))
    return placement


def smallest_image(figure: Figure, results: Results) -> str:
    """The figure as a data URI: SVG or PNG, whichever is smaller."""
    arrays = sources(figure, results)
    svg = figure.render(arrays, "svg")
    png = figure.render(arrays, "png", dpi=PNG_DPI)
    kind, content = ("svg+xml", svg) if len(svg) <= len(png) else ("png", png)
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
