"""Optimisers fine-tune LoRA adapters of the same language models, each at its best rate."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer

from claims.measuring.intervals import Array
from claims.measuring.tuned import Tuned, tuned
from claims.measuring.written_out import (
    Formula,
    adamw,
    as_written_out,
    heavy_ball,
    of,
    orthogonalised,
    steps_off,
)
from claims.registry import Measurement, Setting
from geometry.gauge import Pair
from simulate.locally_optimal_adaptation import locally_optimal_adaptation
from simulate.optimizers import FactorMuon, LoRAMuon, MemberAdamW, MemberSGD, Muon
from simulate.pretrained import pretrained
from simulate.schedules import linear_decay
from simulate.tasks import (
    Architecture,
    Batches,
    BracketLanguage,
    Corpus,
    LowRankAdaptation,
    Pretrained,
    synthetic_corpus,
)
from simulate.training import EnsembleTraining
from simulate.tuning import Protocol

RANK = 8
PRETRAINING_RATE = 0.05

Observe = Callable[[EnsembleTraining], Tensor]


@dataclass(frozen=True)
class Entrant:
    """An optimiser of adapters, and what its adapters are.

    Attributes:
        make: the optimiser, from [(B, A), ...] and one rate a member.
        scale: of the adapters, alpha / r.
        start: every singular value of scale B A at the locally optimal start; None for LoRA's own
            start, B = 0.
    """

    make: Callable[[Sequence[Pair], Tensor], Optimizer]
    scale: float = 1.0
    start: float | None = None


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
EXACT_MUON, LORA_MUON = "Muon, exact", "LoRA-Muon"
ENTRANTS: Mapping[str, Entrant] = {
    MUON: Entrant(_muon),
    ADAMW: Entrant(_adamw),
    SGD: Entrant(_sgd),
    EXACT_MUON: Entrant(_exact_muon),
    LORA_MUON: Entrant(_lora_muon),
}
# What those that are rivals do, decay as AdamW has it where nothing else is asked for.
FORMULAS: Mapping[str, Formula] = {
    MUON: orthogonalised(partial(heavy_ball, 0.95)),
    ADAMW: adamw(0.01),
    SGD: of(partial(heavy_ball, 0.9)),
}


def rivals_written_out(names: Sequence[str]) -> Measurement:
    """That entrants step as their names say, on factors of rank 8."""

    def off(name: str) -> float:
        def make(factors: list[torch.nn.Parameter], lr: Tensor) -> Optimizer:
            B, A = factors
            return ENTRANTS[name].make([(B, A)], lr)

        return steps_off(make, FORMULAS[name], [(32, RANK), (RANK, 32)])

    return as_written_out([off(name) for name in names])


@dataclass(frozen=True)
class Contest:
    """All contestants, by name, and what they began with.

    Attributes:
        contestants: what they were observed to do is (R, T, S, ...); NaN after a run diverged.
        steps: (T,), how many were taken where something was recorded.
        pretrained_loss: on the corpus of the pretraining, mean over seeds.
        start_loss: on the second corpus, before any step.
        entropy_rate: of the second corpus.
    """

    contestants: Mapping[str, Tuned]
    steps: Array
    pretrained_loss: float
    start_loss: float
    entropy_rate: float


_last: dict[object, Contest] = {}


def contest(
    setting: Setting, entrants: Mapping[str, Entrant], protocol: Protocol, observe: Observe
) -> Contest:
    """The runs of a setting: made once, for check and controls look at the same ones.

    Sizes that it reads: ``tokens`` of a corpus, ``length``, ``width``, ``depth``, ``batch``,
    ``pretraining`` and ``steps``, ``seeds``, ``recorded`` and ``evaluation``, tokens that losses
    are taken of.

    Args:
        protocol: by which every entrant's rate is tuned.
        observe: what is recorded of an ensemble, (E, ...), NaN for members that are gone.
    """
    sizes = tuple(setting.sizes.items())
    key = setting.seed, sizes, setting.place, tuple(entrants), protocol, observe
    if key not in _last:
        _last.clear()
        _last[key] = _contest(setting, entrants, protocol, observe)
    return _last[key]


def _contest(
    setting: Setting, entrants: Mapping[str, Entrant], protocol: Protocol, observe: Observe
) -> Contest:
    """Pretraining, and fine-tuning by every entrant.

    Every seed has a pretrained model of its own, on the language of seed 0. All optimisers go on
    from these on the language of seed 1, with the same batches, at the same rates; one that is
    best at an end of the grid is tried at further rates.
    """
    first, second = (_corpus(language, setting["tokens"]) for language in (0, 1))
    models, pretrained_loss = _pretrained(first, setting)
    steps = np.linspace(0, setting["steps"], setting["recorded"]).round().astype(int).clip(1)
    runs = _FineTuning(second, models, np.unique(steps), protocol, observe, setting)
    contestants = {}
    for done, (name, entrant) in enumerate(entrants.items()):
        setting.means.progress((1 + done) / (1 + len(entrants)))
        contestants[name] = runs.tuned(entrant)
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
        dtype=setting.dtype(torch.float32),
        device=setting.device,
    )
    record = run.run(steps, validate_at=[steps])
    if record.diverged:
        raise RuntimeError(f"pretraining diverged in members {sorted(record.diverged)}")
    return pretrained(run), float(record.validation[steps].mean())


class _FineTuning:
    """Runs on the second corpus that differ in the entrant and its rates alone."""

    def __init__(
        self,
        corpus: Corpus,
        models: Pretrained,
        recorded: Array,
        protocol: Protocol,
        observe: Observe,
        setting: Setting,
    ) -> None:
        self.corpus, self.models, self.recorded = corpus, models, recorded
        self.protocol, self.observe, self.setting = protocol, observe, setting
        self.seeds = setting.seeds(setting["seeds"])
        self.start_loss = math.nan

    def tuned(self, entrant: Entrant) -> Tuned:
        """Losses at the end, and what was observed, (R, T, S, ...)."""
        return tuned(self.protocol, partial(self._at, entrant, self._adaptation(entrant)))

    def _adaptation(self, entrant: Entrant) -> LowRankAdaptation:
        if entrant.start is None:
            return LowRankAdaptation(self.models, rank=RANK, scale=entrant.scale)
        # The gradient of every model on windows that its own seed draws.
        batches = Batches(
            self.corpus.train,
            length=self.setting["length"],
            batch_size=self.setting["start_batch"],
            seeds=self.models.seeds,
        )
        return locally_optimal_adaptation(
            self.models, batches.at(0), rank=RANK, scale=entrant.scale, size=entrant.start
        )

    def _at(
        self, entrant: Entrant, adaptation: LowRankAdaptation, rates: tuple[float, ...]
    ) -> tuple[Array, Array]:
        """Losses (R, S) and observations (R, T, S, ...): rates and seeds as one ensemble."""
        steps, count = self.setting["steps"], len(self.seeds)
        run = EnsembleTraining(
            self.corpus,
            adaptation,
            [(rate, seed) for rate in rates for seed in self.seeds],
            entrant.make,
            batch_size=self.setting["batch"],
            schedule=linear_decay(steps, warmup=steps // 10),
            evaluation_tokens=self.setting["evaluation"],
            dtype=self.setting.dtype(torch.float32),
            device=self.setting.device,
        )
        observed = []
        for step in self.recorded.tolist():
            run.run(step, validate_at=[0, steps])
            observed.append(self.observe(run))
        by_rate = torch.stack(observed).unflatten(1, (len(rates), count)).transpose(0, 1)
        validation = run.record.validation
        self.start_loss = float(validation[0].mean())
        # A run that lost all members stops before its end.
        ended = validation.get(steps, torch.full((len(rates) * count,), torch.nan))
        losses = ended.reshape(len(rates), count).double()
        return losses.numpy(), by_rate.numpy()
