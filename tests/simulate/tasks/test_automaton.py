"""Entropies against enumeration, known processes and samples; samples against the process."""

from __future__ import annotations

import math
import re
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from simulate.tasks import BracketLanguage, ProbabilisticAutomaton, evaluation_windows
from tests.simulate.tasks.tiny import (
    dense_stationary,
    entropy,
    even_process,
    random_automaton,
    text_probabilities,
)

STANDARD_ERRORS = 4.0


@pytest.fixture(scope="module")
def language() -> ProbabilisticAutomaton:
    return BracketLanguage().automaton()


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@settings(deadline=None, max_examples=25)
@given(states=st.integers(1, 5), characters=st.integers(2, 3), seed=st.integers(0, 999))
def test_block_entropies_are_those_of_an_enumeration(
    states: int, characters: int, seed: int
) -> None:
    automaton = random_automaton(states, characters, seed)
    exact = automaton.block_entropies(5)
    enumerated = [entropy(text_probabilities(automaton, length)) for length in range(6)]
    assert exact.tolist() == pytest.approx(enumerated, abs=1e-12)
    assert automaton.context_optima(4).tolist() == pytest.approx(
        [after - before for before, after in pairwise(enumerated)], abs=1e-12
    )


@settings(deadline=None, max_examples=50)
@given(states=st.integers(1, 9), seed=st.integers(0, 999))
def test_the_stationary_distribution_is_the_dense_null_vector(states: int, seed: int) -> None:
    automaton = random_automaton(states, 4, seed)
    assert automaton.stationary.tolist() == pytest.approx(
        dense_stationary(automaton).tolist(), abs=1e-12
    )


def test_the_language_s_stationary_distribution_stays(language: ProbabilisticAutomaton) -> None:
    flow = language.stationary[:, None] * language.probabilities
    after = torch.zeros(language.states, dtype=torch.float64)
    after.index_add_(0, language.successors.flatten(), flow.flatten())
    assert float((after - language.stationary).abs().max()) < 1e-15
    assert float(language.stationary.min()) > 0


def test_the_even_process_has_its_known_entropy_rate() -> None:
    automaton = even_process()
    assert automaton.stationary.tolist() == pytest.approx([2 / 3, 1 / 3], abs=1e-15)
    assert automaton.entropy_rate == pytest.approx(2 / 3 * math.log(2), abs=1e-15)


def test_block_entropy_differences_of_an_enumeration_come_to_the_entropy_rate() -> None:
    """What the even process has above its rate halves with every two characters of context."""
    automaton = even_process()
    blocks = [entropy(text_probabilities(automaton, length)) for length in range(13)]
    enumerated = [after - before for before, after in pairwise(blocks)]
    assert 2 * enumerated[11] - enumerated[9] == pytest.approx(automaton.entropy_rate, abs=1e-12)
    assert enumerated[11] - automaton.entropy_rate < 0.005 < enumerated[9] - automaton.entropy_rate


def test_a_process_with_one_state_has_one_optimum() -> None:
    chances = torch.tensor([[0.5, 0.25, 0.25]], dtype=torch.float64)
    automaton = ProbabilisticAutomaton("xyz", chances, torch.zeros(1, 3, dtype=torch.int64))
    assert automaton.context_optima(3).tolist() == pytest.approx([1.5 * math.log(2)] * 4, abs=1e-15)
    assert automaton.entropy_rate == pytest.approx(1.5 * math.log(2), abs=1e-15)
    assert automaton.state_entropy == 0.0


def test_more_context_helps_the_language_down_to_its_rate(language: ProbabilisticAutomaton) -> None:
    optima = language.context_optima(5)
    assert bool((optima.diff() < 0).all())
    assert float(optima[-1]) > language.entropy_rate
    lengths = torch.arange(7)
    excess = language.block_entropies(6) - lengths * language.entropy_rate
    assert bool((excess <= language.state_entropy).all())


