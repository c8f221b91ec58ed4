"""What is kept of the training of an ensemble."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor


class Member(NamedTuple):
    """One run of an ensemble.

    Attributes:
        rate: the learning rate of its layers, before the schedule.
        seed: of its start and of its batches.
    """

    rate: float
    seed: int


@dataclass(frozen=True)
class Departure:
    """When and why a member left.

    Attributes:
        step: how many steps it had taken.
        reason: what was found, in words.
    """

    step: int
    reason: str


@dataclass(frozen=True)
class Divergence(Departure):
    """How a member of a language model's training left.

    Attributes:
        loss: at that step, in nats.
        parameters: those that had this loss, by name, without the member axis, on the CPU.
    """

    loss: float
    parameters: dict[str, Tensor]


@dataclass
class TrainingRecord:
    """Losses and costs of a run so far.

    Attributes:
        members: all that began, in order; numbers of members below are places in it.
        tokens_a_step: batch size times length.
        loss_rows: one row of E numbers a step.
        validation: by the number of steps taken, E mean losses in float64, NaN for members gone.
        diverged: by member.
        seconds: spent in steps and validation, over all sittings.
    """

    members: tuple[Member, ...]
    tokens_a_step: int
    loss_rows: list[list[float]] = field(default_factory=list)
    validation: dict[int, Tensor] = field(default_factory=dict)
    diverged: dict[int, Divergence] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def losses(self) -> Tensor:
        """(steps, E) float64: mean loss of each member's batch before its step, in nats.

        The last of a diverged member is the one that it diverged with; NaN afterwards.
        """
        return torch.tensor(self.loss_rows, dtype=torch.float64).reshape(-1, len(self.members))

    @property
    def tokens(self) -> Tensor:
        """(E,) int64: what each member was trained on, a diverging batch not counted."""
        steps = [len(self.loss_rows)] * len(self.members)
        for member, divergence in self.diverged.items():
            steps[member] = divergence.step
        return self.tokens_a_step * torch.tensor(steps)
