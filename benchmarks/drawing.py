"""The work-precision diagram: error against seconds above, against right-hand sides below."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from benchmarks.row import Row
from simulate.atomic import write_atomically

STYLE = Path(__file__).parent.parent / "figures" / "style.mplstyle"
WIDTH, HEIGHT = 6.9, 4.6  # inches: both columns of a paper
OURS = "#222222"
# Okabe and Ito's, safe for colour-blind readers; a peer keeps its colour where it is given the
# reduction, and is broken there.
COLOURS = {
    "scipy DOP853": "#0072B2",
    "scipy RK45": "#56B4E9",
    "torchode dopri5": "#D55E00",
    "torchode tsit5": "#E69F00",
    "diffrax": "#009E73",
    "torchdiffeq": "#CC79A7",
}
UNKNOWN = "#6b6b6b"
MARKERS = {"ours": "o", "ours, plain": "s", "peer": "^", "peer, reduced": "v"}
WORK: dict[str, Callable[[Row], float | None]] = {
    "seconds": lambda row: row.seconds,
    "right-hand sides a seed": lambda row: row.evaluations,
}


def draw(path: Path, rows: Sequence[Row]) -> None:
    """Write the diagram of ``rows``, one column of panels a setting, as an SVG; atomically."""
    settings = list(dict.fromkeys(row.setting for row in rows))
    with matplotlib.rc_context(fname=STYLE):
        figure = Figure(figsize=(WIDTH, HEIGHT))
        grid = figure.subplots(2, len(settings), squeeze=False, sharey=True, sharex="row")
        for panels, (label, work) in zip(grid, WORK.items(), strict=True):
            for axes, setting in zip(panels, settings, strict=True):
                _panel(axes, [row for row in rows if row.setting == setting], work)
                axes.set_xlabel(label)
            panels[0].set_ylabel("largest error")
        for axes, setting in zip(grid[0], settings, strict=True):
            axes.set_title(setting)
        lines = {line.get_label(): line for axes in grid.flat for line in axes.lines}
        figure.legend(
            lines.values(), [str(label) for label in lines], loc="outside lower center",
            ncols=4, fontsize=7.5, frameon=False,
        )  # fmt: skip
        FigureCanvasSVG(figure)
        # Dates are left out, so that the same rows give the same bytes.
        metadata = {"Date": None, "Creator": None}
        write_atomically(
            path, lambda stream: figure.savefig(stream, format="svg", metadata=metadata)
        )


def _panel(axes: Axes, rows: Sequence[Row], work: Callable[[Row], float | None]) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.xaxis.set_minor_formatter(NullFormatter())  # they collide where there is but one decade
    for name in dict.fromkeys(row.contestant for row in rows):
        drawn = [row for row in rows if row.contestant == name and row.counts and work(row)]
        if not drawn:
            continue
        kind = drawn[0].kind
        ours = kind.startswith("ours")
        axes.plot(
            [work(row) or 0.0 for row in drawn], [row.error for row in drawn],
            color=OURS if ours else COLOURS.get(name.removesuffix(", reduced"), UNKNOWN),
            linestyle="--" if kind in ("ours, plain", "peer, reduced") else "-",
            linewidth=1.8 if ours else 1.0, marker=MARKERS[kind], markersize=3.2, label=name,
            zorder=3 if ours else 2,
        )  # fmt: skip
