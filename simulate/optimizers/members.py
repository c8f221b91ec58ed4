"""Which members of an ensemble an optimiser goes on with."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping

import torch
from torch import Tensor

from simulate.optimizers.failed_step import FailedStepError

# From the reasons of members, by their places, to whether any others are left.
Leave = Callable[[Mapping[int, str]], bool]


def step_or_leave(optimizer: torch.optim.Optimizer, leave: Leave) -> None:
    """Take a step; members that cannot make it leave, and the others take theirs.

    A step that fails has changed nothing, so what the others do is what they would have done.

    Args:
        leave: is told who cannot make the step, and why; it lets them go, by ``keep_members`` on
            every optimiser of theirs where others are left, and says whether there are any.

    Raises:
        FailedStepError: of parameters that have no members.
    """
    while True:
        try:
            optimizer.step()
            return
        except FailedStepError as error:
            if not error.reasons:
                raise
            if not leave(error.reasons):
                return


def require_every(optimizer: torch.optim.Optimizer, parameters: Iterable[object]) -> None:
    """Raise ValueError unless an optimiser has all of the parameters that it was made for.

    torch's own take a pair (B, A) for a name and a parameter: they would train A alone.
    """
    its = {id(p) for group in optimizer.param_groups for p in group["params"]}
    made_for = [id(p) for p in parameters]
    if missing := [p for p in made_for if p not in its]:
        raise ValueError(
            f"{type(optimizer).__name__}: all {len(made_for)} parameters are expected, got "
            f"{len(made_for) - len(missing)} of them; to an optimiser of parameters pairs are "
            "handed as [x for pair in pairs for x in pair]"
        )


def let_go(
    optimizers: Iterable[torch.optim.Optimizer], count: int, leaving: Collection[int]
) -> list[int]:
    """Let members at these places among ``count`` leave every optimiser; the places that stay.

    Where none stays the optimisers keep what they have.
    """
    kept = [place for place in range(count) if place not in leaving]
    if kept:
        for each in optimizers:
            keep_members(each, torch.tensor(kept))
    return kept


@torch.no_grad()
def keep_members(optimizer: torch.optim.Optimizer, members: Tensor) -> None:
    """Leave only some members: of the parameters, their gradients, the state and the rates.

    Every tensor with a dimension has the members first, of any optimiser here: parameters
    (E, ...), their gradients, what is in ``optimizer.state``, and options of the groups such as
    ``lr``. Numbers and 0-dim tensors belong to all members and stay. The parameters stay the
    objects that they were, so models and optimisers go on sharing them; what the remaining
    members do next is what they would have done.

    Args:
        optimizer: between two steps; no graph of the parameters may be alive.
        members: (k,) int64, indices into the E members.

    Raises:
        ValueError: an index outside of 0..E - 1, no member left, or a tensor in the state that
            does not have the members first. Nothing has been changed then.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    count = len(parameters[0])
    inside = (members >= 0) & (members < count)
    if members.ndim != 1 or not len(members) or not bool(inside.all()):
        raise ValueError(f"members in 0..{count - 1} are expected, got {members.tolist()}")
    entries = [optimizer.state[p] for p in parameters if p in optimizer.state]
    for tensors in (*entries, *optimizer.param_groups):
        for name, value in tensors.items():
            if _has_members(value) and len(value) != count:
                raise ValueError(
                    f"{name}: {count} members are expected in the first dimension, "
                    f"got shape {tuple(value.shape)}"
                )
    for tensors in (*entries, *optimizer.param_groups):
        for name, value in tensors.items():
            if _has_members(value):
                tensors[name] = value[members.to(value.device)]
    for p in parameters:
        chosen = members.to(p.device)
        gradient = None if p.grad is None else p.grad[chosen]
        # The gradient must have the shape of the parameter whenever it is there.
        p.grad = None
        p.data = p.data[chosen]
        p.grad = gradient


def _has_members(value: object) -> bool:
    return isinstance(value, Tensor) and value.ndim > 0
