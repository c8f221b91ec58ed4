"""Probabilistic automata: languages whose entropy is known exactly. All entropies are in nats.

An automaton here is unifilar: state and next character determine the next state. Then the entropy
rate of its stationary process is exactly sum_s pi(s) H(next character | s): n characters given the
first state have entropy n times that, and the first state adds at most H(pi), whatever n is.
"""

from __future__ import annotations

import math
from functools import cached_property

import numpy as np
import torch
from scipy import sparse
from scipy.sparse import csgraph
from scipy.sparse import linalg as sparse_linalg
from torch import Tensor

from geometry.errors import require_positive_int
from simulate.tasks import walking

MOST_PAIRS = 5_000_000
WINDOWS_AT_ONCE = 1024


class ProbabilisticAutomaton:
    """A unifilar automaton over characters, and its stationary process.

    Args:
        vocabulary: V distinct characters; a token is an index into them.
        probabilities: (S, V) float64, of the next character given the state; rows sum to one.
        successors: (S, V) int64, the next state; read only where the probability is positive.

    Raises:
        ValueError: for tables of other shapes, rows that are no distributions, successors out of
            range, or states that do not all reach one another.
    """

    def __init__(self, vocabulary: str, probabilities: Tensor, successors: Tensor) -> None:
        _require_tables(vocabulary, probabilities, successors)
        self.vocabulary = vocabulary
        self.probabilities = probabilities / probabilities.sum(1, keepdim=True)
        self.successors = successors.where(probabilities > 0, torch.zeros_like(successors))
        pieces = csgraph.connected_components(self._transitions, True, "strong")[0]
        if pieces != 1:
            raise ValueError(f"successors: all states must reach one another, got {pieces} parts")

    @property
    def states(self) -> int:
        """S, the number of states."""
        return len(self.probabilities)

    @cached_property
    def stationary(self) -> Tensor:
        """(S,) float64: the stationary distribution, from a sparse direct solve."""
        # With pi of the last state set to one the others solve a regular sparse system.
        flow = (sparse.identity(self.states, format="csc") - self._transitions.T).tocsc()
        pi = np.ones(self.states)
        if self.states > 1:
            pi[:-1] = sparse_linalg.spsolve(flow[:-1, :-1], -flow[:-1, -1].toarray().ravel())
        return torch.from_numpy(pi / pi.sum())

    @cached_property
    def entropy_rate(self) -> float:
        """Nats per character: the least cross-entropy of any model, with any context."""
        return float(self.stationary @ torch.special.entr(self.probabilities).sum(1))

    @cached_property
    def state_entropy(self) -> float:
        """H(pi) in nats. A model that sees windows of n characters only, and predicts each of them,
        pays at most H(pi) / n more than the entropy rate."""
        return float(torch.special.entr(self.stationary).sum())

    def block_entropies(self, longest: int) -> Tensor:
        """(longest + 1,) float64: entropy in nats of 0, 1, ..., longest characters in a row.

        Exact: the joint distribution of the characters and the state after them is carried along.

        Raises:
            ValueError: where that takes more than five million entries.
        """
        require_positive_int("longest", longest)
        state, next_state, character, probability = self._edges
        degree = torch.bincount(state, minlength=self.states)
        first_edge = degree.cumsum(0) - degree
        at, mass = torch.arange(self.states), self.stationary
        context = torch.zeros_like(at)
        entropies = [0.0]
        for length in range(1, longest + 1):
            ways = degree[at]
            if (pairs := int(ways.sum())) > MOST_PAIRS:
                raise ValueError(
                    f"longest: at most {length - 1} for this automaton, got {longest}; "
                    f"{length} characters take {pairs} entries of at most {MOST_PAIRS}"
                )
            row, edge = _spread(first_edge[at], ways)
            texts = context[row] * len(self.vocabulary) + character[edge]
            distinct, context = torch.unique(texts, return_inverse=True)
            keys, merged = torch.unique(
                context * self.states + next_state[edge], return_inverse=True
            )
            mass = _totals(mass[row] * probability[edge], merged, len(keys))
            context, at = keys // self.states, keys % self.states
            of_text = _totals(mass, context, len(distinct))
            entropies.append(float(torch.special.entr(of_text).sum()))
        return torch.tensor(entropies, dtype=torch.float64)

    def context_optima(self, longest: int) -> Tensor:
        """(longest + 1,) float64: the least cross-entropy of a model with little context. Exact.

        Entry k is in nats per character, of a model that sees the k characters before: k = 0 is
        unigrams, k = 1 bigrams. The entries decrease towards the entropy rate.
        """
        return self.block_entropies(longest + 1).diff()

    def optimal_losses(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """What the best model that sees only the window pays on given windows.

        It knows the language, but not the state in which a window begins, like a trained network.

        Args:
            inputs: (..., length) int64 tokens.
            targets: (..., length) int64, the token that follows each input.

        Returns:
            (..., length) float64 on the CPU, nats: minus the log-probability of each target given
            the inputs up to its place.

        Raises:
            ValueError: for shapes that differ, targets that do not follow the inputs, or windows
                that the language cannot produce.
        """
        if inputs.shape != targets.shape or not inputs.numel():
            raise ValueError(
                "inputs and targets: one shape (..., length) is expected, got "
                f"{tuple(inputs.shape)} and {tuple(targets.shape)}"
            )
        if not torch.equal(inputs[..., 1:], targets[..., :-1]):
            raise ValueError("targets: the inputs moved by one character are expected")
        for name, tokens in (("inputs", inputs), ("targets", targets)):
            if not 0 <= int(tokens.min()) <= int(tokens.max()) < len(self.vocabulary):
                raise ValueError(f"{name}: tokens in 0..{len(self.vocabulary) - 1} are expected")
        texts = torch.cat([inputs, targets[..., -1:]], -1).reshape(-1, inputs.shape[-1] + 1).cpu()
        parts = torch.split(texts, WINDOWS_AT_ONCE)
        losses = torch.cat([self._losses_after_the_first(part) for part in parts])
        return losses.reshape(inputs.shape)

    def paths(self, streams: int, length: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Independent stationary paths: tokens (streams, length) and states (streams, length + 1).

        ``states[:, i]`` is where ``tokens[:, i]`` was drawn.
        """
        require_positive_int("streams", streams)
        require_positive_int("length", length)
        return walking.paths(self, streams, length, generator)

    def sample(self, length: int, generator: torch.Generator) -> Tensor:
        """(length,) int64: one stationary path, a function of the length and the generator."""
        require_positive_int("length", length)
        return walking.long_path(self, length, generator)

    def _losses_after_the_first(self, texts: Tensor) -> Tensor:
        """(texts, length - 1) nats of each character but the first, given those before it."""
        # A state has one successor for each character, so a start is followed by itself; most are
        # ruled out by the first few characters.
        state, next_state, character, probability = self._edges
        by_character = character.argsort()
        count = torch.bincount(character, minlength=len(self.vocabulary))
        first = count.cumsum(0) - count
        text, place = _spread(first[texts[:, 0]], count[texts[:, 0]])
        edge = by_character[place]
        at, mass = next_state[edge], self.stationary[state[edge]] * probability[edge]
        chance = _totals(mass, text, len(texts))
        losses = []
        for tokens in texts.T[1:]:
            mass, drawn = mass / chance[text], tokens[text]
            mass = mass * self.probabilities[at, drawn]
            chance = _totals(mass, text, len(texts))
            if not bool((chance > 0).all()):
                raise ValueError("inputs and targets: this language cannot produce some of them")
            losses.append(-chance.log())
            kept = mass > 0
            at, text, mass = self.successors[at[kept], drawn[kept]], text[kept], mass[kept]
        return torch.stack(losses, 1)

    @property
    def _edges(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """State, next state, character and probability of every possible move, by state."""
        state, character = self.probabilities.nonzero(as_tuple=True)
        place = (state, character)
        return state, self.successors[place], character, self.probabilities[place]

    @property
    def _transitions(self) -> sparse.csr_matrix:
        state, next_state, _, probability = (part.numpy() for part in self._edges)
        shape = (self.states, self.states)
        return sparse.csr_matrix((probability, (state, next_state)), shape=shape)


def _spread(first: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
    """Rows and places: for every row i the ``count[i]`` places from ``first[i]`` on."""
    row = torch.arange(len(count)).repeat_interleave(count)
    return row, torch.arange(len(row)) + (first - (count.cumsum(0) - count))[row]


def _totals(mass: Tensor, group: Tensor, groups: int) -> Tensor:
    """(groups,) float64: the sum of the mass in each group."""
    return torch.zeros(groups, dtype=torch.float64).index_add_(0, group, mass)


def _require_tables(vocabulary: str, probabilities: Tensor, successors: Tensor) -> None:
    if len(set(vocabulary)) != len(vocabulary):
        raise ValueError(f"vocabulary: distinct characters are expected, got {vocabulary!r}")
    size = len(vocabulary)
    for name, table, dtype in (
        ("probabilities", probabilities, torch.float64),
        ("successors", successors, torch.int64),
    ):
        if table.ndim != 2 or table.shape[1] != size or not len(table) or table.dtype != dtype:
            raise ValueError(
                f"{name}: shape (states, {size}) and {dtype} are expected, "
                f"got {tuple(table.shape)} and {table.dtype}"
            )
    if successors.shape != probabilities.shape:
        raise ValueError(
            f"successors: shape {tuple(probabilities.shape)} is expected, "
            f"got {tuple(successors.shape)}"
        )
    error = float((probabilities.sum(1) - 1).abs().max())
    if not (bool((probabilities >= 0).all()) and error < math.sqrt(torch.finfo().eps)):
        raise ValueError("probabilities: rows that are distributions are expected")
    reached = successors[probabilities > 0]
    if bool(((reached < 0) | (reached >= len(probabilities))).any()):
        raise ValueError(f"successors: states 0..{len(probabilities) - 1} are expected")
