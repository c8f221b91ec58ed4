"""What is trained, and on what: a transformer on corpora, a quadratic, the flows' problem."""

from simulate.tasks.adaptation import LowRankAdaptation, Pretrained
from simulate.tasks.architecture import Architecture
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
from simulate.tasks.factorization import Iterates, iterate
from simulate.tasks.noisy_quadratic import NoisyQuadratic
from simulate.tasks.shakespeare import tiny_shakespeare
from simulate.tasks.synthetic_language import BracketLanguage, synthetic_corpus
from simulate.tasks.transformer import CharacterTransformer, ParameterRoles

__all__ = [
    "AlteredCorpusError",
    "Architecture",
    "Batches",
    "BracketLanguage",
    "CharacterTransformer",
    "Corpus",
    "CorpusError",
    "Iterates",
    "LowRankAdaptation",
    "MissingCorpusError",
    "NoisyQuadratic",
    "ParameterRoles",
    "Pretrained",
    "ProbabilisticAutomaton",
    "UnknownCharactersError",
    "UnreadableCorpusError",
    "evaluation_windows",
    "iterate",
    "synthetic_corpus",
    "text_corpus",
    "tiny_shakespeare",
]
