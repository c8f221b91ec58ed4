"""What the figure on heavy-tailed noise draws is what was recorded."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray

from figures import heavy_tail_rates
from figures.figure import Recording, Sources

Array = NDArray[Any]
RATE, NESTEROV = "low-rank.heavy-tail-rate", "nesterov.rate"
DRAWN = {
    0: {"Gaussian, r = 3", "columns, r = 3", "Nesterov, randomised"},
    1: {"full", "Gaussian, r = 3", "columns, r = 3", "Nesterov, randomised", "SGD"},
    2: {"Gaussian, r = 3", "columns, r = 3"},
}


def xy_of(axes: Axes, label: str) -> tuple[Array, Array]:
    (found,) = [line for line in axes.lines if line.get_label() == label]
    return np.asarray(found.get_xdata()), np.asarray(found.get_ydata())


@pytest.mark.parametrize("panel", DRAWN)
def test_means_with_intervals_and_bounds(sources: Sources, panel: int) -> None:
    axes = heavy_tail_rates.FIGURE.drawing(sources).axes[panel]
    assert axes.get_xscale() == axes.get_yscale() == "log"
    drawn = {str(line.get_label()) for line in axes.lines if line.get_linestyle() != "None"}
    assert {name for name in drawn if not name.startswith("_")} == DRAWN[panel] | {"theory"}
    for name in DRAWN[panel] - {"SGD"}:
        recording = sources.check(NESTEROV if name.startswith("Nesterov") else RATE)
        _assert_row(axes, recording, name, panel)
    if panel == 1:
        control = sources.control(RATE, "SGD")
        steps, mean = xy_of(axes, "SGD")
        assert_array_equal(steps, control["horizons"])
        assert_array_equal(mean, control["means"][0, panel])


def _assert_row(axes: Axes, recording: Recording, name: str, panel: int) -> None:
    row = list(recording["methods"]).index(name)
    steps, mean = xy_of(axes, name)
    assert_array_equal(steps, recording["horizons"])
    assert_array_equal(mean, recording["means"][row, panel])
    assert_array_equal(xy_of(axes, f"_bound of {name}")[1], recording["bounds"][row, panel])
    (bars,) = [bar for bar in axes.collections if bar.get_label() == f"_{name} interval"]
    ends = np.array([segment[:, 1] for segment in bars.get_segments()])  # type: ignore[attr-defined]
    assert_array_equal(ends, recording["intervals"][row, panel])


@pytest.mark.parametrize("panel", DRAWN)
def test_the_guide_has_the_exponent_of_the_theory(sources: Sources, panel: int) -> None:
    axes = heavy_tail_rates.FIGURE.drawing(sources).axes[panel]
    steps, guide = xy_of(axes, "theory")
    slope = np.diff(np.log(guide)) / np.diff(np.log(steps))
    assert_allclose(slope, -sources.check(RATE)["exponents"][panel])


def test_a_control_of_shorter_runs_is_shown_whole(sources: Sources) -> None:
    arrays = dict(sources.arrays[RATE])
    arrays["control/SGD/horizons"] = arrays["control/SGD/horizons"] / 8
    axes = heavy_tail_rates.FIGURE.drawing(Sources({**sources.arrays, RATE: arrays})).axes[1]
    steps, _ = xy_of(axes, "SGD")
    assert axes.get_xlim()[0] < steps.min() < xy_of(axes, "theory")[0].min()


def test_slopes_stand_in_the_labels_with_their_intervals(sources: Sources) -> None:
    for panel, theory in enumerate(("−0.25", "−0.2", "−0.125")):
        axes = heavy_tail_rates.FIGURE.drawing(sources).axes[panel]
        texts = {text.get_text() for text in axes.texts}
        assert f"theory {theory}" in texts
        slope = sources.check(RATE)["slopes"][2, panel, 0]
        assert f"columns −{abs(slope):.2f}(1)" in texts
