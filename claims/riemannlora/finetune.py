"""Fine-tuning on the manifold from a locally optimal start, beside LoRA's optimisers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.optim import Optimizer

from claims.measuring.adapter_contest import (
    ADAMW,
    ENTRANTS,
    LORA_MUON,
    MUON,
    RANK,
    Contest,
    Entrant,
    contest,
    rivals_written_out,
)
from claims.measuring.intervals import Array, mean_with_interval
from claims.measuring.tuned import Tuned, steps_to
from claims.registry import DEVICES, TRAINS_IN, Claim, Evidence, Measurement, Setting
from geometry.gauge import Pair
from simulate.optimizers import Riemannion, RiemannLoRA
from simulate.training import EnsembleTraining
from simulate.tuning import Protocol

# Every singular value of the adapter at the locally optimal start: as those of a layer before the
# pretraining.
SIZE = 1.0


def _sgd(pairs: Sequence[Pair], lr: Tensor) -> Optimizer:
    return RiemannLoRA(pairs, lr=lr, momentum=0.9)


def _adaptive(pairs: Sequence[Pair], lr: Tensor) -> Optimizer:
    return RiemannLoRA(pairs, lr=lr, momentum=0.9, adaptive=True)


def _riemannion(pairs: Sequence[Pair], lr: Tensor) -> Optimizer:
    return Riemannion(pairs, lr=lr, momentum=0.9)


OURS, RSLORA = "Riemannion", "RSLoRA"
# alpha = r with LoRA's alpha / r, so alpha / root r is root r.
CONTESTANTS: Mapping[str, Entrant] = {
    OURS: Entrant(_riemannion, start=SIZE),
    "RiemannLoRA, Adam": Entrant(_adaptive, start=SIZE),
    "RiemannLoRA, SGD": Entrant(_sgd, start=SIZE),
    ADAMW: ENTRANTS[ADAMW],
    RSLORA: replace(ENTRANTS[ADAMW], scale=RANK**0.5),
    MUON: ENTRANTS[MUON],
    LORA_MUON: ENTRANTS[LORA_MUON],
    "AdamW, optimal start": replace(ENTRANTS[ADAMW], start=SIZE),
}
# Those that the paper names. LoRA-Muon is not among them.
RIVALS = (ADAMW, RSLORA, MUON)
# Of the way to the least loss at the end: half of it all come within the warm-up.
WAY = 0.9
Interval = tuple[float, float, float]


def _runs(setting: Setting) -> Contest:
    """Validation losses (S,) at the recorded steps."""
    protocol = Protocol(setting["rates"], refinements=setting["refinements"])
    return contest(setting, CONTESTANTS, protocol, EnsembleTraining.validation_losses)


def _targets(runs: Contest) -> Array:
    """(S,) most of the way from the start to the least loss at the end of any contestant."""
    least = np.array([each.losses for each in runs.contestants.values()]).min(0)
    return np.asarray(runs.start_loss + WAY * (least - runs.start_loss))


def _measured(runs: Contest, name: str, place: int | None = None, before: float = 0.0) -> Array:
    """(2, S): losses at the end and log of the steps to the target, at the best or another rate.

    Args:
        before: what is added to the steps.
    """
    each = runs.contestants[name]
    place = each.tuning.best if place is None else place
    steps = steps_to(runs.steps, each.observed[place].T, _targets(runs))
    return np.stack([each.tuning.losses[place], np.log(steps + before)])


def _decade_below(each: Tuned) -> int:
    """The place of the rate that is nearest to a tenth of the best one."""
    rates = np.log10(each.tuning.rates)
    return int(np.abs(rates - rates[each.tuning.best] + 1).argmin())


def _judged(runs: Contest, ours: Array) -> tuple[Measurement, ...]:
    found = []
    for rival in RIVALS:
        loss, speed = ours - _measured(runs, rival)
        found += [
            Measurement(f"loss less {rival}'s, upper end, nats", _interval(loss)[2], "<=", 0),
            Measurement(f"log of steps over {rival}'s, upper end", _interval(speed)[2], "<=", 0),
        ]
    # A rival that is not tuned, or does not learn, is no rival.
    edges = sum(runs.contestants[name].tuning.at_edge for name in (OURS, *RIVALS))
    return *found, Measurement("best rates left at an edge, of those compared", edges, "<=", 0)


def _interval(values: Array) -> Interval:
    return mean_with_interval(values)


def _signed(values: Array) -> str:
    return "{:+.3f} [{:+.3f}, {:+.3f}]".format(*_interval(values))


def _factor(logs: Array) -> str:
    return "{:.2f} [{:.2f}, {:.2f}]".format(*np.exp(_interval(logs)))


def _remarks(runs: Contest, setting: Setting) -> tuple[str, ...]:
    # Two products of either side, a power iteration's and the last one's.
    passes = 4 * setting["start_batch"] // setting["batch"]
    told = [
        _counting(runs, passes),
        f"validation loss {runs.pretrained_loss:.3f} nats on the first language, on the second "
        f"{runs.start_loss:.3f} before fine-tuning; its entropy rate is {runs.entropy_rate:.3f}",
    ]
    for name, each in runs.contestants.items():
        loss, speed = _measured(runs, name)
        edge = ", an edge of what was tried" if each.tuning.at_edge else ""
        line = (
            f"{name} at {each.rate:.2g}{edge}: loss {loss.mean():.3f}, "
            f"{np.exp(speed).mean():.0f} steps to the target"
        )
        if name != OURS:
            less, over = _measured(runs, OURS) - _measured(runs, name)
            line += f"; {OURS} less it {_signed(less)} nats, times {_factor(over)} the steps"
        told.append(line)
    return tuple(told)


def _counting(runs: Contest, passes: int) -> str:
    ours = _measured(runs, OURS, before=passes)[1]
    told = ", ".join(f"{rival} {_factor(ours - _measured(runs, rival)[1])}" for rival in RIVALS)
    return (
        f"the optimal start takes the backward passes of {passes} steps, which are not counted; "
        f"with them {OURS} takes this times the steps of others: {told}"
    )


def _arrays(runs: Contest) -> dict[str, NDArray[Any]]:
    """Of C contestants: ``curves`` (C, S, T) at the best rates, ``bands`` (C, T, 3) their means and
    intervals, ``best_rates`` (C,); ``excess`` (C, 3), of the loss at the end over Riemannion's.
    """
    every = runs.contestants
    ours = every[OURS].losses
    return {
        "contestants": np.array(list(every)),
        "steps": runs.steps,
        "curves": np.stack([each.seen.T for each in every.values()]),
        "bands": np.array([[_interval(x) for x in each.seen] for each in every.values()]),
        "excess": np.array([_interval(each.losses - ours) for each in every.values()]),
        "start": np.array(runs.start_loss),
        "entropy_rate": np.array(runs.entropy_rate),
        "targets": _targets(runs),
        "best_rates": np.array([each.rate for each in every.values()]),
        "measured": np.stack([_measured(runs, name) for name in every]),
        **{f"rates, {name}": each.tuning.rates for name, each in every.items()},
        **{f"losses, {name}": each.tuning.losses for name, each in every.items()},
    }


def check_finetuning(setting: Setting) -> Evidence:
    """Nothing is derived: a comparison of optimisers, tuned alike.

    The loss is that of the validation windows after the last step; steps are those to nine tenths
    of the way, in nats, from the start to the least final loss of any contestant, seed by seed, and
    all where one never comes there. Half of the way was what was first looked at: the contestants
    come there in 6 to 13 steps, within the warm-up of 10, where the rate decides and not the
    optimiser. Both are paired by seed: pretrained model and batches are the same. What the optimal
    start alone does is told, by AdamW from it. A rival that is broken is none: three steps of each
    are held to its formula, written out.

    From the optimal start W moves by X - X_0, of rank 2 r at most, from B = 0 by rank r: what the
    adapter can reach differs too.
    """
    runs = _runs(setting)
    measured = *_judged(runs, _measured(runs, OURS)), rivals_written_out((ADAMW, MUON))
    return Evidence(measured, _arrays(runs), _remarks(runs, setting))


def control_rate(setting: Setting) -> Evidence:
    """Riemannion at a tenth of its best rate, or the nearest that was tried."""
    runs = _runs(setting)
    each = runs.contestants[OURS]
    place = _decade_below(each)
    remark = f"{OURS} at {each.tuning.rates[place]:.2g} instead of {each.rate:.2g}"
    return Evidence(_judged(runs, _measured(runs, OURS, place)), {}, (remark,))


def not_here(setting: Setting) -> str | None:
    """Why a setting has no runs, or None."""
    if "steps" not in setting.sizes:
        return "trains language models for minutes: begins at the full tier"
    return None


CLAIMS = (
    Claim(
        id="riemannlora.finetune",
        paper="riemannlora",
        title="Riemannion from a locally optimal start fine-tunes faster and further than LoRA",
        statement=(
            "LoRA adapters of a pretrained language model, trained on another corpus by Riemannion "
            "from the locally optimal start, come to a lower loss, and in fewer steps to a target, "
            "than by AdamW, RSLoRA and Muon on each factor from LoRA's start."
        ),
        reference="Bogachev et al., arXiv 2507.12142, Section 6",
        source="paper",
        setup="transformers of width 32, depth 1, pretrained by Muon on one bracket language, one "
        "a seed; adapters of rank 8 on queries and values, 100 steps on another; rates .03 to 3, "
        "half a decade apart, extended and refined by one protocol, decaying linearly; momentum .9 "
        "on the manifold; the optimal start from the gradient of 32 windows, singular values 1; "
        "float32; steps to nine tenths of the way",
        criterion="95% intervals of paired differences below 0: of the loss, and of the logarithm "
        "of the steps, for each of the three rivals; best rates inside of what was tried; rivals' "
        "steps by their formulas",
        check=check_finetuning,
        controls={"a tenth of the rate": control_rate},
        tiers={
            "full": {
                "seeds": 10, "tokens": 100_000, "length": 32, "width": 32, "depth": 1, "batch": 8,
                "pretraining": 200, "steps": 100, "recorded": 26, "evaluation": 2048,
                "start_batch": 32, "rates": (0.03, 0.1, 0.3, 1.0, 3.0), "refinements": 1,
            },
        },
        skip=not_here,
        devices=DEVICES,
        dtypes=TRAINS_IN,
    ),
)  # fmt: skip
