"""Automata small enough to enumerate, and their enumeration, by matrices, one text at a time."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor

from simulate.tasks import ProbabilisticAutomaton

Chances = dict[tuple[int, ...], float]


def random_automaton(states: int, characters: int, seed: int) -> ProbabilisticAutomaton:
    """Random rows with some zeros, and a ring among the moves, so that all states are reached."""
    generator = torch.Generator().manual_seed(seed)
    shape = (states, characters)
    probabilities = torch.rand(shape, generator=generator, dtype=torch.float64) + 0.05
    probabilities[:, 1:] *= torch.rand(states, characters - 1, generator=generator) < 0.7
    successors = torch.randint(states, shape, generator=generator)
    successors[:, 0] = (torch.arange(states) + 1) % states
    vocabulary = "abcdefgh"[:characters]
    return ProbabilisticAutomaton(
        vocabulary, probabilities / probabilities.sum(1, keepdim=True), successors
    )


def even_process() -> ProbabilisticAutomaton:
    """Runs of b between a's have even length; its entropy rate is 2/3 log 2."""
    return ProbabilisticAutomaton(
        "ab",
        torch.tensor([[0.5, 0.5], [0.0, 1.0]], dtype=torch.float64),
        torch.tensor([[0, 1], [0, 0]]),
    )


def text_probabilities(automaton: ProbabilisticAutomaton, length: int) -> Chances:
    """The probability of every text of a length: pi M_1 ... M_n 1, one matrix a character."""
    matrices = character_matrices(automaton)
    return {
        text: float(_product(dense_stationary(automaton), [matrices[c] for c in text]).sum())
        for text in itertools.product(range(len(automaton.vocabulary)), repeat=length)
    }


def character_matrices(automaton: ProbabilisticAutomaton) -> Tensor:
    """(V, S, S): entry (c, s, t) is the probability of character c and state t after state s."""
    states, characters = automaton.probabilities.shape
    matrices = torch.zeros(characters, states, states, dtype=torch.float64)
    for s in range(states):
        for c in range(characters):
            matrices[c, s, automaton.successors[s, c]] += automaton.probabilities[s, c]
    return matrices


def dense_stationary(automaton: ProbabilisticAutomaton) -> Tensor:
    """The left null vector of P - 1, by a dense singular value decomposition."""
    transitions = character_matrices(automaton).sum(0)
    left: Tensor = torch.linalg.svd(transitions - torch.eye(len(transitions)).double())[0]
    return left[:, -1] / left[:, -1].sum()


def entropy(probabilities: Chances) -> float:
    return -math.fsum(p * math.log(p) for p in probabilities.values() if p > 0)


def _product(row: Tensor, matrices: list[Tensor]) -> Tensor:
    for matrix in matrices:
        row = row @ matrix
    return row
