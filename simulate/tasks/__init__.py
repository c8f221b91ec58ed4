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
    "Corpus",
    "CorpusError",
    "MissingCorpusError",
    "UnknownCharactersError",
    "UnreadableCorpusError",
    "text_corpus",
    "tiny_shakespeare",
]
