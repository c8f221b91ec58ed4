"""What is trained, and on what: a transformer, a perceptron, quadratics, the flows' problem."""

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
from simulate.tasks.image_classifier import ImageClassifier
from simulate.tasks.images import LabelledImages, Textures
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
    "ImageClassifier",
    "Iterates",
    "LabelledImages",
    "LowRankAdaptation",
    "MissingCorpusError",
    "NoisyQuadratic",
    "ParameterRoles",
    "Pretrained",
    "ProbabilisticAutomaton",
    "Textures",
    "UnknownCharactersError",
    "UnreadableCorpusError",
    "evaluation_windows",
    "iterate",
    "synthetic_corpus",
    "text_corpus",
    "tiny_shakespeare",
]