def test_the_language_s_bigram_optimum_is_that_of_its_pairs(
    language: ProbabilisticAutomaton,
) -> None:
    first = language.stationary[:, None] * language.probabilities
    pairs = torch.einsum("sc,scd->cd", first, language.probabilities[language.successors])
    conditional = -(pairs * (pairs / pairs.sum(1, keepdim=True)).log()).nansum()
    assert float(language.context_optima(1)[1]) == pytest.approx(float(conditional), abs=1e-13)


def test_the_true_model_pays_the_entropy_rate(language: ProbabilisticAutomaton) -> None:
    tokens, states = language.paths(4000, 100, seeded(0))
    chances = language.probabilities[states[:, :-1], tokens]
    per_path = -chances.log().mean(1)
    error = float(per_path.std() / len(per_path) ** 0.5)
    assert error < 0.002
    assert abs(float(per_path.mean()) - language.entropy_rate) < STANDARD_ERRORS * error
    assert torch.equal(language.successors[states[:, :-1], tokens], states[:, 1:])


def test_paths_are_stationary_from_first_to_last() -> None:
    automaton = random_automaton(5, 3, seed=3)
    streams = 20_000
    _, states = automaton.paths(streams, 30, seeded(1))
    expected = automaton.stationary * streams
    for time in (0, 1, 7, 30):
        counts = torch.bincount(states[:, time], minlength=5)
        z = (counts - expected) / (expected * (1 - automaton.stationary)).sqrt()
        assert float(z.abs().max()) < STANDARD_ERRORS


def test_optimal_losses_are_those_of_an_enumeration() -> None:
    automaton = random_automaton(4, 3, seed=2)
    chances = {text: p for n in range(1, 6) for text, p in text_probabilities(automaton, n).items()}
    tokens, _ = automaton.paths(40, 5, seeded(0))
    expected = [
        [math.log(chances[tuple(text[:n])] / chances[tuple(text[: n + 1])]) for n in range(1, 5)]
        for text in tokens.tolist()
    ]
    losses = automaton.optimal_losses(tokens[:, :-1], tokens[:, 1:])
    assert losses.tolist() == [pytest.approx(row, abs=1e-12) for row in expected]
    one = automaton.optimal_losses(tokens[0, :-1], tokens[0, 1:])
    assert torch.equal(one, losses[0])


def test_optimal_losses_average_to_the_context_optima(language: ProbabilisticAutomaton) -> None:
    tokens, _ = language.paths(3000, 6, seeded(5))
    losses = language.optimal_losses(tokens[:, :-1], tokens[:, 1:])
    error = losses.std(0) / len(losses) ** 0.5
    assert float(error.max()) < 0.03
    off = (losses.mean(0) - language.context_optima(5)[1:]).abs()
    assert bool((off < STANDARD_ERRORS * error).all())


def test_a_long_path_has_no_seams(language: ProbabilisticAutomaton) -> None:
    """Followed from all states at once: at a seam none would be left, or a loss would be wrong."""
    successors, chances = language.successors.tolist(), language.probabilities.tolist()
    possible, losses = set(range(language.states)), []
    for character in language.sample(200_000, seeded(0)).tolist():
        if len(possible) == 1:
            (state,) = possible
            losses.append(-math.log(chances[state][character]))
        possible = {successors[s][character] for s in possible if chances[s][character] > 0}
        assert possible
    assert len(losses) > 199_000
    # Means of long stretches are close to independent.
    parts = torch.tensor(losses[:199_000]).reshape(199, 1000).mean(1)
    error = float(parts.std() / len(parts) ** 0.5)
    assert error < 0.005
    assert abs(float(parts.mean()) - language.entropy_rate) < STANDARD_ERRORS * error


