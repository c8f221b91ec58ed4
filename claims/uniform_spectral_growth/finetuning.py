"""LoRA adapters of a language model: the singular values of B A, under Muon and others."""

from __future__ import annotations

import numpy as np

from claims.measuring.adapter_contest import (
    ADAMW,
    ENTRANTS,
    MUON,
    RANK,
    SGD,
    Contest,
    contest,
    rivals_written_out,
)
from claims.measuring.intervals import Array, geometric_mean_with_interval
from claims.measuring.tuned import Tuned
from claims.registry import DEVICES, TRAINS_IN, Claim, Evidence, Measurement, Setting
from claims.uniform_spectral_growth.toy import PAPER, REFERENCE
from simulate.adapter_spectra import adapter_spectra
from simulate.tuning import Protocol

RIVALS = (ADAMW, SGD)


def _runs(setting: Setting) -> Contest:
    """Spectra (S, L, r) of B A at the recorded steps."""
    entrants = {name: ENTRANTS[name] for name in setting["contestants"]}
    return contest(setting, entrants, Protocol(setting["rates"], refinements=0), adapter_spectra)


def _log_ratios(contestant: Tuned) -> Array:
    """(R, T, S): log of the greatest singular value over the least, mean over layers."""
    spectra = contestant.observed
    return np.asarray(np.log(spectra[..., 0] / spectra[..., -1]).mean(-1))


def _intervals(log_ratios: Array) -> Array:
    """Geometric means over seeds of (..., S) with both ends of their intervals, (..., 3)."""
    ratios = np.exp(log_ratios)
    flat = [geometric_mean_with_interval(seeds) for seeds in ratios.reshape(-1, ratios.shape[-1])]
    return np.array(flat).reshape(*ratios.shape[:-1], 3)


def _over_training(contestant: Tuned) -> Array:
    """(T, 3): the ratio at the recorded steps, at the tuned rate."""
    return _intervals(_log_ratios(contestant)[contestant.tuning.best])


def _beside_the_rivals(runs: Contest, challenger: str) -> tuple[Measurement, ...]:
    highest = _over_training(runs.contestants[challenger])[:, 2]
    below = [
        Measurement(
            f"upper end of the ratio's interval over {rival}'s lower end, largest over training",
            float((highest / _over_training(runs.contestants[rival])[:, 1]).max()), "<=", 1,
        )
        for rival in RIVALS
    ]  # fmt: skip
    at_edge = sum(runs.contestants[name].tuning.at_edge for name in {challenger, *RIVALS})
    name = "optimisers compared that are best at an end of their grid"
    return *below, Measurement(name, at_edge, "<=", 0)


def _arrays(runs: Contest) -> dict[str, Array]:
    every = list(runs.contestants.values())
    return {
        "contestants": np.array(list(runs.contestants)),
        "steps": runs.steps,
        "spectra": np.stack([each.seen for each in every]),
        "log_ratios": np.stack([_log_ratios(each)[each.tuning.best] for each in every]),
        "ratio_intervals": np.stack([_over_training(each) for each in every]),
        "tuned_rates": np.array([each.rate for each in every]),
        **{f"rates, {name}": each.tuning.rates for name, each in runs.contestants.items()},
        **{f"losses, {name}": each.tuning.losses for name, each in runs.contestants.items()},
        **{f"log ratios, {name}": _log_ratios(each) for name, each in runs.contestants.items()},
    }


def _remarks(runs: Contest, grid: int) -> tuple[str, ...]:
    told = [
        f"validation loss {runs.pretrained_loss:.3f} nats on the first language; on the second "
        f"{runs.start_loss:.3f} before fine-tuning, and its entropy rate is {runs.entropy_rate:.3f}"
    ]
    for name, each in runs.contestants.items():
        ratio, tuning = _over_training(each), each.tuning
        mean, low, high = ratio[-1]
        extended = len(tuning.rates) - grid
        further = f", the grid extended by {extended}" if extended else ""
        told.append(
            f"{name} at {tuning.rates[tuning.best]:.2g}{further}: loss "
            f"{tuning.losses[tuning.best].mean():.3f}; s_1/s_{RANK} at the end {mean:.2f} "
            f"[{low:.2f}, {high:.2f}], over training {ratio[:, 0].min():.2f} to "
            f"{ratio[:, 0].max():.2f}"
        )
    told.extend(_at_other_rates(runs, rival) for rival in RIVALS)
    return tuple(told)


