"""Singular values of a language model's gradients while it trains, and what a few of them hold."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure as Drawing

from figures.figure import Figure, Sources
from figures.palette import CONTRAST, MUTED, ordered_colours
from figures.panels import Array, label_right, panels

CLAIM = "low-rank.pretraining"


def draw(sources: Sources) -> Drawing:
    """Spectra by step, and the nuclear norm's share in the largest l."""
    check = sources.check(CLAIM)
    spectra, steps = check["gradient_spectra"], check["spectrum_steps"]
    drawing, (values, shares) = panels(2, height=2.75)
    colours, index = ordered_colours(len(steps)), np.arange(1, spectra.shape[-1] + 1)
    values.set_yscale("log")
    ends: list[float] = []
    for step, colour, row in zip(steps, colours, spectra, strict=True):
        ends.append(float(np.median(relative(row)[:, -1])))
        for axes, by_seed in ((values, relative(row)), (shares, held(row))):
            axes.fill_between(index, by_seed.min(0), by_seed.max(0), color=colour, alpha=0.18,
                              linewidth=0, label=f"seeds at step {step}")  # fmt: skip
            axes.plot(index, np.median(by_seed, axis=0), color=colour, linewidth=1.2,
                      label=f"step {step}")  # fmt: skip
    for axes in (values, shares):
        axes.set_xlim(1, index[-1])
        axes.set_xlabel("$j$, of $m$ singular values")
    width = index[-1]
    for part in (8, 4, 2):
        shares.axvline(width / part, color=CONTRAST, linewidth=0.7, zorder=0, label=f"m/{part}")
        shares.annotate(f"$m/{part}$", (width / part, 0.02), xytext=(2, 0), fontsize=8,
                        textcoords="offset points", color=MUTED)  # fmt: skip
    shares.set_ylim(0, 1)
    values.set_ylabel("$s_j / s_1$ of the gradients")
    shares.set_ylabel("share of the nuclear norm in the first $j$")
    values.set_title("Spectra")
    shares.set_title("What $j$ directions can keep")
    texts = [f"step {step}" for step in steps]
    label_right(values, ends, texts, colours)
    return drawing


def relative(spectra: Array) -> Array:
    """s_j / s_1 of (S, layers, m), geometric mean over the layers: (S, m)."""
    shares = np.maximum(spectra / spectra[..., :1], 1e-12)
    return np.asarray(np.exp(np.log(shares).mean(1)))


def held(spectra: Array) -> Array:
    """Share of the sum in the first j of (S, layers, m), mean over the layers: (S, m)."""
    sums = spectra.cumsum(-1)
    return np.asarray((sums / sums[..., -1:]).mean(1))


FIGURE = Figure(
    name="gradient-spectra",
    title="Singular values of gradients over training",
    caption="Singular values of the gradients of all layers of a language model while Muon trains "
    "it at its best rate, by step. Left: over the largest, geometric means over layers, on a "
    "logarithmic axis. Right: the share of the nuclear norm that the first j hold, mean over "
    "layers: the most that a basis of j vectors can keep of the alignment. Lines are medians over "
    "seeds, all seeds lie within the bands.",
    claims=(CLAIM,),
    draw=draw,
)
