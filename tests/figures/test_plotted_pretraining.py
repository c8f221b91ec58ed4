"""What the figures on pretraining by low-rank Muon draw is what was recorded."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray

from figures import gradient_spectra, sketched_pretraining
from figures.figure import Sources

Array = NDArray[Any]
CLAIM = "low-rank.pretraining"


def xy_of(axes: Axes, label: str) -> tuple[Array, Array]:
    (found,) = [line for line in axes.lines if line.get_label() == label]
    return np.asarray(found.get_xdata()), np.asarray(found.get_ydata())


def test_losses_are_means_over_seeds_with_the_best_rate_at_their_least(sources: Sources) -> None:
    axes, _ = sketched_pretraining.FIGURE.drawing(sources).axes
    check = sources.check(CLAIM)
    for line, name in enumerate(["Muon", "AdamW", "m/8", "m/4", "m/2"]):
        tried = ~np.isnan(check["rates"][line])
        mean = check["losses"][line, tried].mean(1)
        x, y = xy_of(axes, name)
        assert_array_equal(x, check["rates"][line, tried])
        assert_allclose(y, mean)
        rate, least = xy_of(axes, f"{name} best")
        assert (float(rate[0]), float(least[0])) == (check["best"][line, 0], mean.min())
    assert axes.get_xscale() == "log"
    assert {"Muon", "AdamW", "$l = m/8$", "$l = m/2$"} <= {t.get_text() for t in axes.texts}
    assert not [line for line in axes.lines if "Gaussian" in str(line.get_label())]


def test_excesses_stand_over_their_share_with_intervals(sources: Sources) -> None:
    _, axes = sketched_pretraining.FIGURE.drawing(sources).axes
    check = sources.check(CLAIM)
    x, y = xy_of(axes, "columns")
    assert_array_equal(x, [1 / 8, 1 / 4, 1 / 2])
    assert_array_equal(y, check["excess"][1:4, 0])
    x, y = xy_of(axes, "Gaussian, $h = 1$")
    assert_array_equal(x, [1 / 4, 1 / 2])
    assert_array_equal(y, check["excess"][4:, 0])
    (bars,) = [each for each in axes.collections if each.get_label() == "columns interval"]
    assert isinstance(bars, LineCollection)
    ends = np.array([segment[:, 1] for segment in bars.get_segments()])
    assert_allclose(ends, check["excess"][1:4, 1:])
    assert_array_equal(xy_of(axes, "AdamW")[1], np.full(2, check["excess"][0, 0]))
    assert_array_equal(xy_of(axes, "Muon")[1], np.zeros(2))


def test_without_the_gaussian_sketch_the_columns_are_drawn(sources: Sources) -> None:
    arrays = dict(sources.arrays[CLAIM])
    for name in ("names", "rates", "losses", "best"):
        arrays[f"check/{name}"] = arrays[f"check/{name}"][:5]
    arrays["check/excess"] = arrays["check/excess"][:4]
    _, axes = sketched_pretraining.FIGURE.drawing(Sources({CLAIM: arrays})).axes
    assert "columns" in [line.get_label() for line in axes.lines]
    assert not [line for line in axes.lines if "Gaussian" in str(line.get_label())]


def test_spectra_and_their_shares_are_medians_over_seeds(sources: Sources) -> None:
    values, shares = gradient_spectra.FIGURE.drawing(sources).axes
    check = sources.check(CLAIM)
    for step, spectra in zip(check["spectrum_steps"], check["gradient_spectra"], strict=True):
        relative = np.exp(np.log(spectra / spectra[..., :1]).mean(1))
        assert_allclose(xy_of(values, f"step {step}")[1], np.median(relative, axis=0))
        sums = np.cumsum(spectra, axis=-1) / spectra.sum(-1, keepdims=True)
        x, y = xy_of(shares, f"step {step}")
        assert_array_equal(x, np.arange(1, 65))
        assert_allclose(y, np.median(sums.mean(1), axis=0))
        assert y[-1] == 1
    assert_array_equal(xy_of(shares, "m/4")[0], [16, 16])
    assert values.get_yscale() == "log"
