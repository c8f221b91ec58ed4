"""Which unfolding a run of momentum chooses, step by step, and by how little."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure as Drawing
from matplotlib.ticker import MaxNLocator

from figures.figure import Figure, Sources
from figures.palette import Ink
from figures.panels import label_right, panels

CLAIM = "tensorion.online-vs-offline"
INKS = (Ink("#332288", "-", "o"), Ink("#D55E00", "--", "s"), Ink("#56B4E9", "-.", "^"))
NAMES = tuple(rf"$\tau = \{{{mode}\}}$" for mode in range(3))

SHOWN = 80  # steps of the one run


def draw(sources: Sources) -> Drawing:
    """Nuclear norms of one run on the left, the choices of all runs on the right."""
    drawing, (left, right) = panels(2, height=2.7, ratios=(1.35, 1))
    _one_run(left, sources)
    _all_runs(right, sources)
    return drawing


def _one_run(axes: Axes, sources: Sources) -> None:
    ratios = sources.check(CLAIM)["ratios"][:SHOWN, :, 0]
    steps = np.arange(1, len(ratios) + 1)
    for mode, ink in enumerate(INKS):
        axes.plot(
            steps, 100 * (1 - ratios[:, mode]), color=ink.colour, linestyle=ink.dashes,
            linewidth=1.2, label=NAMES[mode], clip_on=False,
        )  # fmt: skip
    axes.set_xlim(1, steps[-1])
    axes.invert_yaxis()
    axes.set_ylim(top=0)
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10], integer=True))
    axes.set_title("Below the largest nuclear norm, one run")
    axes.set_xlabel("step")
    axes.set_ylabel(r"$1 - \|M_\tau\|_*\,/\,N^*(M)$, per cent")
    ends = [float(100 * (1 - ratios[-1, mode])) for mode in range(3)]
    label_right(axes, ends, NAMES, [ink.colour for ink in INKS])


def _all_runs(axes: Axes, sources: Sources) -> None:
    places = sources.check(CLAIM)["places"].T
    runs, steps = places.shape
    axes.pcolormesh(
        np.arange(steps + 1) + 0.5, np.arange(runs + 1) + 0.5, places,
        cmap=ListedColormap([ink.colour for ink in INKS]), vmin=0, vmax=2, rasterized=True,
    )  # fmt: skip
    axes.set_yticks([1, runs] if runs > 5 else range(1, runs + 1))
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10], integer=True))
    flips = (np.diff(places, axis=1) != 0).sum(1)
    many = f"{flips.min()} to {flips.max()}" if flips.min() < flips.max() else f"{flips.min()}"
    axes.set_title(f"The choice of {runs} runs: {many} changes")
    axes.set_xlabel("step")
    axes.set_ylabel("run")
    axes.spines[:].set_visible(False)


FIGURE = Figure(
    name="unfolding-choice",
    title="The unfolding of the largest nuclear norm, step by step",
    caption="Heavy-ball momentum (0.95) of Gaussian gradients of 16 x 16 x 16, on which the three "
    "unfoldings, by mode tau, are alike. Left: by how much the nuclear norm of each is below the "
    "largest, along the first 80 steps of one run; at zero it is the one chosen. Right: the choice "
    "of every run, in the same colours. It changes often, and between unfoldings that are as good "
    "within a per cent or so.",
    claims=(CLAIM,),
    draw=draw,
)