def _at_other_rates(runs: Contest, rival: str) -> str:
    """How many pairs of rates, one of each, meet the criterion, where no run diverged."""
    upper, lower = (
        _intervals(_log_ratios(each)[np.isfinite(each.tuning.losses).all(1)])[..., end]
        for each, end in ((runs.contestants[MUON], 2), (runs.contestants[rival], 1))
    )
    worst = (upper[:, None] / lower[None]).max(-1)
    return (
        f"{MUON} is below {rival} throughout training at {int((worst <= 1).sum())} of "
        f"{worst.size} pairs of rates; the largest upper end over lower end is {worst.max():.3g}"
    )


def check_finetuning(setting: Setting) -> Evidence:
    """Muon's steps of B and A have equal singular values, AdamW's and SGD's those of gradients.

    From B = 0 the first step makes B = -lr O(G_B), so that B A has the singular values of a
    random r x n matrix, whose ratio tends to (sqrt n + sqrt r)/(sqrt n - sqrt r), 3 at n = 32,
    times what the polynomial leaves; SGD's B is -lr G_B, as ill-conditioned as the gradient. What
    follows in training the theorem on matrix factorisation does not say: the paper observes it.

    Every optimiser is tuned by the same grid and the mean validation loss over the seeds; for
    each seed log s_1/s_r is averaged over layers, and the intervals are t-intervals over seeds. A
    comparison says nothing of optimisers that are not what they are called: three steps of each
    are held to its formula, written out.
    """
    runs = _runs(setting)
    measured = *_beside_the_rivals(runs, MUON), rivals_written_out((MUON, *RIVALS))
    return Evidence(measured, _arrays(runs), _remarks(runs, len(setting["rates"])))


def control_adamw(setting: Setting) -> Evidence:
    """AdamW in Muon's place."""
    return Evidence(_beside_the_rivals(_runs(setting), ADAMW))


def control_sgd(setting: Setting) -> Evidence:
    """SGD in Muon's place."""
    return Evidence(_beside_the_rivals(_runs(setting), SGD))


CLAIMS = (
    Claim(
        id="usg.lora-finetune-spectrum",
        paper=PAPER,
        title="LoRA fine-tuning: near-uniform growth under Muon alone",
        statement=(
            r"Where LoRA adapters of a pretrained language model are trained on another corpus, "
            r"the singular values of $BA$ grow near-uniformly under Muon, and not under AdamW and "
            r"SGD: $s_1/s_8$ is smaller throughout training."
        ),
        reference=REFERENCE,
        source="paper",
        setup="transformers pretrained by Muon on one bracket language, one a seed, adapters of "
        "rank 8 on queries and values trained on another; Muon on each factor by its own quintic; "
        "rates .03 to 3, half a decade apart, decaying linearly; width 32, depth 1, 60 steps, 5 "
        "seeds (quick), width 64, depth 2, 150 steps, 8 seeds (full); float32",
        criterion="at every recorded step the upper end of the 95% interval of the mean s_1/s_8 "
        "under Muon below the lower ends under AdamW and SGD, each at its best rate, which lies "
        "inside of its grid; steps by the optimisers' formulas",
        check=check_finetuning,
        seconds=8,
        devices=DEVICES,
        dtypes=TRAINS_IN,
        controls={"AdamW": control_adamw, "SGD": control_sgd},
        tiers={
            "quick": {
                "seeds": 5, "tokens": 100_000, "length": 32, "width": 32, "depth": 1, "batch": 8,
                "pretraining": 150, "steps": 60, "recorded": 13, "evaluation": 2048,
                "rates": (0.03, 0.1, 0.3, 1.0, 3.0), "contestants": (MUON, ADAMW, SGD),
            },
            "full": {
                "seeds": 8, "tokens": 400_000, "length": 64, "width": 64, "depth": 2,
                "pretraining": 500, "steps": 150, "recorded": 16, "evaluation": 4096,
                "contestants": (MUON, ADAMW, SGD, "Muon, exact", "LoRA-Muon"),
            },
        },
    ),
)  # fmt: skip
