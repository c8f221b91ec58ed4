"""The last line of every update: decoupled decay, then a step, with one rate or one a member."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from geometry.errors import require_floating, require_nonnegative

Rate = float | Tensor


def require_rate(lr: Rate, batch: tuple[int, ...]) -> None:
    """Raise ValueError unless `lr` is finite, >= 0 and broadcasts to the batch shape."""
    if not isinstance(lr, Tensor):
        require_nonnegative("lr", lr)
        return
    require_floating("lr", lr)
    if not bool(((lr >= 0) & (lr < math.inf)).all()):
        raise ValueError(f"every lr must be finite and >= 0, got {lr.tolist()}")
    require_members("lr", lr, batch)


def require_members(name: str, value: float | Tensor, batch: tuple[int, ...]) -> None:
    """Raise ValueError for a tensor that does not broadcast to the batch shape."""
    if isinstance(value, Tensor):
        try:
            value.expand(batch)
        except RuntimeError:
            raise ValueError(
                f"{name} must broadcast to the leading batch dimensions {batch}, "
                f"got shape {tuple(value.shape)}"
            ) from None


def descend(W: Tensor, direction: Tensor, lr: Rate, ratio: float, weight_decay: float) -> Tensor:
    """(1 - lr weight_decay) W - lr ratio direction, each matrix with the bits it has alone.

    The arithmetic of the rates and the two roundings of an entry are those of torch.optim.Muon. A
    tensor of rates, one a member, gives every member the bits that its rate as a float would.

    Args:
        W: (..., m, n), left alone.
        direction: (..., m, n), any floating dtype.
        lr: a number, a 0-dim tensor, or a tensor that broadcasts to the leading dimensions.
        ratio: the rate's adjustment; it does not apply to the decay.
        weight_decay: decoupled decay.

    Returns:
        (..., m, n) in W's dtype.
    """
    single = not isinstance(lr, Tensor) or lr.ndim == 0
    if isinstance(lr, Tensor) and not single:
        # The precision of a Python float.
        lr = lr.to(W.device, torch.float64)
    if W.dtype.itemsize < 4:
        return _descend_one_by_one(W, direction, 1 - lr * weight_decay, lr * ratio)
    if single:
        kept, rate = float(1 - lr * weight_decay), float(lr * ratio)
        return W.mul(kept).add_(direction, alpha=-_in_range(rate, W))
    if weight_decay:
        W = W * _a_matrix(1 - lr * weight_decay, W)
    # add with alpha is a fused multiply-add, and so is addcmul; a product and a sum are not.
    return torch.addcmul(W, direction.to(W.dtype), _a_matrix(lr * -ratio, W))


def _a_matrix(rates: Rate, W: Tensor) -> Tensor:
    """Rates (...) as (..., 1, 1), in W's dtype."""
    return torch.as_tensor(rates, dtype=W.dtype).unsqueeze(-1).unsqueeze(-1)


def _in_range(rate: float, W: Tensor) -> float:
    """A rate >= 0, infinite beyond W's dtype, as in a tensor: torch refuses to convert it."""
    return rate if rate <= torch.finfo(W.dtype).max else math.inf


def _descend_one_by_one(W: Tensor, direction: Tensor, kept: Rate, rate: Rate) -> Tensor:
    """In half precision torch rounds the last entries of a tensor, those that do not fill a
    vector, otherwise than the rest, so that a matrix in a stack would get other bits.
    """
    batch, (m, n) = W.shape[:-2], W.shape[-2:]
    kept_of, rate_of = (
        torch.as_tensor(x, dtype=torch.float64).expand(batch).flatten().tolist()
        for x in (kept, rate)
    )
    matrices = zip(W.reshape(-1, m, n), direction.reshape(-1, m, n), strict=True)
    moved = [
        weights.mul(kept_of[i]).add_(step, alpha=-_in_range(rate_of[i], W))
        for i, (weights, step) in enumerate(matrices)
    ]
    return torch.stack(moved).reshape(W.shape) if moved else W.clone()
