"""Every figure draws, in each format, the same bytes from the same evidence; and shows in grey."""

from __future__ import annotations

import ast
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest

import figures
from figures import palette
from figures.catalogue import FIGURES
from figures.figure import FORMATS, Figure, MissingEvidence, Sources
from figures.panels import one_two_five, short_slope, slope_text, spread_apart
from tests.figures.synthetic import all_arrays

MAGIC = {"svg": b"<?xml", "pdf": b"%PDF", "png": b"\x89PNG"}
every_figure = pytest.mark.parametrize("figure", FIGURES, ids=lambda figure: figure.name)


@every_figure
@pytest.mark.parametrize("file_format", FORMATS)
def test_every_figure_draws_in_every_format(
    figure: Figure, file_format: str, sources: Sources
) -> None:
    content = figure.render(sources, file_format, dpi=60)
    assert content.startswith(MAGIC[file_format])
    assert len(content) > 5_000


@pytest.mark.parametrize("file_format", FORMATS)
def test_the_same_evidence_gives_the_same_bytes(sources: Sources, file_format: str) -> None:
    figure = FIGURES[2]
    first = figure.render(sources, file_format)
    with matplotlib.rc_context({"font.size": 20, "svg.hashsalt": "another", "lines.linewidth": 9}):
        assert figure.render(sources, file_format) == first


def test_an_unknown_format_is_named(sources: Sources) -> None:
    with pytest.raises(ValueError, match=r"no format 'gif'; the formats are svg, pdf, png"):
        FIGURES[0].render(sources, "gif")


@every_figure
def test_every_figure_has_the_width_it_declares(figure: Figure, sources: Sources) -> None:
    width = palette.FULL_WIDTH if figure.wide else palette.COLUMN_WIDTH
    assert figure.drawing(sources).get_figwidth() == width


def require_named(figure: Figure, sources: Sources) -> None:
    labelled = [axes for axes in figure.drawing(sources).axes if axes.get_label() != "<colorbar>"]
    assert all(axes.get_xlabel() and axes.get_title(loc="left") for axes in labelled)
    assert labelled[0].get_ylabel()
    assert len(figure.caption) > 100
    assert "$" not in figure.caption + figure.title


@every_figure
def test_axes_are_named_and_captions_say_what_is_drawn(figure: Figure, sources: Sources) -> None:
    require_named(figure, sources)


@every_figure
@pytest.mark.parametrize("missing", ["all of it", "one array"])
def test_missing_evidence_names_the_claim(figure: Figure, missing: str, sources: Sources) -> None:
    claim = figure.claims[0]
    arrays = dict(sources.arrays)
    if missing == "all of it":
        del arrays[claim]
    else:
        arrays[claim] = {key: array for key, array in arrays[claim].items() if "target" in key}
    with pytest.raises(MissingEvidence, match=claim) as raised:
        figure.drawing(Sources(arrays))
    assert raised.value.claim == claim


def test_what_there_is_is_told_beside_what_is_missing(sources: Sources) -> None:
    few = Sources({"usg.equal-rate": {"check/times": np.ones(2), "check/rates": np.ones(2)}})
    with pytest.raises(
        MissingEvidence, match=r"no array 'check/rate'; of 2 the nearest are: check/rates, check/ti"
    ):
        few.check("usg.equal-rate")["rate"]
    with pytest.raises(MissingEvidence, match=r"the figure declares are: usg\.equal-rate$"):
        few.check("usg.lag-bound")


def test_a_figure_that_is_none_is_refused(sources: Sources) -> None:
    letters: Any = "usg.equal-rate"
    with pytest.raises(TypeError, match=r"a tuple of claims .* given 'usg\.equal-rate'"):
        replace(FIGURES[0], claims=letters)
    with pytest.raises(ValueError, match=r"small letters, digits and '-' is expected"):
        replace(FIGURES[0], name="../Equal rate")
    forgetful: Any = lambda sources: None  # noqa: E731
    with pytest.raises(TypeError, match=r"draw is to return the matplotlib Figure; given None"):
        replace(FIGURES[0], draw=forgetful).drawing(sources)


