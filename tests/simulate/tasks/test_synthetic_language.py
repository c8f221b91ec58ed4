"""The language is what its page says: words by topic, brackets by their kind."""

from __future__ import annotations

import re
from collections import Counter

import pytest
import torch

from simulate.tasks import BracketLanguage, Corpus, synthetic_corpus

OPENERS, CLOSERS = "([{", ")]}"


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return synthetic_corpus(train=60_000, validation=40_000)


def test_brackets_are_closed_by_their_kind_and_words_are_the_topic_s(corpus: Corpus) -> None:
    language = BracketLanguage()
    topics = language.topics()
    text = corpus.decode(corpus.train)
    # From a place where the stack is known to be empty: three are open, and all are closed.
    text = text[re.search(r"[\])}]{3} ", text).end() :]  # type: ignore[union-attr]
    stack: list[int] = []
    deepest = 0
    words = Counter[tuple[int, str]]()
    for token in re.findall(r"[a-z]+(?=[^a-z])|[^a-z]", text):
        if token in OPENERS:
            stack.append(OPENERS.index(token))
            deepest = max(deepest, len(stack))
        elif token in CLOSERS:
            assert stack.pop() == CLOSERS.index(token)
        elif token != " ":
            number = stack[-1] + 1 if stack else 0
            assert token in topics[number]
            words[number, token] += 1
    assert deepest == language.depth
    for number, topic in enumerate(topics):
        total = sum(words[number, word] for word in topic)
        for word, chance in topic.items():
            error = (chance * (1 - chance) / total) ** 0.5
            assert abs(words[number, word] / total - chance) < 4.5 * error


def test_a_word_is_as_likely_as_its_topic_says() -> None:
    language = BracketLanguage(seed=5)
    automaton = language.automaton()
    for word, expected in language.topics()[0].items():
        state, chance = 0, 1.0
        for character in f"{word} ":
            token = language.vocabulary.index(character)
            chance *= float(automaton.probabilities[state, token])
            state = int(automaton.successors[state, token])
        assert state == 0
        assert chance == pytest.approx((1 - language.opening) * expected, rel=1e-12)


def test_the_corpus_says_what_it_is(corpus: Corpus) -> None:
    assert (corpus.train.shape, corpus.validation.shape) == ((60_000,), (40_000,))
    assert corpus.train.dtype is corpus.validation.dtype is torch.int64
    assert corpus.entropy_rate == BracketLanguage().automaton().entropy_rate
    assert len(corpus.vocabulary) == 33
    assert set(corpus.decode(corpus.train)) == set(corpus.vocabulary)


def test_a_corpus_is_a_function_of_its_seed(corpus: Corpus) -> None:
    again = synthetic_corpus(train=60_000, validation=40_000)
    assert torch.equal(again.train, corpus.train)
    assert torch.equal(again.validation, corpus.validation)
    other = synthetic_corpus(seed=1, train=60_000, validation=40_000)
    assert not torch.equal(other.train, corpus.train)
    assert other.entropy_rate == corpus.entropy_rate


def test_the_splits_agree_no_more_often_than_chance(corpus: Corpus) -> None:
    n = len(corpus.validation)
    agree = (corpus.train[:n] == corpus.validation).double()
    automaton = BracketLanguage().automaton()
    chance = float(((automaton.stationary @ automaton.probabilities) ** 2).sum())
    parts = agree.reshape(100, -1).mean(1)
    error = float(parts.std() / len(parts) ** 0.5)
    assert error < 0.01
    assert abs(float(parts.mean()) - chance) < 4 * error


def test_another_seed_is_another_language_of_the_same_kind() -> None:
    one, other = BracketLanguage(seed=1), BracketLanguage(seed=2)
    assert one.topics() != other.topics()
    assert one.vocabulary == other.vocabulary
    rates = [language.automaton().entropy_rate for language in (one, other)]
    assert rates[0] != rates[1]
    assert rates[0] == pytest.approx(rates[1], rel=0.15)


def test_four_kinds_and_no_depth_beyond_one() -> None:
    language = BracketLanguage(kinds=4, depth=1)
    assert language.vocabulary.startswith(" ()[]{}<>abc")
    corpus = synthetic_corpus(language.automaton(), train=5000, validation=100)
    assert not re.search(r"[\[({<][^\])}>]*[\[({<]", corpus.decode(corpus.train))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"syllables": 20}, r"syllables must lie in \[21, 105\], got 20"),
        ({"lexicon": 0}, "lexicon must be a positive int, got 0"),
        ({"lexicon": 401}, "lexicon must lie in"),
        ({"topic_words": 49}, r"topic_words must lie in \[1, 48\], got 49"),
        ({"kinds": 5}, r"kinds must lie in \[1, 4\], got 5"),
        ({"depth": 1.5}, "depth must be a positive int"),
        ({"opening": 0.0}, "opening must lie in"),
        ({"closing": 1.0}, "closing must lie in"),
    ],
)
def test_sizes_out_of_range_are_refused(given: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BracketLanguage(**given)  # type: ignore[arg-type]
