"""What the figures on low-rank orthogonalisation draw is what was recorded."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray

from figures import crossover
from figures.figure import Sources

CLAIM = "low-rank.cost"


def cells(axes: Axes) -> NDArray[Any]:
    """Values by size and share."""
    (image,) = axes.images
    return np.ma.asarray(image.get_array()).filled(np.nan).T


def xy_of(axes: Axes, label: str) -> tuple[NDArray[Any], NDArray[Any]]:
    (found,) = [line for line in axes.lines if line.get_label() == label]
    return np.asarray(found.get_xdata()), np.asarray(found.get_ydata())


def test_speed_ups_by_size_and_rank_beside_those_of_flops(sources: Sources) -> None:
    measured, predicted, _ = crossover.FIGURE.drawing(sources).axes
    check = sources.check(CLAIM)
    assert_array_equal(cells(measured), check["speedup"][..., 0])
    assert_allclose(cells(predicted), (check["full_flops"][:, None, None] / check["flops"])[..., 0])
    # One scale of colours for both.
    assert measured.images[0].norm.vmin == predicted.images[0].norm.vmin
    for axes in (measured, predicted):
        values = cells(axes)
        assert len(axes.texts) == np.isfinite(values).sum()
        slower = [patch for patch in axes.patches if patch.get_label() == "slower"]
        assert len(slower) == (values < 1).sum() > 0
        assert [tick.get_text() for tick in axes.get_xticklabels()] == ["256", "512", "1024"]
    shares = [tick.get_text() for tick in measured.get_yticklabels()]
    assert shares == ["1/16", "1/4", "1/2", "3/4", "1"]


def test_the_line_lies_where_both_are_as_fast(sources: Sources) -> None:
    measured, predicted, _ = crossover.FIGURE.drawing(sources).axes
    x, y = xy_of(measured, "as fast")
    # .8 and .88 lie between the rows of 3/4, the fourth, and of 1; at 1024 nothing was run there.
    assert_array_equal(x, [-0.5, 0.5, 0.5, 1.5])
    assert_allclose(y, np.repeat([3.2, 3.52], 2))
    assert_allclose(xy_of(predicted, "as fast")[1], 3 + (0.906 - 0.75) / 0.25)


def test_every_sketch_where_all_ranks_were_run(sources: Sources) -> None:
    axes = crossover.FIGURE.drawing(sources).axes[2]
    check = sources.check(CLAIM)
    assert "512" in axes.get_title(loc="left")
    for index, name in enumerate(check["sketches"]):
        x, y = xy_of(axes, str(name))
        assert_array_equal(x, check["shares"])
        assert_array_equal(y, check["speedup"][1, :, index])
    by_flops = [line for line in axes.lines if line.get_label() == "by flops"]
    expected = (check["full_flops"][:, None, None] / check["flops"])[1].T
    assert_allclose([np.asarray(line.get_ydata()) for line in by_flops], expected)
    assert_array_equal(xy_of(axes, "as fast")[1], [1, 1])


@pytest.mark.parametrize("missing", ["crossover", "speedup"])
def test_where_nothing_crosses_no_line_is_drawn(sources: Sources, missing: str) -> None:
    arrays = dict(sources.arrays[CLAIM])
    arrays["check/crossover"] = np.full((3, 3), np.nan)
    if missing == "speedup":
        arrays["check/speedup"] = arrays["check/speedup"].copy()
        arrays["check/speedup"][:, -1] = np.nan
    measured, _, by_share = crossover.FIGURE.drawing(Sources({CLAIM: arrays})).axes
    assert not [line for line in measured.lines if line.get_label() == "as fast"]
    assert len(xy_of(by_share, "columns")[0]) == (5 if missing == "crossover" else 4)
