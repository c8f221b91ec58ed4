"""Words of a figure lie on the paper, and not on each other."""

from __future__ import annotations

from itertools import combinations, pairwise

import matplotlib
import pytest
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import QuadMesh
from matplotlib.colors import to_hex
from matplotlib.figure import Figure as Drawing
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from figures.catalogue import FIGURES
from figures.figure import STYLE, Sources
from figures.palette import luminance


@pytest.fixture(scope="module", params=FIGURES, ids=lambda figure: figure.name)
def drawing(request: pytest.FixtureRequest, sources: Sources) -> Drawing:
    """A figure as it is laid out on paper."""
    result: Drawing = request.param.drawing(sources)
    with matplotlib.rc_context(fname=STYLE):
        FigureCanvasAgg(result).draw()
    return result


def seen(texts: list[Text]) -> list[Text]:
    return [text for text in texts if text.get_visible() and text.get_text().strip()]


def tick_labels(axis: Axis) -> list[Text]:
    low, high = sorted(axis.get_view_interval())
    slack = 1e-9 * (high - low)
    shown = [
        each for each in axis.get_major_ticks() if low - slack <= each.get_loc() <= high + slack
    ]
    return seen([each.label1 for each in shown])


def test_tick_labels_stand_apart(drawing: Drawing) -> None:
    for axes in drawing.axes:
        across = [box.intervalx for box in boxes(tick_labels(axes.xaxis))]
        upwards = [box.intervaly for box in boxes(tick_labels(axes.yaxis))]
        for intervals in (across, upwards):
            ordered = sorted(intervals, key=lambda interval: float(interval[0]))
            assert all(before[1] < after[0] for before, after in pairwise(ordered))


def boxes(texts: list[Text]) -> list[Bbox]:
    return [text.get_window_extent() for text in texts]


def test_words_lie_on_the_paper(drawing: Drawing) -> None:
    paper = drawing.bbox
    for axes in drawing.axes:
        words = [*axes.texts, axes.xaxis.label, axes.yaxis.label]
        for box in boxes(seen([*words, *tick_labels(axes.xaxis), *tick_labels(axes.yaxis)])):
            assert Bbox.union([paper, box]).bounds == pytest.approx(paper.bounds)


def test_words_within_a_panel_do_not_cover_each_other(drawing: Drawing) -> None:
    for axes in drawing.axes:
        for one, other in combinations(boxes(seen(list(axes.texts))), 2):
            both = Bbox.intersection(one, other)
            # Boxes have room for descenders, which few words use.
            assert both is None or both.height < 0.35 * min(one.height, other.height)


def test_words_contrast_with_the_paper(drawing: Drawing) -> None:
    """But for those on coloured cells, which have their own ground."""
    for axes in drawing.axes:
        if axes.images or any(isinstance(each, QuadMesh) for each in axes.collections):
            continue
        words = [*axes.texts, *tick_labels(axes.xaxis), *tick_labels(axes.yaxis)]
        for text in seen(words):
            contrast = 1.05 / (luminance(to_hex(text.get_color())) + 0.05)
            assert contrast >= 4.5, text.get_text()
