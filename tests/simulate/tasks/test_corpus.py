"""Corpora from files: what is read, and what is refused and how it is said."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from simulate.tasks import (
    Corpus,
    CorpusError,
    MissingCorpusError,
    UnknownCharactersError,
    UnreadableCorpusError,
    text_corpus,
)

LINES = "To be, or not to be,\nthat is the question:\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "hamlet.txt"
    path.write_bytes(LINES.encode())
    return path


def test_a_text_is_split_nine_to_one_and_comes_back(file: Path) -> None:
    corpus = text_corpus(file)
    assert (corpus.name, corpus.entropy_rate) == ("hamlet", None)
    assert corpus.vocabulary == "".join(sorted(set(LINES)))
    assert (len(corpus.train), len(corpus.validation)) == (38, 5)
    assert corpus.train.dtype is corpus.validation.dtype is torch.int64
    assert corpus.decode(torch.cat([corpus.train, corpus.validation])) == LINES


@given(text=st.text(alphabet="abcé\r\n ✓", max_size=30))
def test_decoding_undoes_encoding(text: str) -> None:
    nothing = torch.empty(0, dtype=torch.int64)
    corpus = Corpus("any", "✓ \r\néabc", nothing, nothing)
    tokens = corpus.encode(text)
    assert tokens.shape == (len(text),)
    assert tokens.dtype is torch.int64
    assert corpus.decode(tokens) == text


def test_line_ends_are_left_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "windows.txt"
    path.write_bytes(b"one\r\ntwo\r\n" * 3)
    corpus = text_corpus(path)
    assert len(corpus.train) + len(corpus.validation) == 30
    assert "\r" in corpus.vocabulary


def test_another_vocabulary_is_kept_and_its_strangers_are_named(file: Path) -> None:
    vocabulary = "".join(sorted(set(LINES))) + "Z"
    assert text_corpus(file, vocabulary).vocabulary == vocabulary
    with pytest.raises(UnknownCharactersError) as caught:
        text_corpus(file, vocabulary.replace(",", "").replace("T", ""))
    assert caught.value.counts == Counter({",": 2, "T": 1})
    assert str(caught.value) == (
        f"{file}: 3 characters are outside of the vocabulary: ',' (2 times), 'T' (1 times)"
    )


def test_many_strangers_are_cut_short() -> None:
    nothing = torch.empty(0, dtype=torch.int64)
    with pytest.raises(UnknownCharactersError, match=r"text: 26 characters .* and 16 others"):
        Corpus("any", "0", nothing, nothing).encode("abcdefghijklmnopqrstuvwxyz")


@pytest.mark.parametrize("token", [-1, 3])
def test_tokens_out_of_range_are_refused(token: int) -> None:
    nothing = torch.empty(0, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"tokens in 0\.\.2 are expected"):
        Corpus("any", "abc", nothing, nothing).decode(torch.tensor([1, token]))


def test_files_that_are_no_corpus_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingCorpusError, match="there is no file") as missing:
        text_corpus(tmp_path / "none.txt")
    assert isinstance(missing.value, CorpusError)
    assert isinstance(missing.value, FileNotFoundError)
    path = tmp_path / "bytes.txt"
    path.write_bytes(b"\xff" * 100)
    with pytest.raises(UnreadableCorpusError, match="UTF-8 is expected") as unreadable:
        text_corpus(path)
    assert isinstance(unreadable.value, CorpusError)
    assert isinstance(unreadable.value, ValueError)
    path.write_bytes(b"x" * 19)
    with pytest.raises(UnreadableCorpusError, match="20 characters are expected, got 19"):
        text_corpus(path)
