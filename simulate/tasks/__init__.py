"""What models are trained on: corpora, and the batches drawn from them."""

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
from simulate.tasks.shakespeare import tiny_shakespeare

__all__ = [
    "AlteredCorpusError",
    "Batches",
    "Corpus",
    "CorpusError",
    "MissingCorpusError",
    "UnknownCharactersError",
    "UnreadableCorpusError",
    "evaluation_windows",
    "text_corpus",
    "tiny_shakespeare",
]
