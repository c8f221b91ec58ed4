"""The training of ensembles of tensors: rates times seeds, one batched update a step."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from geometry.errors import require_positive_int
from simulate.cells import Contestant
from simulate.optimizers.members import let_go, step_or_leave
from simulate.schedules import begin_schedule, follow_schedule, linear_decay
from simulate.tasks.tensor_models import Entries, Tucker
from simulate.training_record import Departure

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


class TensorErrors(NamedTuple):
    """What came of R rates with S seeds.

    Attributes:
        held_out: (R, S, T) float64, errors at the T recorded steps; NaN from where one diverged.
        diverged: by (rate, seed), their places, when and why it left.
    """

    held_out: Tensor
    diverged: Mapping[tuple[int, int], Departure]


def train_tensors(
    task: TensorTask,
    contestant: Contestant,
    rates: Sequence[float],
    *,
    steps: int,
    recorded: Collection[int],
    model: Entries | Tucker = ENTRIES,
) -> TensorErrors:
    """Held-out errors of R rates with all of the task's S seeds at recorded steps.

    Rates rise along a line in the first tenth of the steps, then fall to 0 along one. Everything is
    computed on the device and in the dtype of the task.

    A tensor whose gradient or update is not finite, or whose update needs a factorisation that
    fails, is recorded as diverged and leaves: it is not stepped any more, nor is a rate looked at
    that all seeds have left, and the others go on.

    Args:
        recorded: numbers of steps taken, T of them, 0 to ``steps``.
        model: what W is made of, and so what the contestant steps: a list of one tensor of the
            task's order, from 0, or of a core and the factors.

    Returns:
        Errors in the order of the steps, on the CPU.

    Raises:
        ValueError: no steps, no rates or bad ones, recorded steps that are not among those taken.
    """
    require_positive_int("steps", steps)
    if not rates:
        raise ValueError("rates: at least one is expected, got none")
    at = sorted({*recorded})
    if not {*at} <= {*range(steps + 1)}:
        raise ValueError(f"recorded: steps in 0..{steps} are expected, got {at}")
    seeds, size = task.seeds, (len(rates), len(task.seeds))
    # Places of rates that have any tensors left, and of the tensors among all of these rates.
    rows, place = torch.arange(len(rates)), torch.arange(len(rates) * len(seeds))
    dtype, device = task.target.dtype, task.target.device
    parameters = model.begun(task.shape, seeds * len(rates), dtype=dtype, device=device)
    lr = torch.tensor(rates, dtype=torch.float64, device=device).repeat_interleave(len(seeds))
    optimizer = contestant.optimizer(parameters, lr, seeds * len(rates))
    begin_schedule(optimizer.param_groups)
    schedule = linear_decay(steps, steps // 10)
    held_out = torch.full((*size, len(at)), torch.nan, dtype=torch.float64)
    going, diverged = torch.arange(lr.numel()), dict[tuple[int, int], Departure]()

    def leave(reasons: Mapping[int, str]) -> bool:
        nonlocal going, rows, place
        for member, reason in reasons.items():
            diverged[divmod(int(going[member]), len(seeds))] = Departure(step, reason)
        kept = let_go([optimizer], len(going), reasons)
        going = going[kept]
        rows, row = (going // len(seeds)).unique(return_inverse=True)
        place = row * len(seeds) + going % len(seeds)
        return bool(kept)

    for step in range(steps + 1):
        W = model.tensor(parameters)
        candidates = _all_seeds(W.detach(), place, (len(rows), len(seeds)))
        if step in at:
            held_out[rows, :, at.index(step)] = task.held_out_error(candidates).double().cpu()
        if step == steps:
            break
        optimizer.zero_grad()
        gradients = task.gradient(candidates, step).flatten(0, 1)
        W.backward(gradients if len(gradients) == len(place) else gradients[place])
        # Its graph holds on to the parameters as they are.
        del W
        follow_schedule(optimizer.param_groups, schedule(step))
        step_or_leave(optimizer, leave)
        if not len(going):
            break
    return TensorErrors(held_out, diverged)


def _all_seeds(W: Tensor, place: Tensor, size: tuple[int, int]) -> Tensor:
    """W (k, ...) at places among rates times seeds, as a task has them; NaN in the others'."""
    if len(W) == size[0] * size[1]:
        return W.unflatten(0, size)
    everything = W.new_full((size[0] * size[1], *W.shape[1:]), torch.nan)
    everything[place] = W
    return everything.unflatten(0, size)