@pytest.fixture(scope="module")
def one_seed() -> Sources:
    return Sources(all_arrays(seeds=1))


@every_figure
def test_one_seed_is_enough(figure: Figure, one_seed: Sources) -> None:
    assert figure.render(one_seed, "png", dpi=40).startswith(MAGIC["png"])


def test_figure_names_are_unique() -> None:
    assert len({figure.name for figure in FIGURES}) == len(FIGURES) == 30


@pytest.mark.parametrize("count", range(2, 9))
def test_ordered_colours_rise_in_lightness(count: int) -> None:
    shades = [palette.luminance(colour) for colour in palette.ordered_colours(count)]
    gaps = [later - earlier for earlier, later in pairwise(shades)]
    assert min(gaps) > 0.1 / count
    assert shades[-1] < 0.55  # still seen on white paper


def test_the_two_flows_and_the_cases_differ_without_colour() -> None:
    inks = [palette.case(index) for index in range(9)]
    assert len({(ink.dashes, ink.marker) for ink in inks}) == len(inks)
    assert palette.SPECTRAL.dashes != palette.GRADIENT.dashes
    assert palette.SPECTRAL.marker != palette.GRADIENT.marker


@pytest.mark.parametrize("colour", [palette.INK, palette.MUTED, palette.SPECTRAL.colour])
def test_text_contrasts_with_paper(colour: str) -> None:
    assert 1.05 / (palette.luminance(colour) + 0.05) >= 4.5


def test_words_are_darkened_no_further_than_they_need() -> None:
    assert palette.legible(palette.INK) == palette.INK
    green = palette.ordered_colours(5)[-1]
    assert palette.luminance(palette.legible(green)) == pytest.approx(0.18, abs=0.01)


def test_luminance_of_black_white_and_middle_grey() -> None:
    assert palette.luminance("black") == 0.0
    assert palette.luminance("white") == pytest.approx(1.0)
    assert palette.luminance("#777777") == pytest.approx(0.1845, abs=1e-3)


@every_figure
def test_lines_that_differ_in_meaning_differ_in_grey(figure: Figure, sources: Sources) -> None:
    """No two labelled lines of an axis share line style, marker and shade of grey."""
    for axes in figure.drawing(sources).axes:
        looks: dict[tuple[object, ...], set[str]] = {}
        for line in axes.lines:
            label = str(line.get_label())
            if label.startswith("_"):
                continue
            grey = round(palette.luminance(matplotlib.colors.to_hex(line.get_color())) * 40)
            style = line.get_linestyle() if line.get_linewidth() else "none"
            look = (style, line.get_marker(), grey, line.get_markersize())
            looks.setdefault(look, set()).add(label.rstrip("0123456789. "))
        shared = [labels for labels in looks.values() if len(labels) > 1]
        assert not shared


LOOKS = {
    "LoRA-Muon": palette.LORA_MUON,
    "Spectron": palette.SPECTRON,
    "Muon on each factor": palette.FACTOR_MUON,
    "signs": palette.SIGNS,
    "LoRA-RITE": palette.LORA_RITE,
    "LoRA-RITE's core": palette.LORA_RITE_CORE,
    "RiemannLoRA": palette.RIEMANN_LORA,
    "RiemannLoRA, SGD": palette.RIEMANN_LORA,
    "RiemannLoRA, adaptive": palette.RIEMANN_LORA_ADAPTIVE,
    "RiemannLoRA, Adam": palette.RIEMANN_LORA_ADAPTIVE,
    "Riemannion": palette.RIEMANNION,
    "AdamW": palette.ADAMW,
    "SGD": palette.SGD,
}


