"""What the figures on the manifold of fixed rank draw is what was recorded."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray

from figures import locally_optimal_start, riemannion_spectrum
from figures.figure import Sources

Array = NDArray[Any]
OPTIMUM, GAIN = "riemannlora.loi-optimal", "riemannlora.loi-gain"
SPECTRUM = "riemannlora.riemannion-spectrum"


def xy_of(axes: Axes, label: str) -> tuple[Array, Array]:
    (found,) = [line for line in axes.lines if line.get_label() == label]
    return np.asarray(found.get_xdata()), np.asarray(found.get_ydata())


def points(axes: Axes, label: str) -> Array:
    found = [line for line in axes.lines if line.get_label() == f"{label} members"]
    return np.array([np.asarray(line.get_ydata()) for line in found])


def test_every_singular_value_stands_over_its_c(sources: Sources) -> None:
    axes, *_ = riemannion_spectrum.FIGURE.drawing(sources).axes
    check = sources.check(SPECTRUM)
    assert_array_equal(xy_of(axes, "_end")[0], [xy_of(axes, "_end")[0][0]] * 2)
    assert xy_of(axes, "_end")[0][0] == pytest.approx(0.1765, abs=3e-3)
    for share, c, values in zip(check["shares"], check["c"], check["values"], strict=True):
        x, y = xy_of(axes, f"{share:g}")
        assert_allclose(np.sort(y), np.sort(values.ravel()))
        assert_allclose(np.sort(x), np.sort(np.concatenate([c, c]).ravel()))
        upper, lower = riemannion_spectrum.pair_of(x)
        assert_allclose(np.minimum(abs(y - upper), abs(y - lower)), 0, atol=1e-12)


def test_extremes_by_size(sources: Sources) -> None:
    _, axes, _ = riemannion_spectrum.FIGURE.drawing(sources).axes
    check = sources.check(SPECTRUM)
    assert axes.get_xscale() == "log"
    for name, extreme in (("largest", np.max), ("smallest", np.min)):
        expected = extreme(check["by_size"], axis=-1)
        assert_array_equal(points(axes, name), expected)
        sizes, medians = xy_of(axes, name)
        assert_array_equal(sizes, check["sizes"])
        assert_array_equal(medians, np.median(expected, axis=-1))


def test_extremes_of_a_run(sources: Sources) -> None:
    *_, axes = riemannion_spectrum.FIGURE.drawing(sources).axes
    run = sources.check(SPECTRUM)["run"]
    for name, extreme in (("largest", np.max), ("smallest", np.min)):
        steps, medians = xy_of(axes, name)
        assert_array_equal(steps, np.arange(1, run.shape[1] + 1))
        assert_array_equal(medians, np.median(extreme(run, axis=-1), axis=0))


def test_ascent_begins_where_uniform_subspaces_are(sources: Sources) -> None:
    axes, _ = locally_optimal_start.FIGURE.drawing(sources).axes
    check = sources.check(OPTIMUM)
    rounds, medians = xy_of(axes, "ascent")
    assert_array_equal(rounds, np.arange(locally_optimal_start.ROUNDS + 1))
    assert_array_equal(medians, np.median(check["ascent"], axis=0)[: len(rounds)])
    assert_array_equal(xy_of(axes, "optimum")[1], [1, 1])
    assert_array_equal(xy_of(axes, "expected")[1], [check["expected"]] * 2)
    assert_array_equal(xy_of(axes, "pairs")[1], [np.median(check["pairs"])] * 2)
    (bars,) = [patch for patch in axes.patches if patch.get_label() == "uniform"]
    counts, edges = np.histogram(check["random"], bins=24)
    values, shown, baseline = bars.get_data()  # type: ignore[attr-defined]
    assert_allclose(baseline - values, counts / counts.max())
    assert_array_equal(shown, edges)


def test_first_steps_and_their_law(sources: Sources) -> None:
    _, axes = locally_optimal_start.FIGURE.drawing(sources).axes
    check, control = sources.check(GAIN), sources.control(GAIN, "top-r pairing")
    assert_array_equal(xy_of(axes, "law"), [check["finer"], check["law"]])
    assert_array_equal(points(axes, "LOI"), check["gains"])
    assert_array_equal(points(axes, "top-r pairing"), control["gains"])
    assert_array_equal(xy_of(axes, "pairs")[1], [np.median(control["gains"])] * 2)
