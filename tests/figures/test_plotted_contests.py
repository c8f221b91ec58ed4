"""What the figures of the contests draw is what was recorded."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray

from figures import manifold_finetuning, tensor_convergence
from figures.figure import Sources

Array = NDArray[Any]


def xy_of(axes: Axes, label: str) -> tuple[Array, Array]:
    (found,) = [line for line in axes.lines if line.get_label() == label]
    return np.asarray(found.get_xdata()), np.asarray(found.get_ydata())


def test_every_task_has_a_panel_and_every_contestant_its_mean(sources: Sources) -> None:
    check = sources.check(tensor_convergence.CLAIM)
    panels = tensor_convergence.FIGURE.drawing(sources).axes
    assert len(panels) == 3
    for axes, task in zip(panels, check["tasks"], strict=True):
        assert axes.get_title(loc="left") == str(task).capitalize()
        assert axes.get_yscale() == "log"
        for place, name in enumerate(check["contestants"]):
            x, y = xy_of(axes, str(name))
            assert_array_equal(x, check[f"steps, {task}"])
            assert_array_equal(y, check[f"bands, {task}"][place, :, 0])
        assert len(axes.collections) == 4


def test_fine_tuning_begins_at_the_pretrained_loss(sources: Sources) -> None:
    check = sources.check(manifold_finetuning.CLAIM)
    curves, _ = manifold_finetuning.FIGURE.drawing(sources).axes
    for place, name in enumerate(check["contestants"]):
        x, y = xy_of(curves, str(name))
        assert_array_equal(x, [0, *check["steps"]])
        assert_array_equal(y, [check["start"], *check["bands"][place, :, 0]])


def test_losses_over_riemannion_s_have_their_intervals(sources: Sources) -> None:
    check = sources.check(manifold_finetuning.CLAIM)
    _, axes = manifold_finetuning.FIGURE.drawing(sources).axes
    names = [str(name) for name in check["contestants"]]
    bars = {str(each.get_label()): each for each in axes.collections}
    assert len(bars) == len(names)
    for place, name in enumerate(names):
        mean, *ends = check["excess"][place]
        assert_allclose(xy_of(axes, name)[0], [mean])
        found = bars[f"{name} interval"]
        assert isinstance(found, LineCollection)
        assert_allclose(found.get_segments()[0][:, 0], ends)
    labels = [tick.get_text() for tick in axes.get_yticklabels()]
    assert labels == [manifold_finetuning.NAMES.get(name, name) for name in names]
    assert {"Muon on each factor", "RiemannLoRA", "RiemannLoRA, adaptive"} < set(labels)
