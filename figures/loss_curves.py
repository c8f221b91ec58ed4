"""Validation loss against learning rate: one panel a contestant, one curve a line of a sweep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing

from figures.figure import Recording
from figures.palette import ordered_colours
from figures.panels import label_right, panels

# Nats above the least loss of the worst curve: what is higher belongs to rates far too high.
SHOWN = 0.6
# Of the panel's height: best losses this near each other put their labels in no order.
ALIKE = 0.05


def loss_panels(rows: Mapping[str, Recording], texts: Sequence[str]) -> Drawing:
    """Mean losses over the seeds, every seed as a point, best rates with their intervals.

    Args:
        rows: by title; ``rates`` (L, K) and ``losses`` (L, K, S), NaN where there are fewer or
            where a run diverged; ``best`` (L, 3), a rate and the ends of its interval.
        texts: of the L curves, the same in every panel; they stand beside the last.
    """
    drawing, axes = panels(len(rows), height=2.75, share_y=True)
    colours = ordered_colours(len(texts))
    for panel, (title, recording) in zip(axes, rows.items(), strict=True):
        panel.set_xscale("log")
        panel.set_title(title)
        panel.set_xlabel("learning rate")
        for line, (text, colour) in enumerate(zip(texts, colours, strict=True)):
            loss_curve(panel, recording, line, text, colour)
    bottoms, tops = zip(*(_range(recording) for recording in rows.values()), strict=True)
    low, high = min(bottoms), max(tops)
    axes[0].set_ylim(low - 0.05 * (high - low), high)
    axes[0].set_ylabel("validation loss (nats)")
    last = list(rows.values())[-1]
    # At the height of their best: at the right edge many curves have left the panel.
    heights = [float(np.nanmin(last["losses"][line].mean(1))) for line in range(len(texts))]
    if np.ptp(heights) < ALIKE * (high - low):
        # As good as one height, from above in the order of the texts.
        heights = [np.mean(heights) - 1e-6 * line * (high - low) for line in range(len(texts))]
    label_right(axes[-1], heights, texts, colours)
    return drawing


def loss_curve(
    axes: Axes, recording: Recording, line: int, text: str, colour: str, dashes: str = "-"
) -> None:
    """Seeds as points, their mean as a line, the best rate with its interval at the least mean."""
    tried = ~np.isnan(recording["rates"][line])
    x, table = recording["rates"][line, tried], recording["losses"][line, tried]
    # NaN where a run diverged, as in the search for the best.
    mean = table.mean(1)
    axes.plot(np.repeat(x, table.shape[1]), table.ravel(), ".", color=colour, markersize=2.5,
              alpha=0.35, markeredgewidth=0, label=f"{text} seeds")  # fmt: skip
    axes.plot(x, mean, color=colour, linestyle=dashes, linewidth=1.1, label=text)
    rate, low, high = recording["best"][line]
    least = float(np.nanmin(mean))
    axes.plot([low, high], [least, least], marker="|", color=colour, linewidth=2.2, markersize=6,
              label=f"{text} interval")  # fmt: skip
    axes.plot([rate], [least], "D", color=colour, markersize=4.5, markeredgecolor="white",
              markeredgewidth=0.6, label=f"{text} best", zorder=4)  # fmt: skip


def _range(recording: Recording) -> tuple[float, float]:
    """The least loss, and the least of the worst curve with some more."""
    lines = range(len(recording["rates"]))
    worst = max(float(np.nanmin(recording["losses"][line])) for line in lines)
    return float(np.nanmin(recording["losses"])), worst + SHOWN
