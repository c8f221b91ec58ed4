"""What a step costs by size and rank: time, time beside the QR forms, and what is kept."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing

from figures.figure import Figure, Recording, Sources
from figures.palette import (
    INK,
    LORA_MUON,
    LORA_RITE,
    LORA_RITE_CORE,
    MUTED,
    Ink,
    ordered_colours,
)
from figures.panels import Array, guide, label_right, panels, plain_log_ticks

CLAIM = "lora-muon.adapter-step-time"
OURS, PRODUCTS = "LoRA-Muon", "LoRA-Muon, matrix products"
CORE, RITE = "LoRA-RITE's core", "LoRA-RITE"
QR_FORMS = (CORE, "LoRA-RITE's core, matrix products", RITE)
TIMED: dict[str, tuple[Ink, str]] = {
    OURS: (LORA_MUON, "LoRA-Muon"),
    PRODUCTS: (Ink(LORA_MUON.colour, ":", "D"), "by products"),
    CORE: (LORA_RITE_CORE, CORE),
    RITE: (LORA_RITE, "LoRA-RITE"),
}
KEPT = (OURS, RITE)


def draw(sources: Sources) -> Drawing:
    """Times at one size, ratios at all of them, and the optimisers' memory."""
    drawing, (times, ratios, memory) = panels(3, height=2.75)
    recording = sources.check(CLAIM)
    _times(times, recording)
    _ratios(ratios, recording)
    _memory(memory, recording)
    return drawing


def _row(recording: Recording) -> int:
    """The largest size at which the dense step was timed; the smallest where it nowhere was."""
    timed = np.flatnonzero(np.isfinite(recording["dense_seconds"]))
    return int(timed[-1]) if len(timed) else 0


def _of(recording: Recording, name: str, array: str) -> Array:
    """(sizes, ranks, ...) of one contestant."""
    place = list(recording["contestants"]).index(name)
    return np.asarray(recording[array][:, :, place])


def _by_rank(axes: Axes, recording: Recording) -> tuple[Array, Array]:
    """The axis of ranks; these, and its ends."""
    ranks = recording["ranks"]
    ends = np.array([ranks.min() / 1.4, ranks.max() * 1.4])
    axes.set_xscale("log")
    axes.set_xlim(*ends)
    plain_log_ticks(axes.xaxis, ranks, at_most=len(ranks))
    axes.set_xlabel("rank $r$")
    return ranks, ends


def _times(axes: Axes, recording: Recording) -> None:
    row = _row(recording)
    ranks, ends = _by_rank(axes, recording)
    axes.set_yscale("log")
    heights, inks = {}, {}
    for name, (ink, text) in TIMED.items():
        values = 1e3 * _of(recording, name, "seconds")[row]
        low, high = 1e3 * _of(recording, name, "seconds_interval")[row].T
        axes.plot(ranks, values, color=ink.colour, linestyle=ink.dashes, marker=ink.marker,
                  markersize=3.4, label=name)  # fmt: skip
        axes.vlines(ranks, low, high, color=ink.colour, linewidth=0.8, label=f"_{name} interval")
        heights[text], inks[text] = float(values[-1]), ink.colour
    dense = 1e3 * float(recording["dense_seconds"][row])
    if np.isfinite(dense):
        guide(axes, ends, np.full(2, dense), "dense")
        heights["dense"], inks["dense"] = dense, INK
    size = recording["sizes"][row]
    axes.set_title(rf"One step, $m = n = {size}$")
    axes.set_ylabel("milliseconds")
    label_right(axes, list(heights.values()), list(heights), list(inks.values()))


def _ratios(axes: Axes, recording: Recording) -> None:
    ranks, ends = _by_rank(axes, recording)
    fastest = np.min([_of(recording, name, "seconds") for name in QR_FORMS], axis=0)
    sizes = recording["sizes"]
    colours = ordered_colours(len(sizes))
    ends_at = []
    for name, dashes, marker in ((OURS, "-", "o"), (PRODUCTS, ":", "D")):
        ratios = _of(recording, name, "seconds") / fastest
        for index, size in enumerate(sizes):
            axes.plot(ranks, ratios[index], color=colours[index], linestyle=dashes, marker=marker,
                      markersize=3.4 + index, label=f"{name}, n = {size}")  # fmt: skip
            if name == OURS:
                ends_at.append(float(ratios[index, -1]))
    guide(axes, ends, np.ones(2), "fastest QR form")
    low, high = axes.get_ylim()
    axes.set_ylim(min(0.0, low), max(1.2, high))
    axes.annotate("QR form", (ends[1], 1.0), xytext=(0, 2), textcoords="offset points", ha="right",
                  va="bottom", fontsize=8, color=INK)  # fmt: skip
    axes.text(0.04, 0.04, "solid: exact\ndotted: by products", transform=axes.transAxes, fontsize=8,
              color=MUTED)  # fmt: skip
    axes.set_title("Over the fastest QR form")
    axes.set_ylabel("ratio of times")
    label_right(axes, ends_at, [f"${size}$" for size in sizes], colours)


def _memory(axes: Axes, recording: Recording) -> None:
    row = _row(recording)
    ranks, ends = _by_rank(axes, recording)
    axes.set_yscale("log")
    heights, inks = {}, {}
    for name in KEPT:
        ink, text = TIMED[name]
        values = _of(recording, name, "kept")[row]
        axes.plot(ranks, values, color=ink.colour, linestyle=ink.dashes, marker=ink.marker,
                  markersize=3.4, label=name)  # fmt: skip
        heights[text], inks[text] = float(values[-1]), ink.colour
    dense = float(recording["dense_kept"][row])
    if np.isfinite(dense):
        guide(axes, ends, np.full(2, dense), "dense")
        heights["dense"], inks["dense"] = dense, INK
    axes.set_title(rf"State, $m = n = {recording['sizes'][row]}$")
    axes.set_ylabel("numbers kept")
    label_right(axes, list(heights.values()), list(heights), list(inks.values()))


FIGURE = Figure(
    name="step-time",
    title="Time and memory of one step by size and rank",
    caption="Left: CPU time of one step of one pair in float32 on one thread, by rank, both axes "
    "logarithmic, at the largest size at which the dense step (dashed, Muon with five steps of "
    "Newton-Schulz in bfloat16) was timed: LoRA-Muon with exact numerics and with the paper's "
    "matrix products, LoRA-RITE and its core by QR; bars are 95% intervals of the medians. "
    "Middle: LoRA-Muon's time over that of the fastest QR form (dashed), one line a size, solid "
    "with exact numerics and dotted with matrix products alone. Right: numbers in the "
    "optimiser's state, on logarithmic axes. No accelerator was measured.",
    claims=(CLAIM,),
    draw=draw,
)
