"""What is trained, and on what: transformers, image classifiers, quadratics, tensors, flows."""

from simulate.tasks.adaptation import LowRankAdaptation, Pretrained
from simulate.tasks.architecture import Architecture
from simulate.tasks.automaton import ProbabilisticAutomaton
from simulate.tasks.batches import Batches, evaluation_windows
from simulate.tasks.convolutional_classifier import ConvolutionalClassifier
from simulate.tasks.corpus import (
    AlteredCorpusError,
    Corpus,
    CorpusError,
    MissingCorpusError,
    UnknownCharactersError,
    UnreadableCorpusError,
    text_corpus,
)
from simulate.tasks.digits import Digits
from simulate.tasks.factorization import Iterates, iterate
from simulate.tasks.image_classifier import ImageClassifier, Perceptron
from simulate.tasks.images import LabelledImages, Textures
from simulate.tasks.noisy_quadratic import NoisyQuadratic
from simulate.tasks.planted_tensors import planted_tensors
from simulate.tasks.shakespeare import tiny_shakespeare
from simulate.tasks.synthetic_language import BracketLanguage, synthetic_corpus
from simulate.tasks.tensor_completion import TensorCompletion
from simulate.tasks.tensor_models import Entries, Tucker
from simulate.tasks.tensor_regression import TensorRegression
from simulate.tasks.transformer import CharacterTransformer, ParameterRoles

__all__ = [
    "AlteredCorpusError",
    "Architecture",
    "Batches",
    "BracketLanguage",
    "CharacterTransformer",
    "ConvolutionalClassifier",
    "Corpus",
    "CorpusError",
    "Digits",
    "Entries",
    "ImageClassifier",
    "Iterates",
    "LabelledImages",
    "LowRankAdaptation",
    "MissingCorpusError",
    "NoisyQuadratic",
    "ParameterRoles",
    "Perceptron",
    "Pretrained",
    "ProbabilisticAutomaton",
    "TensorCompletion",
    "TensorRegression",
    "Textures",
    "Tucker",
    "UnknownCharactersError",
    "UnreadableCorpusError",
    "evaluation_windows",
    "iterate",
    "planted_tensors",
    "synthetic_corpus",
    "text_corpus",
    "tiny_shakespeare",
]
