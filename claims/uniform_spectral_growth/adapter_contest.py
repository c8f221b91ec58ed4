"""Optimisers fine-tune LoRA adapters of the same language models, each at its best rate."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer

from claims.uniform_spectral_growth.measuring import Array
from geometry.gauge import Pair
from simulate.adapter_spectra import adapter_spectra
from simulate.optimizers import FactorMuon, LoRAMuon, MemberAdamW, MemberSGD, Muon
from simulate.pretrained import pretrained
from simulate.schedules import linear_decay
from simulate.tasks import (
    Architecture,
    BracketLanguage,
    Corpus,
    LowRankAdaptation,
    Pretrained,
    synthetic_corpus,
)
from simulate.training import EnsembleTraining

RANK = 8
PRETRAINING_RATE = 0.05
# Half a decade: the grid that every optimiser is tuned on, and by which it is extended.
SPACING = math.sqrt(10)
MOST_EXTENSIONS = 4


def _muon(pairs: Sequence[Pair], lr: Tensor) -> Optimizer:
    return FactorMuon(pairs, lr=lr, momentum=0.95, orthogonalizer="muon")


def _exact_muon(pairs: Sequence[Pair], lr: Tensor) -> Optimizer:
    return FactorMuon(pairs, lr=lr, momentum=0.95)


def _adamw(pairs: Sequence[Pair], lr: Tensor) -> Optimizer:
    return MemberAdamW(list(chain(*pairs)), lr=lr)


def _sgd(pairs: Sequence[Pair], lr: Tensor) -> Optimizer:
    return MemberSGD(list(chain(*pairs)), lr=lr, momentum=0.9)


def _lora_muon(pairs: Sequence[Pair], lr: Tensor) -> Optimizer:
    return LoRAMuon(pairs, lr=lr, momentum=0.95)


MUON, ADAMW, SGD = "Muon", "AdamW", "SGD"
CONTESTANTS: dict[str, Callable[[Sequence[Pair], Tensor], Optimizer]] = {
    MUON: _muon,
    ADAMW: _adamw,
    SGD: _sgd,
    "Muon, exact": _exact_muon,
    "LoRA-Muon": _lora_muon,
}


@dataclass(frozen=True)
class Contestant:
    """What one optimiser did, at every rate that it was tried at.

    Attributes:
        rates: (R,), ascending.
        losses: (R, S) validation losses at the end, NaN where a run diverged.
        spectra: (R, T, S, L, r) singular values of B A at the recorded steps, NaN likewise.
    """

    rates: Array
    losses: Array
    spectra: Array

    @property
    def best(self) -> int:
        """Where the mean loss over all seeds is least; a rate at which one diverged is not."""
        return int(np.nan_to_num(self.losses, nan=np.inf).mean(1).argmin())

    @property
    def at_edge(self) -> bool:
        """Whether the best rate is the first or the last."""
        return self.best in (0, len(self.rates) - 1)

    @property
    def log_ratios(self) -> Array:
        """(R, T, S): log of the greatest singular value over the least, mean over layers."""
        return np.asarray(np.log(self.spectra[..., 0] / self.spectra[..., -1]).mean(-1))


@dataclass(frozen=True)
class Contest:
    """All contestants, by name, and what they began with.

    Attributes:
        steps: (T,), how many were taken where spectra were recorded.
        pretrained_loss: on the corpus of the pretraining, mean over seeds.
        start_loss: on the second corpus, before any step.
        entropy_rate: of the second corpus.
    """

    contestants: Mapping[str, Contestant]
    steps: Array
    pretrained_loss: float
    start_loss: float
    entropy_rate: float


@lru_cache(maxsize=1)
def contest(seeds: range, sizes: tuple[tuple[str, Any], ...]) -> Contest:
    """The runs of a setting; check and controls look at the same ones.

    Every seed has a pretrained model of its own, on the language of seed 0. All optimisers go on
    from these on the language of seed 1, with the same batches, at the same rates; who is best at
    an end of the grid is tried at further rates, until he is not.
    """
    table = dict(sizes)
    first, second = (_corpus(language, table["tokens"]) for language in (0, 1))
    models, pretrained_loss = _pretrained(first, seeds, table)
    steps = np.unique(np.linspace(0, table["steps"], table["recorded"]).round().astype(int).clip(1))
    runs = _FineTuning(second, models, seeds, steps, table)
    contestants = {name: runs.tuned(name) for name in table["contestants"]}
    assert second.entropy_rate is not None
    return Contest(contestants, steps, pretrained_loss, runs.start_loss, second.entropy_rate)


def _corpus(language: int, tokens: int) -> Corpus:
    automaton = BracketLanguage(seed=language).automaton()
    return synthetic_corpus(automaton, seed=0, train=tokens, validation=tokens // 10)


def _pretrained(corpus: Corpus, seeds: range, table: Mapping[str, Any]) -> tuple[Pretrained, float]:
    """Dense models trained by Muon, one a seed, and their mean validation loss."""
    steps = table["pretraining"]
    architecture = Architecture(
        len(corpus.vocabulary),
        length=table["length"],
        width=table["width"],
        depth=table["depth"],
    )
    run = EnsembleTraining(
        corpus,
        architecture,
        [(PRETRAINING_RATE, seed) for seed in seeds],
        lambda matrices, lr: Muon(matrices, lr=lr, weight_decay=0.0),
        batch_size=table["batch"],
        schedule=linear_decay(steps, warmup=steps // 10),
        evaluation_tokens=table["evaluation"],
    )
    record = run.run(steps, validate_at=[steps])
    if record.diverged:
        raise RuntimeError(f"pretraining diverged in members {sorted(record.diverged)}")
    return pretrained(run), float(record.validation[steps].mean())


class _FineTuning:
    """Runs on the second corpus that differ in the optimiser and its rates alone."""

    def __init__(
        self,
        corpus: Corpus,
        models: Pretrained,
        seeds: range,
        recorded: Array,
        table: Mapping[str, Any],
    ) -> None:
        self.corpus, self.seeds, self.recorded, self.table = corpus, seeds, recorded, table
        self.adaptation = LowRankAdaptation(models, rank=RANK)
        self.start_loss = math.nan

    def tuned(self, name: str) -> Contestant:
        """On the grid, and beyond its ends while the best rate is one of these."""
        found = self._at(name, np.asarray(self.table["rates"]))
        for _ in range(MOST_EXTENSIONS):
            if not found.at_edge:
                break
            low, high = found.rates[[0, -1]]
            further = low / SPACING if found.best == 0 else high * SPACING
            found = _joined(found, self._at(name, np.array([further])))
        return found

    def _at(self, name: str, rates: Array) -> Contestant:
        """All rates and seeds as one ensemble."""
        steps, count = self.table["steps"], len(self.seeds)
        run = EnsembleTraining(
            self.corpus,
            self.adaptation,
            [(float(rate), seed) for rate in rates for seed in self.seeds],
            CONTESTANTS[name],
            batch_size=self.table["batch"],
            schedule=linear_decay(steps, warmup=steps // 10),
            evaluation_tokens=self.table["evaluation"],
        )
        spectra = []
        for step in self.recorded.tolist():
            run.run(step, validate_at=[0, steps])
            spectra.append(adapter_spectra(run))
        by_rate = torch.stack(spectra).unflatten(1, (len(rates), count)).transpose(0, 1)
        validation = run.record.validation
        self.start_loss = float(validation[0].mean())
        # A run that lost all members stops before its end.
        ended = validation.get(steps, torch.full((len(rates) * count,), torch.nan))
        losses = ended.reshape(len(rates), count).double()
        return Contestant(rates, losses.numpy(), by_rate.numpy())


def _joined(one: Contestant, other: Contestant) -> Contestant:
    """All rates of both, in order."""
    rates = np.concatenate([one.rates, other.rates])
    order = np.argsort(rates)
    losses = np.concatenate([one.losses, other.losses])
    spectra = np.concatenate([one.spectra, other.spectra])
    return Contestant(rates[order], losses[order], spectra[order])
