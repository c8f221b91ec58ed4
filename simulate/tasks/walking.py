"""Drawing from a probabilistic automaton, many streams at once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor

MOST_STREAMS = 2048
SHORTEST_STREAM = 256
STEPS_AT_ONCE = 64


class Walkable(Protocol):
    """What drawing needs to know of an automaton: (S, V), (S, V) and (S,)."""

    @property
    def probabilities(self) -> Tensor: ...
    @property
    def successors(self) -> Tensor: ...
    @property
    def stationary(self) -> Tensor: ...


def paths(
    automaton: Walkable, streams: int, length: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Tokens (streams, length) and states (streams, length + 1) of stationary paths."""
    start = _stationary_states(automaton, streams, generator)
    steps = _walk(automaton, start, generator)
    drawn = [next(steps) for _ in range(length)]
    tokens = torch.stack([characters for characters, _ in drawn], 1)
    return tokens, torch.stack([start, *(states for _, states in drawn)], 1)


def long_path(automaton: Walkable, length: int, generator: torch.Generator) -> Tensor:
    """(length,) tokens of one stationary path, put together from streams that are drawn at once.

    Every stream but the first begins in one state, the likeliest, and every stream is followed to
    its first return there after enough steps. That is a stopping time, so by the strong Markov
    property the streams one after another are a single path of the process, with no seams.
    """
    renewal = automaton.stationary.argmax()
    streams = min(MOST_STREAMS, -(-length // SHORTEST_STREAM))
    enough = -(-length // streams)
    start = renewal.repeat(streams)
    start[:1] = _stationary_states(automaton, 1, generator)
    ends = torch.full((streams,), -1)
    drawn = []
    for steps, (characters, states) in enumerate(_walk(automaton, start, generator), start=1):
        drawn.append(characters)
        if steps >= enough:
            ends[(ends < 0) & (states == renewal)] = steps
            if bool((ends > 0).all()):
                break
    tokens = torch.stack(drawn, 1)
    return tokens[torch.arange(tokens.shape[1]) < ends[:, None]][:length].clone()


def _stationary_states(automaton: Walkable, count: int, generator: torch.Generator) -> Tensor:
    return automaton.stationary.multinomial(count, replacement=True, generator=generator)


def _walk(
    automaton: Walkable, states: Tensor, generator: torch.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    """Step after step, without end: characters drawn and states they lead to, (streams,)."""
    ceilings = automaton.probabilities.cumsum(1)
    # Rounding must not leave room above the last possible character.
    last = ceilings.shape[1] - 1 - (automaton.probabilities > 0).flip(1).int().argmax(1)
    ceilings[torch.arange(ceilings.shape[1]) >= last[:, None]] = torch.inf
    size, successors = ceilings.shape[1], automaton.successors.flatten()
    while True:
        draws = torch.rand(STEPS_AT_ONCE, len(states), 1, generator=generator, dtype=torch.float64)
        for draw in draws:
            characters = (draw >= ceilings[states]).sum(1)
            states = successors[states * size + characters]
            yield characters, states
