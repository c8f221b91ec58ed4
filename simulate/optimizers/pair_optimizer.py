"""What optimisers of LoRA pairs share: pairs in groups, batched updates, state a factor.

Pairs of equal shapes are stacked and updated in one batched call; factors may have leading batch
dimensions of their own, members of an ensemble.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from geometry.errors import RankError, require_nonnegative, require_share
from geometry.gauge import Pair, require_pair
from simulate.optimizers.all_or_nothing import AllOrNothingOptimizer, Kept
from simulate.optimizers.descent import require_rate
from simulate.optimizers.failed_step import (
    NOT_FINITE,
    OF_MATRICES,
    NotFiniteError,
    naming_members,
    of_member,
)
from simulate.optimizers.parameter_stack import require_dense

Group = dict[str, Any]
Pairs = Iterable[Pair] | Iterable[Group]
State = dict[str, Pair]


class Batch(NamedTuple):
    """Pairs of one group that are updated together.

    Attributes:
        numbers: of the pairs in the group. pairs: the parameters.
        factors, gradients: stacked, (K, ..., m, r) and (K, ..., r, n).
        step: how many steps they have behind them.
    """

    group: Group
    numbers: Sequence[int]
    pairs: Sequence[Pair]
    factors: Pair
    gradients: Pair
    step: int


class PairOptimizer(AllOrNothingOptimizer):
    """Base of optimisers that move (B, A) with the product in mind; subclasses say how.

    Args:
        pairs: [(B, A), ...] with B (..., m, r) and A (..., r, n), or groups
            [{"pairs": [(B, A), ...], "lr": ...}, ...] with options of their own.
        defaults: the options. ``lr`` is a number, or a tensor that broadcasts to the leading
            dimensions of the factors: one rate a member.

    Raises:
        ValueError: pairs whose shapes do not multiply, a rank above min(m, n), integer or complex
            parameters, dtypes or devices that differ within a pair, unknown options; a factor
            that is in two pairs; in ``load_state_dict``, a state of other names or shapes.
    """

    def __init__(self, pairs: Pairs, defaults: dict[str, Any]) -> None:
        groups = list(pairs)
        if not groups:
            raise ValueError("pairs: at least one (B, A) is expected; given none")
        if not isinstance(groups[0], dict):
            groups = [{"pairs": groups}]
        super().__init__(cast("list[Group]", groups), defaults)

    def add_param_group(self, param_group: Group) -> None:
        """Add {"pairs": [(B, A), ...], option: value, ...}."""
        group = dict(param_group)
        if "pairs" in group:
            listed = list(group.pop("pairs"))
            for number, pair in enumerate(listed):
                if isinstance(pair, Tensor) or len(pair) != 2:
                    raise ValueError(f"pair {number}: (B, A) is expected; given {type(pair)}")
            group["params"] = [factor for pair in listed for factor in pair]
        super().add_param_group(group)

    def require_group(self, index: int) -> None:
        """Raise ValueError for factors that are no pairs, or a rate that fits none."""
        group = self.param_groups[index]
        if len(group["params"]) % 2:
            raise ValueError(
                f"group {index}: pairs (B, A) are expected; given {len(group['params'])} factors"
            )
        pairs = _pairs_of(group)
        for number, (B, A) in enumerate(pairs):
            require_pair(B, A, (f"pair {number}: B", f"pair {number}: A"))
        # To read the rates costs more than a shape.
        for batch in dict.fromkeys(tuple(B.shape[:-2]) for B, _ in pairs):
            require_rate(group["lr"], batch)

    def require_options(self, options: Mapping[str, Any]) -> None:
        """Raise ValueError for an option out of range."""
        require_share("momentum", options.get("momentum", 0.0))
        require_nonnegative("weight_decay", options.get("weight_decay", 0.0))

    def initial_state(self, factors: Pair) -> State:
        """What is kept of each factor beside the step, by name: a first moment by default."""
        return {"momentum_buffer": (torch.zeros_like(factors[0]), torch.zeros_like(factors[1]))}

    def kept_shapes(self, group: Mapping[str, Any]) -> Iterator[Kept]:
        """What ``initial_state`` has of each factor, and the step."""
        for number, (B, A) in enumerate(_pairs_of(group)):
            state = self.initial_state((B.detach(), A.detach()))
            for side, factor in enumerate((B, A)):
                shapes = {name: tuple(both[side].shape) for name, both in state.items()}
                yield factor, f"pair {number}: {'BA'[side]}", {"step": None, **shapes}

    @abstractmethod
    def updated(self, batch: Batch, state: State) -> tuple[Pair, State]:
        """The factors and the state after a step; nothing is changed in place."""

    def planned(self, index: int) -> list[Callable[[], None]]:
        """The step of a group, batch by batch.

        Raises:
            FailedStepError: a ValueError; a gradient or a new factor that is not finite (which
                pair, which members, which step), or a factorisation that fails.
            ValueError: one factor of a pair without any gradient, or with a sparse one.
        """
        plans: list[Callable[[], None]] = []
        for batch in self._batches(self.param_groups[index]):
            factors, state = self._updated(batch, self._state_of(batch))
            # Finite gradients may still overflow on the way.
            _require_finite(batch.numbers, "new value", factors, batch.step)
            plans.append(partial(self._write, batch, factors, state))
        return plans

    def _updated(self, batch: Batch, state: State) -> tuple[Pair, State]:
        """``updated``, with an error that names members where they make it fail."""
        leading = tuple(batch.factors[0].shape[1:-2])

        def alone(member: int) -> tuple[Pair, State]:
            own = slice(member, member + 1)
            one = batch._replace(
                group=of_member(batch.group, leading, member),
                pairs=[(B[own], A[own]) for B, A in batch.pairs],
                factors=_of(batch.factors, own),
                gradients=_of(batch.gradients, own),
            )
            return self.updated(one, {name: _of(both, own) for name, both in state.items()})

        return naming_members(
            lambda: self.updated(batch, state),
            alone,
            leading[0] if leading else None,
            f"pairs {list(batch.numbers)} of {type(self).__name__} at step {batch.step}",
            # A start without full rank is an error of who made it.
            (*OF_MATRICES, RankError) if batch.step else OF_MATRICES,
        )

    def _write(self, batch: Batch, factors: Pair, state: State) -> None:
        for place, pair in enumerate(batch.pairs):
            for side, parameter in enumerate(pair):
                parameter.copy_(factors[side][place])
                own = {name: stacked[side][place].clone() for name, stacked in state.items()}
                self.state[parameter].update(own, step=batch.step + 1)

    def _batches(self, group: Group) -> list[Batch]:
        found: dict[Any, list[tuple[int, Pair]]] = {}
        for number, pair in enumerate(_pairs_of(group)):
            missing = [p.grad is None for p in pair]
            if all(missing):
                continue
            step = self.state_of(pair[0]).get("step", 0)
            if any(missing):
                raise ValueError(
                    f"pair {number}: gradients of both factors are expected; "
                    f"given none of {'B' if missing[0] else 'A'}, at step {step}"
                )
            B, A = pair
            for side, gradient in zip("BA", _gradients(pair), strict=True):
                require_dense(gradient, f"{side} of pair {number}")
            key = B.shape, A.shape, B.dtype, B.device, step
            found.setdefault(key, []).append((number, pair))
        batches = []
        for (*_, step), listed in found.items():
            numbers, pairs = zip(*listed, strict=True)
            gradients = _stacked([_gradients(pair) for pair in pairs])
            _require_finite(numbers, "gradient", gradients, step)
            batches.append(Batch(group, numbers, pairs, _stacked(pairs), gradients, step))
        return batches

    def _state_of(self, batch: Batch) -> State:
        if batch.step == 0:
            return self.initial_state(batch.factors)
        names = [name for name in self.state[batch.pairs[0][0]] if name != "step"]
        return {
            name: _stacked([(self.state[B][name], self.state[A][name]) for B, A in batch.pairs])
            for name in names
        }


def rate(batch: Batch) -> Tensor:
    """The learning rate as a tensor that broadcasts to the stacked factors, (..., 1, 1)."""
    B = batch.factors[0]
    return torch.as_tensor(batch.group["lr"], dtype=B.dtype, device=B.device)[..., None, None]


def averaged(batch: Batch, state: State) -> Pair:
    """The first moments m <- momentum m + (1 - momentum) g."""
    share = 1 - batch.group["momentum"]
    B, A = (
        m.lerp(g, share) for m, g in zip(state["momentum_buffer"], batch.gradients, strict=True)
    )
    return B, A


def _stacked(pairs: Sequence[Pair]) -> Pair:
    """To be read only: the stack of one is the pair itself."""
    B, A = (
        factors[0].unsqueeze(0) if len(factors) == 1 else torch.stack(factors)
        for factors in zip(*pairs, strict=True)
    )
    return B, A


def _of(both: Pair, members: slice) -> Pair:
    """Of the stacked factors, those of some members."""
    return both[0][:, members], both[1][:, members]


def _pairs_of(group: Mapping[str, Any]) -> list[Pair]:
    parameters = group["params"]
    return list(zip(parameters[::2], parameters[1::2], strict=True))


def _gradients(pair: Pair) -> Pair:
    return cast("Tensor", pair[0].grad), cast("Tensor", pair[1].grad)


def _require_finite(numbers: Sequence[int], what: str, both: Pair, step: int) -> None:
    """Raise NotFiniteError for the first of the stacked pairs that is not finite."""
    # One pass: a sum is finite only if every entry is. It may overflow, hence the closer look.
    if all(bool(torch.isfinite(values.sum())) for values in both):
        return
    for number, pair in zip(numbers, zip(*both, strict=True), strict=True):
        for name, values in zip("BA", pair, strict=True):
            finite = torch.isfinite(values).all(-1).all(-1)
            if not bool(finite.all()):
                members = (~finite).nonzero().tolist()
                which = f", members {members}" if finite.ndim else ""
                raise NotFiniteError(
                    f"pair {number}, {what} of {name} {tuple(values.shape)}: finite entries are "
                    f"expected; given NaN or infinity at step {step}{which}; nothing was updated",
                    dict.fromkeys([member[0] for member in members if member], NOT_FINITE[what]),
                )
