"""What the figures on tensors draw is what was recorded."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray

from figures import tensor_norms, unfolding_choice
from figures.figure import Sources

Array = NDArray[Any]


def lines(axes: Axes, label: str) -> list[tuple[Array, Array]]:
    return [
        (np.asarray(line.get_xdata()), np.asarray(line.get_ydata()))
        for line in axes.lines
        if line.get_label() == label
    ]


def rows(axes: Axes) -> dict[str, float]:
    places = zip(axes.get_yticklabels(), axes.get_yticks(), strict=True)
    return {label.get_text(): float(place) for label, place in places}


def test_points_of_the_ball_stand_below_their_shape(sources: Sources) -> None:
    axes, _ = tensor_norms.FIGURE.drawing(sources).axes
    check = sources.check(tensor_norms.VALUES)
    assert list(rows(axes)) == ["2×3×4", "3×3×3", "3×2×2×2"]
    for label, name in zip(
        tensor_norms.BALL, ("unfoldings", "max_norm", "best_extremes"), strict=True
    ):
        drawn = lines(axes, label)
        for row, (x, y), values in zip(rows(axes).values(), drawn, check[name], strict=True):
            assert_array_equal(x, values[~np.isnan(values)].ravel())
            assert ((row - 0.5 < y) & (y < row)).all()
    hills = lines(axes, "hill")
    for row, (x, y), counts in zip(rows(axes).values(), hills, check["extremes"], strict=True):
        assert_allclose((y - row) * counts.max() / tensor_norms.HILL, counts, atol=1e-9)
        assert len(x) == len(counts)
    assert_array_equal(lines(axes, "optimum")[0][0], [1, 1])


def test_norms_are_over_the_spectral_norm_of_the_tensor(sources: Sources) -> None:
    _, axes = tensor_norms.FIGURE.drawing(sources).axes
    check = sources.check(tensor_norms.BOUNDS)
    for name, (label, _) in tensor_norms.NORMS.items():
        expected = check[name] / check["sigma"]
        found = [x for x, _ in lines(axes, f"{label} members")]
        assert_array_equal(np.stack(found), expected)
        medians = [x[0] for x, _ in lines(axes, label)]
        assert_array_equal(medians, np.median(expected, axis=1))


def test_one_run_and_the_choices_of_all(sources: Sources) -> None:
    left, right, *_ = unfolding_choice.FIGURE.drawing(sources).axes
    check = sources.check(unfolding_choice.CLAIM)
    shown = unfolding_choice.SHOWN
    for mode, name in enumerate(unfolding_choice.NAMES):
        ((x, y),) = lines(left, name)
        assert_array_equal(x, np.arange(1, shown + 1))
        assert_allclose(y, 100 * (1 - check["ratios"][:shown, mode, 0]))
    assert left.yaxis_inverted()
    (mesh,) = [child for child in right.collections if isinstance(child, QuadMesh)]
    assert_array_equal(
        np.asarray(mesh.get_array()).reshape(check["places"].T.shape), check["places"].T
    )
    flips = (np.diff(check["places"], axis=0) != 0).sum(0)
    assert f"{flips.min()} to {flips.max()} changes" in right.get_title(loc="left")
