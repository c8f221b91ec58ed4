"""Singular values of LoRA's B A while a language model is fine-tuned, by optimiser."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing

from figures.figure import Figure, Recording, Sources
from figures.palette import ADAMW, EXACT_MUON, FACTOR_MUON, LORA_MUON, SGD, ordered_colours
from figures.panels import Array, label_right, panels

CLAIM = "usg.lora-finetune-spectrum"
SPECTRA = ("Muon", "AdamW", "SGD")
INKS = {
    "Muon": FACTOR_MUON,
    "AdamW": ADAMW,
    "SGD": SGD,
    "Muon, exact": EXACT_MUON,
    "LoRA-Muon": LORA_MUON,
}
SHORT = {"Muon, exact": "exact Muon"}


def draw(sources: Sources) -> Drawing:
    """The spectra under three optimisers on one scale, and the ratio of their ends beside them."""
    check = sources.check(CLAIM)
    drawing, axes = panels(4, height=2.6, ratios=(1, 1, 1, 1.15))
    for place, name in zip(axes, SPECTRA, strict=False):
        _spectrum(place, check, name)
    limits = [place.get_ylim() for place in axes[:3]]
    for number, place in enumerate(axes[:3]):
        place.set_ylim(min(low for low, _ in limits), max(high for _, high in limits))
        place.tick_params(labelleft=number == 0)
        _name_ends(place, check, SPECTRA[number])
    axes[0].set_ylabel("singular values of $BA$")
    _ratios(axes[3], check)
    return drawing


def by_seed(check: Recording, name: str) -> Array:
    """Geometric means over layers of the spectra at the tuned rate, (S, T, r)."""
    spectra = check["spectra"][_place(check, name)]
    return np.asarray(np.exp(np.log(spectra).mean(axis=2)).swapaxes(0, 1))


def _place(check: Recording, name: str) -> int:
    return [str(each) for each in check["contestants"]].index(name)


def _spectrum(axes: Axes, check: Recording, name: str) -> None:
    values, steps = by_seed(check, name), check["steps"]
    axes.set_yscale("log")
    for mode, colour in enumerate(ordered_colours(values.shape[2])):
        seeds = values[:, :, mode]
        axes.fill_between(steps, seeds.min(axis=0), seeds.max(axis=0), color=colour, alpha=0.2,
                          linewidth=0, label=f"seeds of s_{mode + 1}")  # fmt: skip
        axes.plot(steps, np.median(seeds, axis=0), color=colour, linewidth=1.2,
                  label=f"s_{mode + 1}")  # fmt: skip
    axes.set_xlim(0, steps[-1])
    rate = float(check["tuned_rates"][_place(check, name)])
    axes.set_title(rf"{name}, $\eta = {rate:.2g}$")
    axes.set_xlabel("step")


def _name_ends(axes: Axes, check: Recording, name: str) -> None:
    ends = np.median(by_seed(check, name)[:, -1], axis=0)
    colours = ordered_colours(len(ends))
    label_right(axes, ends[[0, -1]], ["$s_1$", f"$s_{len(ends)}$"], [colours[0], colours[-1]])


def _ratios(axes: Axes, check: Recording) -> None:
    steps, intervals = check["steps"], check["ratio_intervals"]
    names = [str(name) for name in check["contestants"]]
    inks = [INKS[name] for name in names]
    axes.set_yscale("log")
    for name, ink, (mean, low, high) in zip(names, inks, intervals.transpose(0, 2, 1), strict=True):
        axes.fill_between(steps, low, high, color=ink.colour, alpha=0.2, linewidth=0,
                          label=f"interval of {name}")  # fmt: skip
        axes.plot(steps, mean, color=ink.colour, linestyle=ink.dashes, marker=ink.marker,
                  markersize=2.4, linewidth=1.2, label=name)  # fmt: skip
    axes.set_xlim(0, steps[-1])
    axes.set_ylim(1, None)
    axes.set_title(rf"$s_1\,/\,s_{check['spectra'].shape[-1]}$")
    axes.set_xlabel("step")
    label_right(axes, intervals[:, -1, 0], [SHORT.get(name, name) for name in names],
                [ink.colour for ink in inks])  # fmt: skip


FIGURE = Figure(
    name="adapter-spectra",
    title="Singular values of LoRA's product while a language model is fine-tuned",
    caption="Left to right: singular values of B A on a logarithmic axis against the steps of "
    "fine-tuning under Muon on each factor, AdamW and SGD, each at its best learning rate; "
    "geometric means over the adapted layers, the median over seeds as a line and all seeds "
    "within the band. Right: the ratio of the greatest to the least singular value, mean over "
    "layers and seeds, with its 95% interval over seeds. The claim is that Muon's interval lies "
    "below those of AdamW and SGD throughout.",
    claims=(CLAIM,),
    draw=draw,
)