def test_a_long_path_has_the_frequencies_of_the_process(language: ProbabilisticAutomaton) -> None:
    path = language.sample(400_000, seeded(0))
    shares = torch.nn.functional.one_hot(path, len(language.vocabulary)).double()
    parts = shares.reshape(100, 4000, -1).mean(1)
    expected = language.stationary @ language.probabilities
    error = parts.std(0) / len(parts) ** 0.5
    assert float((error / expected).max()) < 0.1
    assert bool(((parts.mean(0) - expected).abs() < STANDARD_ERRORS * error).all())


@pytest.mark.parametrize("length", [1, 2, 255, 256, 257, 5000])
def test_a_sample_has_its_length_and_is_a_function_of_its_seed(length: int) -> None:
    automaton = random_automaton(4, 3, seed=1)
    path = automaton.sample(length, seeded(3))
    assert path.shape == (length,)
    assert path.dtype is torch.int64
    torch.manual_seed(length)  # the global generator has no say
    assert torch.equal(path, automaton.sample(length, seeded(3)))
    if length > 100:
        assert not torch.equal(path, automaton.sample(length, seeded(4)))


def test_windows_pay_more_than_the_rate_and_no_more_than_the_bound(
    language: ProbabilisticAutomaton,
) -> None:
    length = 64
    windows = evaluation_windows(language.sample(200_000, seeded(2)), length=length)
    per_window = language.optimal_losses(*windows).mean(1)
    error = float(per_window.std() / len(per_window) ** 0.5)
    mean = float(per_window.mean())
    assert mean > language.entropy_rate + STANDARD_ERRORS * error
    assert mean < language.entropy_rate + language.state_entropy / length + STANDARD_ERRORS * error


def test_too_many_entries_are_refused_before_they_are_made() -> None:
    automaton = random_automaton(5, 8, seed=0)
    with pytest.raises(ValueError, match=r"longest: at most \d+ for this automaton, got 60"):
        automaton.block_entropies(60)


HALVES = torch.full((2, 2), 0.5, dtype=torch.float64)
SWAP = torch.tensor([[0, 1], [0, 1]])


@pytest.mark.parametrize(
    ("vocabulary", "probabilities", "successors", "message"),
    [
        ("aa", HALVES, SWAP, "vocabulary: distinct characters"),
        ("abc", HALVES, SWAP, "probabilities: shape (states, 3) and torch.float64"),
        ("ab", HALVES.float(), SWAP, "got (2, 2) and torch.float32"),
        ("ab", HALVES, SWAP[:1], "successors: shape (2, 2) is expected, got (1, 2)"),
        ("ab", HALVES, SWAP.int(), "successors: shape (states, 2) and torch.int64"),
        ("ab", 0.9 * HALVES, SWAP, "rows that are distributions"),
        ("ab", HALVES * torch.tensor([-1.0, 3.0]), SWAP, "rows that are distributions"),
        ("ab", HALVES * math.nan, SWAP, "rows that are distributions"),
        ("ab", HALVES, SWAP + 1, "successors: states 0..1 are expected"),
        ("ab", HALVES, 0 * SWAP, "all states must reach one another, got 2 parts"),
    ],
)
def test_tables_that_are_no_automaton_are_refused(
    vocabulary: str, probabilities: torch.Tensor, successors: torch.Tensor, message: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        ProbabilisticAutomaton(vocabulary, probabilities, successors)


def test_windows_that_are_none_are_refused() -> None:
    automaton = even_process()
    text = torch.tensor([0, 1, 1, 0])
    with pytest.raises(ValueError, match="one shape"):
        automaton.optimal_losses(text, text[1:])
    with pytest.raises(ValueError, match="moved by one character"):
        automaton.optimal_losses(text, text)
    for stranger in (-1, 2):
        with pytest.raises(ValueError, match=r"targets: tokens in 0\.\.1 are expected"):
            automaton.optimal_losses(torch.tensor([0, 1]), torch.tensor([1, stranger]))
    with pytest.raises(ValueError, match="cannot produce"):
        automaton.optimal_losses(torch.tensor([0, 1]), torch.tensor([1, 0]))
