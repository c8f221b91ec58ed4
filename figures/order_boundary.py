"""Where smallest-first order ends, in the plane of smoothing and initialisation scale."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing
from scipy.ndimage import distance_transform_edt

from figures.figure import Figure, Sources
from figures.palette import COLUMN_WIDTH
from figures.panels import Array, halo, one_two_five, panels, plain_log_ticks

CLAIM = "usg.smallest-first-limit"


def draw(sources: Sources) -> Drawing:
    """The measured share as cells, the predicted boundary as a curve."""
    arrays = sources.check(CLAIM)
    betas, gammas, share = arrays["betas"], arrays["gammas"], arrays["measured_fraction"]
    drawing, (axes,) = panels(1, width=COLUMN_WIDTH, height=2.85)
    axes.set_xscale("log")
    axes.set_yscale("log")
    mesh = axes.pcolormesh(
        cell_edges(betas), cell_edges(gammas), share.T, cmap="cividis", vmin=0, vmax=1,
        edgecolors="white", linewidth=0.4,
    )  # fmt: skip
    mesh.set_label("share of seeds")
    limits = axes.get_xlim(), axes.get_ylim()
    axes.plot(
        arrays["boundary_betas"], arrays["boundary_gammas"], color="black", linewidth=1.7,
        label="predicted boundary", path_effects=halo(3.4),
    )  # fmt: skip
    _mark_surprises(axes, betas, gammas, arrays["predicted_smallest_first"] != (share > 0.5))
    axes.set(xlim=limits[0], ylim=limits[1])
    plain_log_ticks(axes.xaxis, one_two_five(*limits[0]), at_most=8)
    for region, text, colour in (
        (share > 0.5, "smallest\nfirst", "black"),
        (share <= 0.5, "order\nbroken", "white"),
    ):
        _name_region(axes, betas, gammas, region, text, colour)
    axes.set_xlabel(r"smoothing $\beta$")
    axes.set_ylabel(r"initialisation scale $\gamma$")
    axes.set_title("Order of arrival and its predicted limit")
    bar = drawing.colorbar(mesh, ax=axes, pad=0.02, aspect=26, ticks=[0, 0.25, 0.5, 0.75, 1])
    bar.set_label("share of seeds in smallest-first order", fontsize=8)
    bar.outline.set_visible(False)
    return drawing


def cell_edges(centres: Array) -> Array:
    """Edges halfway between ``centres`` on a logarithmic axis; the outer cells are symmetric."""
    logs: Array = np.log(np.asarray(centres, dtype=float))
    if logs.size == 1:
        edges: Array = np.array([logs[0] - 0.5, logs[0] + 0.5])
    else:
        inner = (logs[1:] + logs[:-1]) / 2
        edges = np.concatenate([[2 * logs[0] - inner[0]], inner, [2 * logs[-1] - inner[-1]]])
    result: Array = np.exp(edges)
    return result


def _name_region(
    axes: Axes, betas: Array, gammas: Array, region: Array, text: str, colour: str
) -> None:
    """``text`` in the cell of ``region`` that is farthest from all that is not."""
    if region.mean() < 0.1:
        return
    depth = distance_transform_edt(np.pad(region, 1))[1:-1, 1:-1]
    deepest = np.argwhere(depth == depth.max())
    row, column = deepest[len(deepest) // 2]
    axes.annotate(text, (betas[row], gammas[column]), color=colour, ha="center", va="center",
                  fontsize=9, linespacing=0.9)  # fmt: skip


def _mark_surprises(axes: Axes, betas: Array, gammas: Array, surprise: Array) -> None:
    """A cross in every cell where most seeds went against the prediction."""
    rows, columns = np.nonzero(surprise)
    axes.plot(
        betas[rows], gammas[columns], "x", color="white", markersize=5, markeredgewidth=1.6,
        label="against the prediction",
    )  # fmt: skip


FIGURE = Figure(
    name="order-boundary",
    title="Where smallest-first order ends",
    caption="Share of seeds whose modes arrived in smallest-first order, for each pair of "
    "smoothing beta and initialisation scale gamma: light cells are all seeds, dark cells none. "
    "The black curve is the predicted boundary; a white cross marks a cell where most seeds "
    "went against the prediction, which is that the order fails for large beta and tiny gamma.",
    claims=(CLAIM,),
    draw=draw,
    wide=False,
)
