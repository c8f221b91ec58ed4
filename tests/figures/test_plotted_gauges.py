"""What the figure of runs in other gauges draws is what was recorded."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from figures import gauge_error
from figures.figure import Sources
from tests.figures.test_plotted_pairs import changed, lines, xy_of

CLAIM = gauge_error.CLAIM


@pytest.mark.parametrize(("panel", "dtype"), [(0, "float64"), (1, "float32")])
def test_every_optimiser_s_median_by_condition(sources: Sources, panel: int, dtype: str) -> None:
    axes = gauge_error.FIGURE.drawing(sources).axes[panel]
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    check = sources.check(CLAIM)
    parts = [check, *(sources.control(CLAIM, name) for name in gauge_error.CONTROLS)]
    drawn = 0
    for part in parts:
        values = part[f"difference, {dtype}"]
        for name, own in zip(part["optimizers"], values, strict=True):
            x, y = xy_of(axes, str(name))
            # Beside its condition by less than a fifth of a decade.
            assert float(np.abs(np.log10(x / check["conditions"])).max()) < 0.2
            assert_array_equal(y, np.median(own, axis=1))
            drawn += 1
    assert drawn == len(gauge_error.INKS) == 11
    assert_array_equal(xy_of(axes, r"$u\,\kappa$")[1], check[f"round-off, {dtype}"])
    bound = check[f"bound, {dtype}"].max(axis=0)
    assert_array_equal(xy_of(axes, "bound of the claim")[1], bound)


def test_precisions_share_their_axis_and_a_legend_names_all(sources: Sources) -> None:
    double, single = gauge_error.FIGURE.drawing(sources).axes
    assert double.get_ylim() == single.get_ylim()
    legend = single.get_legend()
    assert legend is not None
    named = [text.get_text() for text in legend.get_texts()]
    assert named == [*gauge_error.INKS, r"$u\,\kappa$", "bound of the claim"]


def test_no_difference_at_all_has_no_place_on_the_axis(sources: Sources) -> None:
    name = "control/gradient descent/difference, float64"
    values = sources.arrays[CLAIM][name].copy()
    values[0, 0] = 0.0
    axes = gauge_error.FIGURE.drawing(changed(sources, CLAIM, {name: values})).axes[0]
    (line,) = lines(axes, "gradient descent")
    heights = np.asarray(line.get_ydata())
    assert np.isnan(heights[0])
    assert np.isfinite(heights[1:]).all()
