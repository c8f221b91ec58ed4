"""The training of ensembles of tensors: rates times seeds, one batched update a step."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

import torch
from torch import Tensor

from geometry.errors import require_positive_int
from simulate.cells import Contestant
from simulate.schedules import linear_decay
from simulate.tasks.tensor_models import Entries, Tucker

ENTRIES = Entries()


class TensorTask(Protocol):
    """What is minimised, for S seeds at a time; what is before S is candidates.

    Attributes:
        target: (S, n_1, .., n_d); its dtype and device are those of everything.
    """

    shape: tuple[int, ...]
    seeds: tuple[int, ...]
    target: Tensor

    def gradient(self, W: Tensor, step: int) -> Tensor:
        """(..., S, n_1, .., n_d), alike."""
        ...

    def held_out_error(self, W: Tensor) -> Tensor:
        """(..., S)."""
        ...


def train_tensors(
    task: TensorTask,
    contestant: Contestant,
    rates: Sequence[float],
    *,
    steps: int,
    recorded: Collection[int],
    model: Entries | Tucker = ENTRIES,
) -> Tensor:
    """Held-out errors of R rates with all of the task's S seeds at recorded steps.

    Rates rise along a line in the first tenth of the steps, then fall to 0 along one. Everything is
    computed on the device and in the dtype of the task.

    Args:
        recorded: numbers of steps taken, T of them, 0 to ``steps``.
        model: what W is made of, and so what the contestant steps: a list of one tensor of the
            task's order, from 0, or of a core and the factors.

    Returns:
        (R, S, T) float64 on the CPU, in the order of the steps.

    Raises:
        ValueError: no steps, bad rates.
        NotFiniteError: a gradient or an update that is not finite.
    """
    require_positive_int("steps", steps)
    seeds, size = task.seeds, (len(rates), len(task.seeds))
    dtype, device = task.target.dtype, task.target.device
    parameters = model.begun(task.shape, seeds * len(rates), dtype=dtype, device=device)
    lr = torch.tensor(rates, dtype=torch.float64, device=device).repeat_interleave(len(seeds))
    optimizer = contestant.optimizer(parameters, lr, seeds * len(rates))
    schedule, curves = linear_decay(steps, steps // 10), []
    for step in range(steps + 1):
        W = model.tensor(parameters)
        candidates = W.detach().unflatten(0, size)
        if step in recorded:
            curves.append(task.held_out_error(candidates))
        if step < steps:
            optimizer.zero_grad()
            W.backward(task.gradient(candidates, step).flatten(0, 1))
            for group in optimizer.param_groups:
                group["lr"] = lr * schedule(step)
            optimizer.step()
    return torch.stack(curves, -1).double().cpu()
