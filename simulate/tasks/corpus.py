"""Text for character-level language models: tokens, their characters, and a split."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

TRAIN_SHARE = 0.9
NAMED_AT_MOST = 10


class CorpusError(Exception):
    """A corpus could not be had; what is raised is one of the errors below."""


class MissingCorpusError(CorpusError, FileNotFoundError):
    """The file is not there, or cannot be fetched."""


class AlteredCorpusError(CorpusError, ValueError):
    """The file is not the one that it should be.

    Attributes:
        given, expected: SHA-256 of its content and of the right content, in hexadecimal.
    """

    def __init__(self, message: str, given: str, expected: str) -> None:
        super().__init__(f"{message}: SHA-256 {expected} is expected, got {given}")
        self.given, self.expected = given, expected


class UnreadableCorpusError(CorpusError, ValueError):
    """The file is no text in UTF-8, or too short to be split."""


class UnknownCharactersError(CorpusError, ValueError):
    """A text has characters outside of the vocabulary.

    Attributes:
        counts: how often each of them occurs.
    """

    def __init__(self, name: str, counts: Counter[str]) -> None:
        named = ", ".join(f"{c!r} ({n} times)" for c, n in counts.most_common(NAMED_AT_MOST))
        more = len(counts) - NAMED_AT_MOST
        super().__init__(
            f"{name}: {counts.total()} characters are outside of the vocabulary: {named}"
            + (f" and {more} others" if more > 0 else "")
        )
        self.counts = counts


@dataclass(frozen=True, eq=False)
class Corpus:
    """A text as tokens, split into a part to train on and a part to validate on.

    Attributes:
        name: what it is called in messages and results.
        vocabulary: V distinct characters; a token is an index into them.
        train, validation: (n,) int64 tokens on the CPU.
        entropy_rate: nats per character, the least cross-entropy there is; None where unknown.
    """

    name: str
    vocabulary: str
    train: Tensor
    validation: Tensor
    entropy_rate: float | None = None

    @cached_property
    def digests(self) -> tuple[str, str]:
        """SHA-256 of the tokens to train and to validate on, in hexadecimal."""
        train, validation = (
            hashlib.sha256(part.numpy().tobytes()).hexdigest()
            for part in (self.train, self.validation)
        )
        return train, validation

    def encode(self, text: str) -> Tensor:
        """(len(text),) int64 tokens.

        Raises:
            UnknownCharactersError: for characters outside of the vocabulary.
        """
        return encode(text, self.vocabulary, "text")

    def decode(self, tokens: Tensor) -> str:
        """The text of tokens (n,).

        Raises:
            ValueError: for tokens outside of 0..V - 1.
        """
        indices = tokens.tolist()
        if indices and not 0 <= min(indices) <= max(indices) < len(self.vocabulary):
            raise ValueError(
                f"tokens in 0..{len(self.vocabulary) - 1} are expected, "
                f"got {min(indices)}..{max(indices)}"
            )
        return "".join(self.vocabulary[index] for index in indices)


def encode(text: str, vocabulary: str, name: str) -> Tensor:
    """(len(text),) int64 tokens of a text, called ``name`` where it has unknown characters."""
    counts = Counter(text)
    unknown = Counter({c: n for c, n in counts.items() if c not in vocabulary})
    if unknown:
        raise UnknownCharactersError(name, unknown)
    tokens = {character: i for i, character in enumerate(vocabulary)}
    return torch.tensor([tokens[character] for character in text], dtype=torch.int64)


def text_corpus(path: str | Path, vocabulary: str | None = None) -> Corpus:
    """The corpus in a UTF-8 text file: the first nine tenths to train on, the rest to validate on.

    Args:
        path: the file.
        vocabulary: the characters of a model that was trained on another corpus, for fine-tuning;
            by default the characters of the file in order of their code points.

    Raises:
        MissingCorpusError: no such file.
        UnreadableCorpusError: no text in UTF-8, or fewer than 20 characters.
        UnknownCharactersError: characters outside of the given vocabulary, named and counted.
    """
    path = Path(path)
    return corpus_of_bytes(read_corpus_file(path), path.stem, vocabulary, str(path))


def read_corpus_file(path: Path) -> bytes:
    """The content of a file. Raises MissingCorpusError where there is none."""
    if not path.is_file():
        raise MissingCorpusError(f"corpus: there is no file {path}")
    return path.read_bytes()


def corpus_of_bytes(content: bytes, name: str, vocabulary: str | None, origin: str) -> Corpus:
    """The corpus that a file's content is; ``origin`` names the file in errors."""
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UnreadableCorpusError(f"{origin}: text in UTF-8 is expected; {error}") from error
    if len(text) < 20:
        raise UnreadableCorpusError(f"{origin}: 20 characters are expected, got {len(text)}")
    characters = "".join(sorted(set(text))) if vocabulary is None else vocabulary
    tokens = encode(text, characters, origin)
    cut = int(TRAIN_SHARE * len(tokens))
    return Corpus(name, characters, tokens[:cut], tokens[cut:])
