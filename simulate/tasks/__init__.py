from simulate.tasks.corpus import (
    AlteredCorpusError,
    Corpus,
    CorpusError,
    MissingCorpusError,
    UnknownCharactersError,
    UnreadableCorpusError,
    text_corpus,
)

__all__ = [
    "AlteredCorpusError",
    "Corpus",
    "CorpusError",
    "MissingCorpusError",
    "UnknownCharactersError",
    "UnreadableCorpusError",
    "text_corpus",
]
