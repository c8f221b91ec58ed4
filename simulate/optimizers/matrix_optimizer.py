"""What every optimiser of dense matrices shares: stacks, checks, and all or nothing in a step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, overload

import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer, ParamsT

from geometry.errors import require_matrices
from geometry.names import unknown_name
from simulate.optimizers.descent import require_rate
from simulate.optimizers.parameter_stack import ParameterStack, stacked, stacks_of

# What torch itself puts into a group: itself, names, and what a scheduler resumes from.
OF_TORCH = frozenset({"params", "param_names", "initial_lr"})


class MatrixOptimizer(Optimizer):
    """Base of the optimisers of dense matrices.

    A parameter is (..., m, n): its leading dimensions are the members of an ensemble, and every
    matrix is updated by itself. Parameters of a group that agree in shape, dtype, device and memory
    order are stacked and updated in one batched call.

    A step either updates everything or nothing: all new weights and buffers are computed before
    the first is written, which takes memory for a second copy of both.

    A subclass says which options it has (the defaults handed to ``__init__``), which of their
    values are sound (``require_options``), which buffers it keeps (``buffer_names``) and what a
    step does (``updated``). The state of a parameter is its buffers and "step", their number.

    ``lr`` is a number, a 0-dim tensor, or a tensor that broadcasts to the leading dimensions, one
    rate a member. (torch's schedulers fill a tensor with one number: of tensors they take 0-dim
    ones only.)

    Bits: what a member of a stack gets differs from what it would get alone, if at all, by the
    rounding of the subclass's batched products; everything that is done here is elementwise.

    Raises:
        ValueError: parameters that are not real floating (..., m, n); an option of a group that
            the optimiser does not have, or out of its range; in ``step``, a gradient that is
            sparse or has NaN or infinite entries, and an update that overflows.
    """

    buffer_names: ClassVar[tuple[str, ...]] = ()

    def __init__(self, params: ParamsT, defaults: dict[str, Any]) -> None:
        super().__init__(params, defaults)

    def require_options(self, options: Mapping[str, Any]) -> None:
        """Raise ValueError for an option out of its range; ``lr`` is checked already."""
        raise NotImplementedError

    def updated(
        self, W: Tensor, G: Tensor, buffers: Mapping[str, Tensor], options: Mapping[str, Any]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The new weights and buffers of a stack; none of the arguments may be changed.

        Args:
            W: weights, (k, ..., m, n).
            G: their gradients, finite, alike.
            buffers: one (k, ..., m, n) a name of ``buffer_names``, zero at first.
            options: of the parameter group.
        """
        raise NotImplementedError

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group with options of its own; ValueError, and no group, if it is not sound."""
        for name in param_group:
            if name not in self.defaults and name not in OF_TORCH:
                raise unknown_name(f"option of {type(self).__name__}", name, self.defaults)
        super().add_param_group(param_group)
        try:
            self._require_group(len(self.param_groups) - 1)
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
        stacks: list[ParameterStack] = []
        for index, group in enumerate(self.param_groups):
            self._require_group(index)
            stacks.extend(stacks_of(index, group))
        for stack in stacks:
            stack.require_finite("gradient", stack.gradients, self._coming_steps(stack))
        proposals = [
            self.updated(stack.weights, stack.gradients, self._buffers(stack), stack.options)
            for stack in stacks
        ]
        # Finite gradients may still overflow on the way.
        for stack, (weights, _) in zip(stacks, proposals, strict=True):
            stack.require_finite("new value", weights, self._coming_steps(stack))
        for stack, (weights, buffers) in zip(stacks, proposals, strict=True):
            self._write(stack, weights, buffers)
        return loss

    def __setstate__(self, state: dict[str, Any]) -> None:
        # A state_dict of torch.optim.Muon, or of an earlier version, lacks some options.
        super().__setstate__(state)
        for group in self.param_groups:
            for name, default in self.defaults.items():
                group.setdefault(name, default)

    def _require_group(self, index: int) -> None:
        group = self.param_groups[index]
        self.require_options(group)
        for place, p in enumerate(group["params"]):
            require_matrices(f"parameter {place} of group {index}", p)
            require_rate(group["lr"], tuple(p.shape[:-2]))

    def _state_of(self, p: Tensor) -> dict[str, Any]:
        # self.state[p] would make an entry.
        state: dict[str, Any] = self.state.get(p, {})
        return state

    def _coming_steps(self, stack: ParameterStack) -> list[int]:
        return [int(self._state_of(p).get("step", 0)) + 1 for p in stack.parameters]

    def _buffers(self, stack: ParameterStack) -> dict[str, Tensor]:
        states = [self._state_of(p) for p in stack.parameters]
        return {
            name: stacked(
                [
                    state[name] if name in state else torch.zeros_like(G)
                    for state, G in zip(states, stack.gradients, strict=True)
                ]
            )
            for name in self.buffer_names
        }

    def _write(self, stack: ParameterStack, W: Tensor, buffers: Mapping[str, Tensor]) -> None:
        steps = self._coming_steps(stack)
        for index, p in enumerate(stack.parameters):
            p.copy_(W[index])
            state = self.state[p]
            state["step"] = steps[index]
            for name, buffer in buffers.items():
                if name in state:
                    state[name].copy_(buffer[index])
                else:
                    state[name] = buffer[index].clone()