SKETCHES = {
    "columns": palette.COLUMNS,
    "columns, r = 3": palette.COLUMNS,
    "uniform columns": palette.COLUMNS,
    "norm-weighted columns": palette.WEIGHTED_COLUMNS,
    "Gaussian": palette.GAUSSIAN,
    "Gaussian, r = 3": palette.GAUSSIAN,
    "Gaussian, h = 1": palette.GAUSSIAN_POWER,
    "Gaussian, $h = 1$": palette.GAUSSIAN_POWER,
}


@every_figure
def test_a_sketch_has_one_colour_and_marker_in_every_figure(
    figure: Figure, sources: Sources
) -> None:
    for line in (line for axes in figure.drawing(sources).axes for line in axes.lines):
        if ink := SKETCHES.get(str(line.get_label())):
            assert line.get_color() == ink.colour, line.get_label()
            assert line.get_marker() in ("None", ink.marker)


@every_figure
def test_an_optimiser_looks_the_same_in_every_figure(figure: Figure, sources: Sources) -> None:
    for line in (line for axes in figure.drawing(sources).axes for line in axes.lines):
        if ink := LOOKS.get(str(line.get_label())):
            assert line.get_color() == ink.colour, line.get_label()
            assert line.get_linestyle() in ("None", ink.dashes)
            assert line.get_marker() in ("None", "", ink.marker)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([0.1, 0.5, 0.9], [0.1, 0.5, 0.9]),
        ([0.5, 0.5], [0.45, 0.55]),
        ([0.9, 0.1, 0.12], [0.9, 0.06, 0.16]),
        ([0.0, 0.1, 0.11, 0.12], [-0.0675, 0.0325, 0.1325, 0.2325]),
    ],
)
def test_labels_are_moved_apart_and_no_further(given: list[float], expected: list[float]) -> None:
    assert spread_apart(given, 0.1) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([0.0, 0.1, 0.11, 0.12], [0.0, 0.1, 0.2, 0.3]),
        ([0.9, 0.97, 1.4], [0.8, 0.9, 1.0]),
        ([-1.0, 0.5], [0.0, 0.5]),
        ([0.5] * 12, [0.1 * step for step in range(12)]),
    ],
)
def test_labels_stay_beside_their_panel(given: list[float], expected: list[float]) -> None:
    assert spread_apart(given, 0.1, (0.0, 1.0)) == pytest.approx(expected)


def test_a_slope_is_stated_to_the_precision_of_its_interval() -> None:
    assert slope_text(1.98765, np.array([1.95, 2.02])) == "slope 1.99  [1.95, 2.02]"
    assert slope_text(1.0, np.array([0.9998, 1.0003])) == "slope 1.0000  [0.9998, 1.0003]"


@pytest.mark.parametrize(
    ("slope", "interval", "expected"),
    [
        (-0.2278, (-0.2294, -0.2263), "−0.228(2)"),
        (0.018, (-0.0148, 0.0511), "0.02(4)"),
        (-0.1009, (-0.118, -0.0839), "−0.10(2)"),
        (-0.0004, (-0.0104, 0.0096), "0.00(1)"),
        (2.0, (1.0, 3.0), "2.00(100)"),
    ],
)
def test_a_short_slope_bounds_its_interval(
    slope: float, interval: tuple[float, float], expected: str
) -> None:
    assert short_slope(slope, np.array(interval)) == expected


def test_ticks_at_one_two_five() -> None:
    np.testing.assert_allclose(one_two_five(0.9, 21), [1, 2, 5, 10, 20])


def test_figures_import_nothing_of_ours_but_recorded_results() -> None:
    allowed = {"claims.registry", "claims.results"}
    rooms = {"geometry", "flows", "simulate", "claims", "paper_checks", "tests"}
    for path in Path(figures.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            ours = {name for name in names if name.partition(".")[0] in rooms}
            assert ours <= allowed, path.name


@every_figure
def test_legends_have_no_frame(figure: Figure, sources: Sources) -> None:
    drawing = figure.drawing(sources)
    legends = [
        *drawing.legends,
        *(legend for axes in drawing.axes if (legend := axes.get_legend())),
    ]
    for legend in legends:
        assert not legend.get_frame_on()
