"""What every optimiser here shares: options of groups, checked, and steps that are whole or not."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, overload

import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer

from geometry.names import unknown_name
from simulate.optimizers.unchanged import Contents

# What torch itself puts into a group: itself, names, and what a scheduler resumes from.
OF_TORCH = frozenset({"params", "param_names", "initial_lr"})

# A parameter, what it is called, and what is kept of it: shapes by name, None for a number.
Kept = tuple[Tensor, str, Mapping[str, tuple[int, ...] | None]]


class AllOrNothingOptimizer(Optimizer, ABC):
    """Base of the optimisers: a step computes everything before it writes anything.

    A gradient that is not finite, wherever it is, leaves all parameters and the state as they were.
    It takes memory for a second copy of both.

    A subclass says which options it has (the defaults handed to ``__init__``), which of their
    values are sound (``require_options``), what its groups may hold (``require_group``) and what a
    step does (``planned``). The two checks go by options, shapes and dtypes alone: a group in which
    nothing of that has changed is not checked again.
    """

    @abstractmethod
    def require_options(self, options: Mapping[str, Any]) -> None:
        """Raise ValueError for an option out of its range; ``lr`` is checked already."""

    @abstractmethod
    def require_group(self, index: int) -> None:
        """Raise ValueError for parameters that are none of this optimiser's, or for ``lr``."""

    @abstractmethod
    def planned(self, index: int) -> Iterable[Callable[[], object]]:
        """Compute the step of a group; what is returned writes it, and cannot fail."""

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group with options of its own; ValueError, and no group, if it is not sound."""
        for name in param_group:
            if name not in self.defaults and name not in OF_TORCH:
                raise unknown_name(f"option of {type(self).__name__}", name, self.defaults)
        super().add_param_group(param_group)
        try:
            _require_names(self.param_groups[-1])
            _require_once(self.param_groups[-1], len(self.param_groups) - 1)
            self._require(len(self.param_groups) - 1)
        except ValueError:
            self.param_groups.pop()
            raise

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Update every parameter that has a gradient; returns what the closure returns."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        plans: list[Callable[[], object]] = []
        for index in range(len(self.param_groups)):
            self._require(index)
            plans.extend(self.planned(index))
        for write in plans:
            write()
        return loss

    def kept_shapes(self, group: Mapping[str, Any]) -> Iterator[Kept]:
        """What a state has to hold of the parameters of a group; of all of them nothing here."""
        return iter(())

    def __setstate__(self, state: dict[str, Any]) -> None:
        # Both a copy and a state_dict come this way; a step would find out when half is written.
        for index, group in enumerate(state["param_groups"]):
            for p, name, shapes in self.kept_shapes(group):
                given = state["state"].get(p)
                if given:
                    _require_kept(f"the state of {name} of group {index}", given, shapes)
        # A state_dict of one of torch's own, or of an earlier version, lacks some options.
        super().__setstate__(state)
        for group in self.param_groups:
            for name, default in self.defaults.items():
                group.setdefault(name, default)

    def state_of(self, p: Tensor) -> dict[str, Any]:
        """What is kept of a parameter, empty before its first step."""
        # self.state[p] would make an entry.
        state: dict[str, Any] = self.state.get(p, {})
        return state

    def _require(self, index: int) -> None:
        group = self.param_groups[index]
        # No state of the optimiser: a copy of it checks again.
        sound: dict[int, Contents] = self.__dict__.setdefault("_sound", {})
        if index in sound and sound[index].are_those_of(group):
            return
        self.require_group(index)
        self.require_options(group)
        sound[index] = Contents(group)


def _require_once(group: Mapping[str, Any], index: int) -> None:
    """Raise ValueError for a parameter that is in the group twice; torch warns of it."""
    places: dict[int, int] = {}
    for place, p in enumerate(group["params"]):
        first = places.setdefault(id(p), place)
        if first != place:
            raise ValueError(
                f"every parameter once is expected; given one of shape {tuple(p.shape)} as "
                f"parameters {first} and {place} of group {index}: one update of two would be lost"
            )


def _require_kept(
    what: str, given: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...] | None]
) -> None:
    """Raise ValueError unless the state of a parameter has all names, and tensors their shapes."""
    for name, shape in shapes.items():
        value = given.get(name)
        if value is None or (shape is not None and getattr(value, "shape", None) != shape):
            expected = name if shape is None else f"{name} {tuple(shape)}"
            held = ", ".join(
                f"{key} {tuple(x.shape)}" if isinstance(x, Tensor) else str(key)
                for key, x in given.items()
            )
            raise ValueError(
                f"{what}: {expected} is expected; given {held}, of another parameter or optimiser; "
                "nothing was loaded"
            )


def _require_names(group: Mapping[str, Any]) -> None:
    """Raise ValueError where torch took a pair of parameters for a parameter and its name."""
    for name in group.get("param_names", ()):
        if not isinstance(name, str):
            raise ValueError(
                "parameters, or (name, parameter) with a name that is text, are expected; given "
                f"({type(name).__name__}, ...): a pair (B, A) is for optimisers of pairs, and "
                "matrices are given one by one"
            )
