"""How much of the tangent space's best decrease the split step has, and how long it is, by rank."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing

from figures.figure import Figure, Sources
from figures.palette import (
    FACTOR_MUON,
    INK,
    LORA_MUON,
    LORA_MUON_VARIANT,
    MUTED,
    PROJECTED,
    SHADE,
    SIGNS,
    legible,
)
from figures.panels import guide, label_right, members, panels, plain_log_ticks

SHARE, SIZE = "lora-muon.split-is-not-tangent-optimum", "lora-muon.rank-step-scale"
STEPS = {
    "split": (LORA_MUON, "split step"),
    "unit": (LORA_MUON_VARIANT, "split step,\nunit norm"),
    "projected": (PROJECTED, "projected\npolar factor"),
}
CONTROLS = {"Muon on each factor": FACTOR_MUON, "signs": SIGNS}
BAND = (0.5, 1.0)


def draw(sources: Sources) -> Drawing:
    """Shares of the optimum on the left, lengths of the step on the right."""
    drawing, (left, right) = panels(2, height=2.75)
    _shares(left, sources)
    _sizes(right, sources)
    return drawing


def _shares(axes: Axes, sources: Sources) -> None:
    check, full = sources.check(SHARE), sources.control(SHARE, "r = n")
    ranks = np.concatenate([check["ranks"], full["ranks"]])
    axes.set_xscale("log")
    lowest = 1.0
    for name, (ink, _) in STEPS.items():
        values = np.concatenate([check[name], full[name]])
        members(axes, ranks, values, ink, name)
        lowest = min(lowest, float(values.min()))
    ends = np.array([ranks.min() / 1.15, ranks.max() * 1.15])
    guide(axes, ends, np.ones(2), "optimum")
    axes.set_xlim(*ends)
    axes.set_ylim(min(0.4, lowest - 0.05), 1.05)
    plain_log_ticks(axes.xaxis, ranks, at_most=len(ranks))
    _name_steps(axes, sources)
    axes.set_title("Share of the tangent space's optimum")
    axes.set_xlabel(rf"rank $r$, of ${ranks.max()} \times {ranks.max()}$")
    axes.set_ylabel(r"$\langle G, Z\rangle\,/\,$largest over $\|Z\|_2 \leq 1$")


def _name_steps(axes: Axes, sources: Sources) -> None:
    """Beneath the lines, where these are far apart."""
    check = sources.check(SHARE)
    ranks = check["ranks"]
    for (name, (ink, text)), at in zip(STEPS.items(), (2, 1, 3), strict=True):
        at = min(at, len(ranks) - 1)
        lowest = float(check[name][at].min())
        axes.annotate(text, (ranks[at], lowest), xytext=(0, -4), textcoords="offset points",
                      ha="center", va="top", color=legible(ink.colour),
                      fontsize=8, linespacing=0.85)  # fmt: skip
    axes.annotate("optimum", (ranks[0], 1.0), xytext=(0, 2), textcoords="offset points",
                  ha="left", va="bottom", color=INK, fontsize=8)  # fmt: skip


def _sizes(axes: Axes, sources: Sources) -> None:
    check = sources.check(SIZE)
    ranks = check["ranks"]
    axes.set_xscale("log")
    axes.set_yscale("log")
    band = axes.axhspan(*BAND, color=SHADE, linewidth=0)
    band.set_label("band")
    rows = {"LoRA-Muon": (check, LORA_MUON)}
    rows |= {name: (sources.control(SIZE, name), ink) for name, ink in CONTROLS.items()}
    for name, (recording, ink) in rows.items():
        members(axes, recording["ranks"], recording["sizes"], ink, name)
    axes.set_xlim(ranks.min() / 1.2, ranks.max() * 1.2)
    axes.set_ylim(0.4, None)
    plain_log_ticks(axes.xaxis, ranks, at_most=len(ranks))
    axes.annotate(
        "claimed band", (0.98, 0.51), xycoords=("axes fraction", "data"), ha="right",
        va="bottom", color=MUTED, fontsize=8,
    )  # fmt: skip
    axes.set_title(r"Length of the step in $W$")
    axes.set_xlabel(rf"rank $r$, of ${ranks.max()} \times {ranks.max()}$")
    axes.set_ylabel(r"$\|dW\|_2\,/\,\eta$")
    heights = [float(np.median(recording["sizes"][-1])) for recording, _ in rows.values()]
    label_right(axes, heights, [name.replace(" on ", " on\n") for name in rows],
                [ink.colour for _, ink in rows.values()])  # fmt: skip


FIGURE = Figure(
    name="tangent-share",
    title="The split step beside the optimum of the tangent space, and its length, by rank",
    caption="Left: the linear decrease of the split step, of the split step rescaled to unit "
    "spectral norm, and of the projected polar factor at unit norm, as shares of the largest "
    "decrease over the tangent space's unit ball, by rank; at full rank all are the optimum "
    "(dashed). Right: spectral norm of the step in W over the learning rate, by rank, on "
    "logarithmic axes, for LoRA-Muon and for the controls, Muon on each factor and descent along "
    "signs; the shaded band from one half to one is the claim. One point per member, lines "
    "through medians.",
    claims=(SHARE, SIZE),
    draw=draw,
)
