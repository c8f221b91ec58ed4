"""What optimisers of LoRA pairs share: pairs in groups, batched updates, state a factor.

Pairs of equal shapes are stacked and updated in one batched call; factors may have leading batch
dimensions of their own, members of an ensemble.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from geometry.gauge import Pair, require_pair
from geometry.names import unknown_name

Group = dict[str, Any]
Pairs = Iterable[Pair] | Iterable[Group]
State = dict[str, Pair]


class Batch(NamedTuple):
    """Pairs of one group that are updated together.

    Attributes:
        pairs: the parameters. factors, gradients: stacked, (K, ..., m, r) and (K, ..., r, n).
        step: how many steps they have behind them.
    """

    group: Group
    pairs: Sequence[Pair]
    factors: Pair
    gradients: Pair
    step: int


class PairOptimizer(torch.optim.Optimizer):
    """Base of optimisers that move (B, A) with the product in mind; subclasses say how.

    Args:
        pairs: [(B, A), ...] with B (..., m, r) and A (..., r, n), or groups
            [{"pairs": [(B, A), ...], "lr": ...}, ...] with options of their own.
        defaults: the options. ``lr`` is a number, or a tensor that broadcasts to the leading
            dimensions of the factors: one rate a member.

    Raises:
        ValueError: pairs whose shapes do not multiply, a rank above min(m, n), integer or complex
            parameters, dtypes or devices that differ within a pair, unknown options.
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
                require_pair(pair[0], pair[1], (f"pair {number}: B", f"pair {number}: A"))
            group["params"] = [factor for pair in listed for factor in pair]
        for option in group:
            if option not in ("params", *self.defaults):
                raise unknown_name("option", option, list(self.defaults))
        self.require_options({**self.defaults, **group})
        super().add_param_group(group)

    def require_options(self, group: Group) -> None:
        """Raise ValueError for an option out of range."""
        if not bool((torch.as_tensor(group["lr"]) >= 0).all()):
            raise ValueError(f"lr: none negative is expected; given {group['lr']}")
        if not 0 <= group.get("momentum", 0.0) < 1:
            raise ValueError(f"momentum in [0, 1) is expected; given {group['momentum']}")
        if not group.get("weight_decay", 0.0) >= 0:
            raise ValueError(f"weight_decay >= 0 is expected; given {group['weight_decay']}")

    def initial_state(self, factors: Pair) -> State:
        """What is kept of each factor beside the step, by name: a first moment by default."""
        return {"momentum_buffer": (torch.zeros_like(factors[0]), torch.zeros_like(factors[1]))}

    def updated(self, batch: Batch, state: State) -> tuple[Pair, State]:
        """The factors and the state after a step; nothing is changed in place."""
        raise NotImplementedError

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step of every pair that has gradients.

        Raises:
            ValueError: a gradient that is not finite (which pair, which members, which step), or
                one factor of a pair without any. Nothing has been changed then.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        batches = [batch for group in self.param_groups for batch in self._batches(group)]
        results = [self.updated(batch, self._state_of(batch)) for batch in batches]
        for batch, (factors, state) in zip(batches, results, strict=True):
            for number, pair in enumerate(batch.pairs):
                for side, parameter in enumerate(pair):
                    parameter.copy_(factors[side][number])
                    own = {name: stacked[side][number].clone() for name, stacked in state.items()}
                    self.state[parameter].update(own, step=batch.step + 1)
        return loss

    def _batches(self, group: Group) -> list[Batch]:
        found: dict[Any, list[Pair]] = {}
        parameters = group["params"]
        for number, pair in enumerate(zip(parameters[::2], parameters[1::2], strict=True)):
            missing = [p.grad is None for p in pair]
            if all(missing):
                continue
            # self.state makes an entry of whatever it is asked for.
            step = self.state[pair[0]]["step"] if pair[0] in self.state else 0
            if any(missing):
                raise ValueError(
                    f"pair {number}: gradients of both factors are expected; "
                    f"given none of {'B' if missing[0] else 'A'}, at step {step}"
                )
            _require_finite_gradients(number, pair, step)
            B, A = pair
            key = B.shape, A.shape, B.dtype, B.device, step
            found.setdefault(key, []).append(pair)
        return [
            Batch(group, pairs, _stacked(pairs), _gradients(pairs), key[-1])
            for key, pairs in found.items()
        ]

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
    B, A = (torch.stack(factors) for factors in zip(*pairs, strict=True))
    return B, A


def _gradients(pairs: Sequence[Pair]) -> Pair:
    return _stacked([(cast("Tensor", B.grad), cast("Tensor", A.grad)) for B, A in pairs])


def _require_finite_gradients(number: int, pair: Pair, step: int) -> None:
    for name, factor in zip("BA", pair, strict=True):
        gradient = cast("Tensor", factor.grad)
        finite = torch.isfinite(gradient).all(-1).all(-1)
        if not bool(finite.all()):
            members = (~finite).nonzero().tolist()
            which = f", members {members}" if finite.ndim else ""
            raise ValueError(
                f"pair {number}, gradient of {name} {tuple(factor.shape)}: finite entries are "
                f"expected; given NaN or infinity at step {step}{which}"
            )
