"""What models are trained on: corpora, and the batches drawn from them."""

from simulate.tasks.automaton import ProbabilisticAutomaton
from simulate.tasks.batches import Batches, evaluation_windows
from simulate.tasks.corpus import (
    AlteredCorpusError,
    Corpus,
    CorpusError,
    MissingCorpusError,
    UnknownCharactersError,
    UnreadableCorpusError,
    text_corpus,
)
from simulate.tasks.noisy_quadratic import NoisyQuadratic
from simulate.tasks.shakespeare import tiny_shakespeare
from simulate.tasks.synthetic_language import BracketLanguage, synthetic_corpus

__all__ = [
    "AlteredCorpusError",
    "Batches",
    "BracketLanguage",
    "Corpus",
    "CorpusError",
    "MissingCorpusError",
    "NoisyQuadratic",
    "ProbabilisticAutomaton",
    "UnknownCharactersError",
    "UnreadableCorpusError",
    "evaluation_windows",
    "synthetic_corpus",
    "text_corpus",
    "tiny_shakespeare",
]
