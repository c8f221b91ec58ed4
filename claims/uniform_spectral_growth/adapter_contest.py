"""Optimisers fine-tune LoRA adapters of the same language models, each at its best rate."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer

from claims.measuring.intervals import Array
from claims.registry import Setting
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
from simulate.tuning import Protocol, Tuning

RANK = 8
PRETRAINING_RATE = 0.05


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
        tuning: its R rates, ascending, and the validation losses (R, S) at the end.
        spectra: (R, T, S, L, r) singular values of B A at the recorded steps, NaN after a run
            diverged.
    """

    tuning: Tuning
    spectra: Array

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


_last: dict[object, Contest] = {}


def contest(setting: Setting) -> Contest:
    """The runs of a setting: made once, for check and controls look at the same ones."""
    key = setting.seed, tuple(setting.sizes.items())
    if key not in _last:
        _last.clear()
        _last[key] = _contest(setting)
    return _last[key]


def _contest(setting: Setting) -> Contest:
    """Pretraining, and fine-tuning by every contestant.

    Every seed has a pretrained model of its own, on the language of seed 0. All optimisers go on
    from these on the language of seed 1, with the same batches, at the same rates; one that is
    best at an end of the grid is tried at further rates.
    """
    first, second = (_corpus(language, setting["tokens"]) for language in (0, 1))
    models, pretrained_loss = _pretrained(first, setting)
    steps = np.linspace(0, setting["steps"], setting["recorded"]).round().astype(int).clip(1)
    runs = _FineTuning(second, models, np.unique(steps), setting)
    contestants = {}
    for done, name in enumerate(setting["contestants"]):
        setting.means.progress((1 + done) / (1 + len(setting["contestants"])))
        contestants[name] = runs.tuned(name)
    assert second.entropy_rate is not None
    return Contest(
        contestants, runs.recorded, pretrained_loss, runs.start_loss, second.entropy_rate
    )


def _corpus(language: int, tokens: int) -> Corpus:
    automaton = BracketLanguage(seed=language).automaton()
    return synthetic_corpus(automaton, seed=0, train=tokens, validation=tokens // 10)


def _pretrained(corpus: Corpus, setting: Setting) -> tuple[Pretrained, float]:
    """Dense models trained by Muon, one a seed, and their mean validation loss."""
    steps = setting["pretraining"]
    architecture = Architecture(
        len(corpus.vocabulary),
        length=setting["length"],
        width=setting["width"],
        depth=setting["depth"],
    )
    run = EnsembleTraining(
        corpus,
        architecture,
        [(PRETRAINING_RATE, seed) for seed in setting.seeds(setting["seeds"])],
        lambda matrices, lr: Muon(matrices, lr=lr, weight_decay=0.0),
        batch_size=setting["batch"],
        schedule=linear_decay(steps, warmup=steps // 10),
        evaluation_tokens=setting["evaluation"],
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
        recorded: Array,
        setting: Setting,
    ) -> None:
        self.corpus, self.recorded, self.setting = corpus, recorded, setting
        self.seeds = setting.seeds(setting["seeds"])
        self.protocol = Protocol(setting["rates"], refinements=0)
        self.adaptation = LowRankAdaptation(models, rank=RANK)
        self.start_loss = math.nan

    def tuned(self, name: str) -> Contestant:
        """On the grid, and beyond its ends while the best rate is one of these."""
        tuning = Tuning(self.protocol)
        spectra: dict[float, Array] = {}
        while rates := tuning.next_rates():
            losses, found = self._at(name, rates)
            tuning.add(rates, losses)
            spectra.update(zip(rates, found, strict=True))
        return Contestant(tuning, np.stack([spectra[rate] for rate in tuning.rates.tolist()]))

    def _at(self, name: str, rates: tuple[float, ...]) -> tuple[Array, Array]:
        """Losses (R, S) and spectra (R, T, S, L, r): all rates and seeds as one ensemble."""
        steps, count = self.setting["steps"], len(self.seeds)
        run = EnsembleTraining(
            self.corpus,
            self.adaptation,
            [(rate, seed) for rate in rates for seed in self.seeds],
            CONTESTANTS[name],
            batch_size=self.setting["batch"],
            schedule=linear_decay(steps, warmup=steps // 10),
            evaluation_tokens=self.setting["evaluation"],
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
        return losses.numpy(), by_rate.numpy()
