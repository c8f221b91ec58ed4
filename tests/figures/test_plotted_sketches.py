"""What the figures on sketches and orthogonalisers draw is what was recorded."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray

from figures import alignment, orthogonalizer_error
from figures.figure import Sources

Array = NDArray[Any]
TABLE, ALIGNMENT = "low-rank.orthogonaliser-table", "low-rank.alignment"


def xy_of(axes: Axes, label: str) -> tuple[Array, Array]:
    (found,) = [line for line in axes.lines if line.get_label() == label]
    return np.asarray(found.get_xdata()), np.asarray(found.get_ydata())


def points(axes: Axes, label: str) -> Array:
    found = [line for line in axes.lines if line.get_label() == f"{label} members"]
    return np.array([np.asarray(line.get_ydata()) for line in found])


def texts(axes: Axes) -> set[str]:
    return {text.get_text() for text in axes.texts}


def test_worst_errors_end_where_rounding_begins(sources: Sources) -> None:
    axes, _ = orthogonalizer_error.FIGURE.drawing(sources).axes
    check = sources.check(TABLE)
    assert axes.get_yscale() == "log"
    assert set(check["methods"]) == set(orthogonalizer_error.INKS)
    for name, worst in zip(check["methods"], check["worst"], strict=True):
        steps, errors = xy_of(axes, orthogonalizer_error.SHORT.get(name, name))
        count = len(steps)
        assert_array_equal(steps, check["steps"][:count])
        assert_array_equal(errors, np.maximum(worst[:count], 1e-14))
        assert (worst[: count - 1] > 1e-14).all()
        assert (worst[count - 1 :] <= 1e-14).all() or count == len(worst)


def test_the_quintics_plateau_and_its_range(sources: Sources) -> None:
    left, right = orthogonalizer_error.FIGURE.drawing(sources).axes
    check = sources.check(TABLE)
    assert_allclose(xy_of(left, "plateau")[1], 0.3182)
    assert "plateau 0.318" in texts(left)
    assert_array_equal(xy_of(right, "end 0")[1], check["range"][:, 0])
    assert_array_equal(xy_of(right, "end 1")[1], check["range"][:, 1])
    assert_array_equal(xy_of(right, "end 1")[0], np.arange(15))
    assert_allclose(xy_of(right, "limit 0")[1], 0.6818)
    assert_allclose(xy_of(right, "limit 1")[1], 1.1344)
    assert {"0.6818", "1.1344"} <= texts(right)


def test_shares_by_rank_below_the_best(sources: Sources) -> None:
    axes, _ = alignment.FIGURE.drawing(sources).axes
    check, noise = sources.check(ALIGNMENT), sources.control(ALIGNMENT, "white noise")
    assert axes.get_xscale() == "log"
    assert_array_equal(xy_of(axes, "best")[1], check["best_by_rank"])
    for number, name in enumerate(check["sketches"]):
        assert_array_equal(points(axes, name), check["by_rank"][:, number])
        ranks, medians = xy_of(axes, name)
        assert_array_equal(ranks, check["ranks"])
        assert_array_equal(medians, np.median(check["by_rank"][:, number], axis=1))
        shown = xy_of(axes, f"{name}, white noise")[1]
        assert_array_equal(shown, np.median(noise["by_rank"][:, number], axis=1))
    assert_array_equal(xy_of(axes, "best, white noise")[1], noise["best_by_rank"])


@pytest.mark.parametrize(("number", "name"), [(0, "p = 0"), (1, "p = 10")])
def test_shares_by_power_iterations(sources: Sources, number: int, name: str) -> None:
    _, axes = alignment.FIGURE.drawing(sources).axes
    check, noise = sources.check(ALIGNMENT), sources.control(ALIGNMENT, "white noise")
    assert_array_equal(points(axes, name), check["by_power"][:, number])
    assert_array_equal(xy_of(axes, name)[0], check["powers"])
    assert_array_equal(xy_of(axes, f"best, {name}")[1], [check["best_by_power"][number]] * 2)
    shown = xy_of(axes, f"{name}, white noise")[1]
    assert_array_equal(shown, np.median(noise["by_power"][:, number], axis=1))
    assert {f"${name}$", "white\nnoise"} <= texts(axes)
