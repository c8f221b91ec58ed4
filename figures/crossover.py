"""Up to which rank low-rank orthogonalisation is faster than full, measured and by flops."""

from __future__ import annotations

from fractions import Fraction

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, to_hex
from matplotlib.figure import Figure as Drawing
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke

from figures.figure import Figure, Recording, Sources
from figures.palette import COLUMNS, GAUSSIAN, GAUSSIAN_POWER, INK, MUTED, luminance
from figures.panels import Array, guide, label_right, one_two_five, panels, plain_log_ticks

CLAIM = "low-rank.cost"
MAPPED = "columns"
SKETCHES = {
    "columns": (COLUMNS, "columns"),
    "Gaussian": (GAUSSIAN, "Gaussian"),
    "Gaussian, h = 1": (GAUSSIAN_POWER, "$h = 1$"),
}


def draw(sources: Sources) -> Drawing:
    """Speed-ups by size and rank, by time and by flops; and all sketches at one size."""
    drawing, (measured, predicted, lines) = panels(3, height=2.9, ratios=(1.0, 1.0, 1.15))
    recording = sources.check(CLAIM)
    place = list(recording["sketches"]).index(MAPPED)
    by_flops = recording["full_flops"][:, None, None] / recording["flops"]
    speedup = recording["speedup"]
    both = np.concatenate([speedup[..., place], by_flops[..., place]])
    colours = LogNorm(float(np.nanmin(both)), float(np.nanmax(both)))
    _map(measured, recording, speedup[..., place], recording["crossover"][:, place], colours)
    crossover = recording["crossover_by_flops"][:, place]
    _map(predicted, recording, by_flops[..., place], crossover, colours)
    measured.set_title("Full over low-rank, time")
    predicted.set_title("The same by flops")
    measured.set_ylabel("rank over size, $l / m$")
    predicted.set_yticklabels([])
    _by_share(lines, recording, by_flops)
    return drawing


def _map(axes: Axes, recording: Recording, values: Array, crossover: Array, norm: LogNorm) -> None:
    """Values (sizes, shares) as cells with numbers, hatched below 1; and where 1 is."""
    sizes, shares = recording["sizes"], recording["shares"]
    colormap = matplotlib.colormaps["cividis"]
    axes.imshow(values.T, norm=norm, cmap=colormap, aspect="auto", origin="lower")
    for (column, row), value in np.ndenumerate(values):
        if not np.isfinite(value):
            continue
        background = to_hex(colormap(norm(value)))
        if value < 1:
            cell = Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, hatch="////", linewidth=0,
                             edgecolor="#8a8f9c", label="slower")  # fmt: skip
            axes.add_patch(cell)
        text = f"{value:.{2 if value < 1 else 1 if value < 10 else 0}f}"
        ink = "white" if luminance(background) < 0.25 else INK
        outline = withStroke(linewidth=2.0, foreground=background)
        axes.text(column, row, text, ha="center", va="center", color=ink, fontsize=7.5,
                  path_effects=[outline], zorder=4)  # fmt: skip
    known = np.flatnonzero(np.isfinite(crossover))
    if len(known):
        heights = np.interp(crossover[known], shares, np.arange(len(shares)))
        # Each size's own level, across its column.
        edges = np.ravel([[column - 0.5, column + 0.5] for column in known])
        axes.plot(edges, np.repeat(heights, 2), color="white", label="as fast",
                  path_effects=[withStroke(linewidth=3.4, foreground=INK)],
                  solid_capstyle="butt")  # fmt: skip
    axes.set_xlim(-0.5, len(sizes) - 0.5)
    axes.set_xticks(np.arange(len(sizes)), [f"{size}" for size in sizes])
    axes.set_yticks(np.arange(len(shares)), [str(Fraction(float(share))) for share in shares])
    axes.tick_params(length=0)
    axes.set_xlabel("size $m = n$")
    for spine in axes.spines.values():
        spine.set_visible(False)


def _by_share(axes: Axes, recording: Recording, by_flops: Array) -> None:
    """Every sketch at the largest size that was run up to the largest rank, beside its flops."""
    speedup, shares = recording["speedup"], recording["shares"]
    whole = np.flatnonzero(np.isfinite(speedup).all(-1)[:, -1])
    row = int(whole[-1]) if len(whole) else 0
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xlim(shares[0] / 1.15, shares[-1] * 1.15)
    heights, colours = [], []
    for index, name in enumerate(recording["sketches"]):
        ink, _ = SKETCHES[str(name)]
        run = np.isfinite(speedup[row, :, index])
        low, high = recording["speedup_interval"][row, run, index].T
        axes.plot(shares, by_flops[row, :, index], color=ink.colour, linestyle=":", linewidth=1.1,
                  label="by flops")  # fmt: skip
        axes.plot(shares[run], speedup[row, run, index], color=ink.colour, linestyle="-",
                  marker=ink.marker, markersize=3.4, label=str(name))  # fmt: skip
        axes.vlines(shares[run], low, high, color=ink.colour, linewidth=0.8, label="_interval")
        heights.append(float(speedup[row, run, index][-1]))
        colours.append(ink.colour)
    guide(axes, np.array(axes.get_xlim()), np.ones(2), "as fast")
    ticks = [share for share in shares if np.log2(share) == np.round(np.log2(share))]
    axes.set_xticks(ticks, [str(Fraction(float(share))) for share in ticks])
    axes.minorticks_off()
    low, high = axes.get_ylim()
    plain_log_ticks(axes.yaxis, one_two_five(low, high), at_most=8)
    axes.set_xlabel("rank over size, $l / m$")
    axes.set_ylabel("full over low-rank")
    axes.set_title(f"$m = n = {recording['sizes'][row]}$")
    axes.text(0.04, 0.04, "solid: time\ndotted: flops", transform=axes.transAxes, fontsize=8,
              color=MUTED)  # fmt: skip
    label_right(axes, heights, [SKETCHES[str(name)][1] for name in recording["sketches"]], colours)


FIGURE = Figure(
    name="crossover",
    title="Full against low-rank orthogonalisation by size and rank",
    caption="How many times as long five Newton-Schulz steps take on the whole matrix as low-rank "
    "orthogonalisation with the same five steps takes within l drawn columns. Left: CPU time in "
    "float32 on one thread, by size and by rank as a share of it; middle: flops by formula. Above "
    "the line, in hatched cells, low-rank is slower; blank cells were not run. Right, on "
    "logarithmic axes: every sketch at the largest size that was run up to the largest rank, with "
    "95% intervals of the medians: drawn columns, a Gaussian sketch and one with a power "
    "iteration; dotted the ratio of flops. No accelerator was measured.",
    claims=(CLAIM,),
    draw=draw,
)
