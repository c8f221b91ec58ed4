"""What a figure is: a declared name, the claims whose evidence it reads, and a function that draws.

A figure never runs anything. It is handed the recorded arrays, as :class:`Sources`.
"""

from __future__ import annotations

import difflib
import io
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Drawing
from numpy.typing import NDArray

STYLE = Path(__file__).with_name("style.mplstyle")

# Dates and version strings are left out, so that the same evidence gives the same bytes.
FORMATS: Mapping[str, Mapping[str, None]] = {
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    "png": {"Software": None},
}


class MissingEvidence(ValueError):
    """A figure asked for an array that was not recorded."""

    def __init__(self, claim: str, message: str) -> None:
        super().__init__(message)
        self.claim = claim


@dataclass(frozen=True)
class Recording:
    """The arrays of a check, or of one control. A missing one is named together with its claim."""

    claim: str
    prefix: str
    arrays: Mapping[str, NDArray[Any]]

    def __getitem__(self, name: str) -> NDArray[Any]:
        key = f"{self.prefix}/{name}"
        if key not in self.arrays:
            near = difflib.get_close_matches(key, self.arrays, n=4, cutoff=0.0)
            raise MissingEvidence(
                self.claim,
                f"the evidence of {self.claim!r} has no array {key!r}; of {len(self.arrays)} the "
                f"nearest are: {', '.join(near) or 'none'}",
            )
        return self.arrays[key]

    def within(self, group: str) -> Recording:
        """The arrays whose names begin with ``group`` and a slash."""
        return Recording(self.claim, f"{self.prefix}/{group}", self.arrays)

    def number(self, name: str) -> float:
        """The one number that the array ``name`` holds."""
        return float(self[name].item())


@dataclass(frozen=True)
class Sources:
    """Recorded arrays by claim id; keys within a claim are ``check/...``, ``control/NAME/...``."""

    arrays: Mapping[str, Mapping[str, NDArray[Any]]]

    def check(self, claim: str) -> Recording:
        """What the check of ``claim`` recorded."""
        return self._recording(claim, "check")

    def control(self, claim: str, name: str) -> Recording:
        """What the control ``name`` of ``claim`` recorded."""
        return self._recording(claim, f"control/{name}")

    def _recording(self, claim: str, prefix: str) -> Recording:
        if claim not in self.arrays:
            declared = ", ".join(self.arrays) or "none"
            raise MissingEvidence(
                claim,
                f"no evidence of {claim!r} was given; the claims that the figure declares are: "
                f"{declared}",
            )
        return Recording(claim, prefix, self.arrays[claim])


@dataclass(frozen=True)
class Figure:
    """A declared figure.

    ``caption`` is plain text: it is the alternative text of the report too. ``wide`` figures take
    both columns of a paper, the others one.
    """

    name: str
    title: str
    caption: str
    claims: tuple[str, ...]
    draw: Callable[[Sources], Drawing]
    wide: bool = True

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9-]+", self.name):
            raise ValueError(
                f"figure {self.name!r}: a name of small letters, digits and '-' is expected"
            )
        # Without its comma a tuple of one claim would be a tuple of letters.
        if not self.claims or not isinstance(self.claims, tuple):
            raise TypeError(
                f"figure {self.name!r}: a tuple of claims is expected, such as "
                f"('usg.equal-rate',); given {self.claims!r}"
            )

    def drawing(self, sources: Sources) -> Drawing:
        """The figure under the house style, whatever the reader's own matplotlib settings are."""
        with matplotlib.rc_context(fname=STYLE):
            drawing = self.draw(sources)
            if not isinstance(drawing, Drawing):
                raise TypeError(
                    f"figure {self.name!r}: draw is to return the matplotlib Figure; given "
                    f"{drawing!r}"
                )
            FigureCanvasAgg(drawing)
            return drawing

    def render(self, sources: Sources, file_format: str, dpi: int = 300) -> bytes:
        """The bytes of a file in ``file_format`` (svg, pdf or png); ``dpi`` matters to png only."""
        if file_format not in FORMATS:
            raise ValueError(f"no format {file_format!r}; the formats are {', '.join(FORMATS)}")
        with matplotlib.rc_context(fname=STYLE):
            buffer = io.BytesIO()
            self.drawing(sources).savefig(
                buffer, format=file_format, dpi=dpi, metadata=dict(FORMATS[file_format])
            )
            return buffer.getvalue()
