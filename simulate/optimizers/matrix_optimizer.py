"""What every optimiser of dense matrices shares: stacks, checks, and all or nothing in a step."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from geometry.errors import require_matrices
from simulate.optimizers.all_or_nothing import AllOrNothingOptimizer, Kept
from simulate.optimizers.descent import require_members, require_rate
from simulate.optimizers.failed_step import naming_members
from simulate.optimizers.parameter_stack import ParameterStack, stacked, stacks_of


class MatrixOptimizer(AllOrNothingOptimizer):
    """Base of the optimisers of dense matrices.

    A parameter is (..., m, n): its leading dimensions are the members of an ensemble, and every
    matrix is updated by itself. Parameters of a group that agree in shape, dtype, device and memory
    order are stacked and updated in one batched call. A subclass whose members are tensors of
    another order says so (``order_of``); for "matrix" and (m, n) read "tensor" and (n_1, ..., n_d).

    A subclass says which options it has (the defaults handed to ``__init__``), which of their
    values are sound (``require_options``), which of them may be tensors, one value a member
    (``member_options``), which buffers it keeps (``buffer_names``), what a step draws (``drawn``)
    and what it does (``updated``). The state of a parameter is its buffers and "step", their
    number.

    ``lr`` is a number, a 0-dim tensor, or a tensor that broadcasts to the leading dimensions, one
    rate a member. (torch's schedulers fill a tensor with one number: of tensors they take 0-dim
    ones only.)

    Bits: what a member of a stack gets differs from what it would get alone, if at all, by the
    rounding of the subclass's batched products; everything that is done here is elementwise.

    Raises:
        ValueError: parameters that are not real floating (..., m, n); an option of a group that
            the optimiser does not have, or out of its range; in ``step``, a gradient that is
            sparse; in ``load_state_dict``, a state of other names or shapes; a parameter given
            twice. FailedStepError, which is one: a gradient that has NaN or infinite entries, an
            update that overflows, a factorisation that fails; it names the members.
    """

    buffer_names: ClassVar[tuple[str, ...]] = ()
    member_options: ClassVar[tuple[str, ...]] = ()

    def __init__(self, params: ParamsT, defaults: dict[str, Any]) -> None:
        super().__init__(params, defaults)

    @abstractmethod
    def updated(
        self, W: Tensor, G: Tensor, buffers: Mapping[str, Tensor], options: Mapping[str, Any]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The new weights and buffers of a stack; none of the arguments may be changed.

        Args:
            W: weights, (k, ..., m, n).
            G: their gradients, finite, alike.
            buffers: one (k, ..., m, n) a name of ``buffer_names``, zero at first.
            options: of the parameter group, and what ``drawn`` returned.
        """

    def drawn(self, stack: ParameterStack, steps: Sequence[int]) -> dict[str, Any]:
        """What the step of a stack draws: a function of its parameters' places and steps (k)."""
        return {}

    def order_of(self, p: Tensor, name: str, options: Mapping[str, Any]) -> int:
        """Of how many last dimensions of p a member is made, 2 for matrices.

        Raises:
            ValueError: p, called by its name, is none of this optimiser's.
        """
        require_matrices(name, p)
        return 2

    def require_group(self, index: int) -> None:
        """Raise ValueError for parameters that are no matrices, or a rate that fits none."""
        group = self.param_groups[index]
        batches = [
            tuple(p.shape[: -self.order_of(p, f"parameter {place} of group {index}", group)])
            for place, p in enumerate(group["params"])
        ]
        # To read the rates costs more than a shape.
        for batch in dict.fromkeys(batches):
            require_rate(group["lr"], batch)
            for name in self.member_options:
                require_members(name, group[name], batch)

    def kept_shapes(self, group: Mapping[str, Any]) -> Iterator[Kept]:
        """A buffer is as its parameter is."""
        for place, p in enumerate(group["params"]):
            yield p, f"parameter {place}", dict.fromkeys(self.buffer_names, tuple(p.shape))

    def planned(self, index: int) -> list[Callable[[], None]]:
        """The step of a group, stack by stack."""
        group = self.param_groups[index]
        order_of = partial(self.order_of, name="a parameter", options=group)
        stacks = list(stacks_of(index, group, order_of))
        for stack in stacks:
            stack.require_finite("gradient", stack.gradients, self._coming_steps(stack))
        plans: list[Callable[[], None]] = []
        for stack in stacks:
            steps = self._coming_steps(stack)
            W, buffers = self._updated(stack, self._buffers(stack), steps)
            # Finite gradients may still overflow on the way.
            stack.require_finite("new value", W, steps)
            plans.append(partial(self._write, stack, W, buffers))
        return plans

    def _updated(
        self, stack: ParameterStack, buffers: Mapping[str, Tensor], steps: Sequence[int]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """``updated``, with an error that names members where they make it fail."""

        W, G = stack.weights, stack.gradients

        def whole() -> tuple[Tensor, dict[str, Tensor]]:
            return self.updated(W, G, buffers, {**stack.options, **self.drawn(stack, steps)})

        def alone(member: int) -> tuple[Tensor, dict[str, Tensor]]:
            own, its = slice(member, member + 1), stack.of_member(member)
            options = {**its.options, **self.drawn(its, steps)}
            kept = {name: buffer[:, own] for name, buffer in buffers.items()}
            return self.updated(W[:, own], G[:, own], kept, options)

        return naming_members(
            whole,
            alone,
            stack.members,
            f"parameters {list(stack.indices)} of group {stack.group} of {type(self).__name__} at "
            f"step {steps[0]}",
        )

    def _coming_steps(self, stack: ParameterStack) -> list[int]:
        return [int(self.state_of(p).get("step", 0)) + 1 for p in stack.parameters]

    def _buffers(self, stack: ParameterStack) -> dict[str, Tensor]:
        states = [self.state_of(p) for p in stack.parameters]
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
