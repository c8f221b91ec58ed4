"""AdamW with one learning rate a member: the formula of torch.optim.AdamW, which takes one."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from geometry.errors import require_floating, require_nonnegative
from simulate.optimizers.all_or_nothing import AllOrNothingOptimizer, Kept
from simulate.optimizers.descent import Rate, require_rate
from simulate.optimizers.failed_step import NOT_FINITE, NotFiniteError
from simulate.optimizers.momentum import require_betas
from simulate.optimizers.parameter_stack import require_dense


class MemberAdamW(AllOrNothingOptimizer):
    """Adam with decoupled weight decay, for parameters (E, ...) of an ensemble of E members.

    m <- m + (1 - beta1) (g - m), v <- beta2 v + (1 - beta2) g^2, and then
    W <- (1 - lr weight_decay) W - lr / (1 - beta1^t) m / (sqrt(v / (1 - beta2^t)) + eps).

    Names, order and defaults are those of torch.optim.AdamW, and on the CPU in float32 and float64
    so are the bits, of every member as of one trained alone at its rate.

    Args:
        params: parameters (E, ...), or groups of them with options of their own.
        lr: a number, or a tensor (E,): one rate a member.
        betas: both in [0, 1). eps: >= 0. weight_decay: >= 0.

    Raises:
        ValueError: an option that there is not or out of its range, integer parameters; in
            ``step``, a gradient that is sparse or not finite: nothing has been changed then.

    Reference: Loshchilov and Hutter, Decoupled Weight Decay Regularization, arXiv 1711.05101.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: Rate = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, defaults)

    def require_options(self, options: Mapping[str, Any]) -> None:
        """Raise ValueError for an option out of its range."""
        for name in ("eps", "weight_decay"):
            require_nonnegative(name, options[name])
        require_betas(options["betas"])

    def require_group(self, index: int) -> None:
        """Raise ValueError for integer parameters, or a rate that fits none."""
        group = self.param_groups[index]
        for p in group["params"]:
            require_floating("a parameter", p)
            if p.ndim == 0:
                raise ValueError("a parameter must have shape (E, ...), got shape ()")
        # To read the rates costs more than a shape.
        for members in dict.fromkeys(len(p) for p in group["params"]):
            require_rate(group["lr"], (members,))

    def kept_shapes(self, group: Mapping[str, Any]) -> Iterator[Kept]:
        """Both moments are as their parameter is."""
        for place, p in enumerate(group["params"]):
            yield p, f"parameter {place}", dict.fromkeys(("exp_avg", "exp_avg_sq"), tuple(p.shape))

    def planned(self, index: int) -> list[Callable[[], None]]:
        """The step of a group, in place: with finite gradients nothing in it can fail."""
        group = self.param_groups[index]
        alike: dict[Any, list[Tensor]] = {}
        for place, p in enumerate(group["params"]):
            if p.grad is not None:
                require_dense(p.grad, f"parameter {place} of group {index}")
                _require_finite(p.grad, f"parameter {place} of group {index}")
                step = self.state_of(p).get("step", 0)
                alike.setdefault((step, p.ndim, p.dtype, p.device), []).append(p)
        return [partial(self._update, listed, step, group) for (step, *_), listed in alike.items()]

    def _update(self, parameters: list[Tensor], step: int, group: Mapping[str, Any]) -> None:
        """Update parameters alike in steps taken, number of dimensions, dtype and device.

        An operation on a list costs less than as many on its tensors, and does the same to each.
        """
        for p in parameters:
            state = self.state[p]
            if not state:
                state.update(exp_avg=torch.zeros_like(p), exp_avg_sq=torch.zeros_like(p))
            state["step"] = step + 1
        gradients = [cast("Tensor", p.grad) for p in parameters]
        first, second = (
            [self.state[p][name] for p in parameters] for name in ("exp_avg", "exp_avg_sq")
        )
        beta1, beta2 = group["betas"]
        torch._foreach_lerp_(first, gradients, 1 - beta1)
        torch._foreach_mul_(second, beta2)
        torch._foreach_addcmul_(second, gradients, gradients, 1 - beta2)
        denominators = torch._foreach_sqrt(second)
        torch._foreach_div_(denominators, (1 - beta2 ** (step + 1)) ** 0.5)
        torch._foreach_add_(denominators, group["eps"])
        # The precision of a Python float, until the rates meet the weights.
        p = parameters[0]
        lr = torch.as_tensor(group["lr"], dtype=torch.float64, device=p.device)
        kept = _by_member(1 - lr * group["weight_decay"], p)
        length = _by_member(-lr / (1 - beta1 ** (step + 1)), p)
        # addcdiv with a value rounds in this order: (value * m) / denominator, then the sum.
        moves = torch._foreach_mul(first, [length] * len(first))
        torch._foreach_div_(moves, denominators)
        torch._foreach_mul_(parameters, [kept] * len(parameters))
        torch._foreach_add_(parameters, moves)


def _by_member(rates: Tensor, p: Tensor) -> Tensor:
    """() or (E,) to a shape that broadcasts to the parameter (E, ...)."""
    rates = rates.to(p.dtype)
    return rates if rates.ndim == 0 else rates.reshape(-1, *[1] * (p.ndim - 1))


def _require_finite(gradient: Tensor, name: str) -> None:
    # One pass: a sum is finite only if every entry is. It may overflow, hence the closer look.
    if math.isfinite(gradient.sum()):
        return
    finite = torch.isfinite(gradient).reshape(len(gradient), -1).all(1)
    if not bool(finite.all()):
        members = (~finite).nonzero().flatten().tolist()
        raise NotFiniteError(
            f"the gradient of {name}, shape {tuple(gradient.shape)}, must be finite, got NaN or "
            f"infinity in members {members}; nothing was updated",
            dict.fromkeys(members, NOT_FINITE["gradient"]),
        )
