"""A character language made for these checks: words, topics and nested brackets.

Its words are syllables put together. What words are likely depends on the topic, and the topic is
the kind of the innermost open bracket; a bracket must be closed by its own kind, and then the topic
around it comes back. So the next character depends on the word so far, on the innermost bracket,
which may be many words back, and after a closing bracket on the one that was open around it. None
of this is in the last one or two characters, and all of it is in the state of an automaton.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from geometry.errors import require_between, require_positive_int
from simulate.tasks.automaton import ProbabilisticAutomaton
from simulate.tasks.corpus import Corpus

VOWELS = "aeiou"
CONSONANTS = "bcdfghjklmnpqrstvwxyz"
BRACKETS = ("()", "[]", "{}", "<>")
# The state after a closing bracket, beside those of a word so far.
CLOSED = ")"

State = tuple[tuple[int, ...], str]
Move = tuple[str, float, State]


@dataclass(frozen=True)
class BracketLanguage:
    """What a language of words in nested brackets is made from; ``automaton()`` makes it.

    Args:
        seed: of the words and of the topics.
        syllables: number of syllables, each a consonant and a vowel, 21 to 105.
        lexicon: number of words, each of two or three syllables, up to 400.
        topic_words: number of words that a topic uses, with Zipf's weights 1, 1/2, 1/3, ...
        kinds: number of bracket kinds, 1 to 4; each is a topic, and so is no bracket.
        depth: most brackets open at once.
        opening: probability of an opening bracket where a word may begin, below full depth.
        closing: probability of a closing bracket after a word or a bracket, inside of brackets.

    Raises:
        ValueError: for sizes below one, more words a topic than words, other numbers of kinds,
            probabilities outside [0.001, 0.999].
    """

    seed: int = 0
    syllables: int = 30
    lexicon: int = 48
    topic_words: int = 24
    kinds: int = 3
    depth: int = 3
    opening: float = 0.2
    closing: float = 0.25

    def __post_init__(self) -> None:
        for name in ("syllables", "lexicon", "topic_words", "kinds", "depth"):
            require_positive_int(name, getattr(self, name))
        require_between("syllables", self.syllables, len(CONSONANTS), len(CONSONANTS) * len(VOWELS))
        require_between("lexicon", self.lexicon, 1, 400)
        require_between("topic_words", self.topic_words, 1, self.lexicon)
        require_between("kinds", self.kinds, 1, len(BRACKETS))
        for name in ("opening", "closing"):
            require_between(name, getattr(self, name), 0.001, 0.999)

    @property
    def vocabulary(self) -> str:
        """The characters: the space, the brackets and the letters."""
        return " " + "".join(BRACKETS[: self.kinds]) + "".join(sorted(VOWELS + CONSONANTS))

    def topics(self) -> list[dict[str, float]]:
        """The words of each topic with their probabilities: first of no bracket, then of each."""
        generator = torch.Generator().manual_seed(self.seed)
        words = self._words(generator)
        zipf = 1 / torch.arange(1, self.topic_words + 1, dtype=torch.float64)
        chances = (zipf / zipf.sum()).tolist()
        topics = []
        for _ in range(self.kinds + 1):
            order = torch.randperm(self.lexicon, generator=generator).tolist()
            topics.append({words[i]: p for i, p in zip(order, chances, strict=False)})
        return topics

    def _words(self, generator: torch.Generator) -> list[str]:
        """The lexicon: different words of two or three syllables, with a syllable a consonant."""
        vowels = torch.randint(len(VOWELS), (len(CONSONANTS),), generator=generator).tolist()
        syllables = [c + VOWELS[v] for c, v in zip(CONSONANTS, vowels, strict=True)]
        others = [c + v for c in CONSONANTS for v in VOWELS if c + v not in syllables]
        order = torch.randperm(len(others), generator=generator).tolist()
        syllables += [others[i] for i in order[: self.syllables - len(syllables)]]
        words: dict[str, None] = {}
        while len(words) < self.lexicon:
            length = int(torch.randint(2, 4, (), generator=generator))
            drawn = torch.randint(len(syllables), (length,), generator=generator).tolist()
            words["".join(syllables[i] for i in drawn)] = None
        return list(words)

    def automaton(self) -> ProbabilisticAutomaton:
        """The language as an automaton; a state is the open brackets and the word so far."""
        prefixes = [_prefixes(topic) for topic in self.topics()]
        start: State = ((), "")
        numbers = {start: 0}
        table: list[list[Move]] = []
        found = [start]
        for state in found:  # grows while it is read
            table.append(list(self._moves(state, prefixes)))
            for _, _, after in table[-1]:
                if after not in numbers:
                    numbers[after] = len(found)
                    found.append(after)
        place = {character: i for i, character in enumerate(self.vocabulary)}
        probabilities = torch.zeros(len(found), len(place), dtype=torch.float64)
        successors = torch.zeros(len(found), len(place), dtype=torch.int64)
        rows, columns, chances, targets = zip(
            *(
                (i, place[character], chance, numbers[after])
                for i, moves in enumerate(table)
                for character, chance, after in moves
            ),
            strict=True,
        )
        at = torch.tensor(rows), torch.tensor(columns)
        probabilities[at] = torch.tensor(chances, dtype=torch.float64)
        successors[at] = torch.tensor(targets)
        return ProbabilisticAutomaton(self.vocabulary, probabilities, successors)

    def _moves(self, state: State, prefixes: list[dict[str, dict[str, float]]]) -> Iterator[Move]:
        """Every character that may come next, its probability and the state it leads to."""
        stack, word = state
        ending = 1.0
        if word != CLOSED:
            opening = self.opening if not word and len(stack) < self.depth else 0.0
            if opening:
                for kind in range(self.kinds):
                    yield BRACKETS[kind][0], opening / self.kinds, ((*stack, kind), "")
            following = prefixes[stack[-1] + 1 if stack else 0][word]
            ending = following.get("", 0.0)
            for letter, chance in following.items():
                if letter:
                    yield letter, (1 - opening) * chance, (stack, word + letter)
        if ending:
            closing = self.closing if stack else 0.0
            yield " ", ending * (1 - closing), (stack, "")
            if stack:
                yield BRACKETS[stack[-1]][1], ending * closing, (stack[:-1], CLOSED)


def synthetic_corpus(
    automaton: ProbabilisticAutomaton | None = None,
    *,
    seed: int = 0,
    train: int = 1_000_000,
    validation: int = 100_000,
) -> Corpus:
    """A corpus drawn from an automaton, by default the one of ``BracketLanguage()``.

    Training and validation text are independent stationary samples, of the given lengths in
    characters; the seed is theirs alone, the language stays what it is.
    """
    automaton = BracketLanguage().automaton() if automaton is None else automaton
    generator = torch.Generator().manual_seed(seed)
    first, second = (automaton.sample(length, generator) for length in (train, validation))
    return Corpus("synthetic", automaton.vocabulary, first, second, automaton.entropy_rate)


def _prefixes(topic: dict[str, float]) -> dict[str, dict[str, float]]:
    """For each beginning of a word, what follows and how likely: a letter, or "" for the end."""
    following: dict[str, dict[str, float]] = {}
    for word, chance in topic.items():
        for i in range(len(word) + 1):
            tally = following.setdefault(word[:i], {})
            tally[word[i : i + 1]] = tally.get(word[i : i + 1], 0.0) + chance
    return {
        beginning: {letter: chance / sum(tally.values()) for letter, chance in tally.items()}
        for beginning, tally in following.items()
    }
