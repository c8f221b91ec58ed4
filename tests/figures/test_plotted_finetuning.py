"""What the figure on LoRA adapters draws is what was recorded."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray

from figures import adapter_spectra
from figures.figure import Sources

Array = NDArray[Any]
CLAIM = "usg.lora-finetune-spectrum"


def heights(axes: Axes, label: str) -> Array:
    (line,) = [line for line in axes.lines if line.get_label() == label]
    return np.asarray(line.get_ydata())


def band(axes: Axes, label: str) -> Array:
    """The lower and the upper edge, (2,)-rows by abscissa."""
    (found,) = [each for each in axes.collections if each.get_label() == label]
    assert isinstance(found, PolyCollection)
    corners = np.asarray(found.get_paths()[0].vertices)
    edges = [corners[corners[:, 0] == x, 1] for x in np.unique(corners[:, 0])]
    return np.array([(edge.min(), edge.max()) for edge in edges])


@pytest.mark.parametrize(("panel", "name"), [(0, "Muon"), (1, "AdamW"), (2, "SGD")])
def test_spectra_are_medians_over_seeds_of_means_over_layers(
    sources: Sources, panel: int, name: str
) -> None:
    axes = adapter_spectra.FIGURE.drawing(sources).axes[panel]
    check = sources.check(CLAIM)
    spectra = check["spectra"][panel]
    assert name in axes.get_title(loc="left")
    assert f"{check['tuned_rates'][panel]:.2g}" in axes.get_title(loc="left")
    assert axes.get_yscale() == "log"
    for mode in range(8):
        seeds = np.sqrt(spectra[:, :, 0, mode] * spectra[:, :, 1, mode])
        assert_allclose(heights(axes, f"s_{mode + 1}"), np.median(seeds, axis=1))
        edges = np.stack([seeds.min(1), seeds.max(1)], axis=1)
        assert_allclose(band(axes, f"seeds of s_{mode + 1}"), edges)
    assert [text.get_text() for text in axes.texts] == ["$s_1$", "$s_8$"]


def test_spectra_share_their_axis(sources: Sources) -> None:
    *spectra, _ = adapter_spectra.FIGURE.drawing(sources).axes
    values = sources.check(CLAIM)["spectra"][:3]
    (limits,) = {axes.get_ylim() for axes in spectra}
    assert limits[0] < values.min() < values.max() < limits[1] * 1.5


def test_ratios_of_every_contestant_with_their_intervals(sources: Sources) -> None:
    axes = adapter_spectra.FIGURE.drawing(sources).axes[3]
    check = sources.check(CLAIM)
    names = [str(name) for name in check["contestants"]]
    for name, intervals in zip(names, check["ratio_intervals"], strict=True):
        assert_array_equal(heights(axes, name), intervals[:, 0])
        assert_allclose(band(axes, f"interval of {name}"), intervals[:, 1:])
    assert names[3] == "Muon, exact"
    shown = [*names[:3], "exact Muon", names[4]]
    assert [text.get_text() for text in axes.texts] == shown
    assert axes.get_ylim()[0] == 1


def test_fewer_contestants_are_enough(sources: Sources) -> None:
    arrays = dict(sources.arrays[CLAIM])
    for name in ("contestants", "spectra", "ratio_intervals", "tuned_rates"):
        arrays[f"check/{name}"] = arrays[f"check/{name}"][:3]
    *_, axes = adapter_spectra.FIGURE.drawing(Sources({CLAIM: arrays})).axes
    assert [text.get_text() for text in axes.texts] == ["Muon", "AdamW", "SGD"]
