"""What is trained, and on what: a transformer, corpora, and the batches drawn from them."""

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
    "LowRankAdaptation",
    "MissingCorpusError",
    "NoisyQuadratic",
    "ParameterRoles",
    "Pretrained",
    "ProbabilisticAutomaton",
    "UnknownCharactersError",
    "UnreadableCorpusError",
    "evaluation_windows",
    "synthetic_corpus",
    "text_corpus",
    "tiny_shakespeare",
]
