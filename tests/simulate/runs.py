"""Runs small enough for tests: a tiny language, a tiny model, and every optimiser on it."""

from __future__ import annotations

from functools import cache
from itertools import chain
from typing import Any

import torch

from simulate.optimizers import FactorMuon, LoRAMuon, MemberAdamW, Muon, Spectron
from simulate.tasks import Architecture, Corpus, ProbabilisticAutomaton, synthetic_corpus
from simulate.tasks.synthetic_language import BracketLanguage
from simulate.training import EnsembleTraining, MakeOptimizer

LANGUAGE = BracketLanguage(syllables=21, lexicon=8, topic_words=5, kinds=1, depth=1)
RANK = 4

# On pairs in a low-rank model.
PAIRS: dict[str, MakeOptimizer] = {
    "LoRAMuon": LoRAMuon,
    "FactorMuon": FactorMuon,
    "Spectron": Spectron,
    "AdamW on factors": lambda pairs, lr: MemberAdamW(list(chain(*pairs)), lr=lr),
}
# On matrices in a dense one.
MATRICES: dict[str, MakeOptimizer] = {
    "Muon": lambda matrices, lr: Muon(matrices, lr=lr, weight_decay=0.0, orthogonalizer="svd"),
    "AdamW": lambda matrices, lr: MemberAdamW(matrices, lr=lr),
}
OPTIMIZERS = {**PAIRS, **MATRICES}
# A rate at which each of them trains.
RATES = {name: 0.003 if "AdamW" in name else 0.05 for name in OPTIMIZERS}


@cache
def language() -> ProbabilisticAutomaton:
    return LANGUAGE.automaton()


@cache
def corpus() -> Corpus:
    return synthetic_corpus(language(), seed=0, train=20_000, validation=2_000)


def architecture(name: str, **sizes: Any) -> Architecture:
    """A small one, low-rank where the optimiser called ``name`` is one of pairs."""
    small = {"length": 16, "width": 16, "depth": 1, "heads": 2}
    rank = RANK if name in PAIRS else None
    return Architecture(len(language().vocabulary), **{**small, "rank": rank, **sizes})


def training(name: str, members: list[tuple[float, int]], **options: Any) -> EnsembleTraining:
    sizes = options.pop("sizes", {})
    defaults = {"batch_size": 4, "evaluation_tokens": 512, "dtype": torch.float64}
    return EnsembleTraining(
        corpus(),
        architecture(name, **sizes),
        members,
        options.pop("optimizer", OPTIMIZERS[name]),
        **{**defaults, **options},
    )
