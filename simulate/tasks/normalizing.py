"""Division by the root mean square, with a derivative of few passes over memory."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

EPSILON = 1e-6


def normalized(x: Tensor) -> Tensor:
    """x / sqrt(mean of squares of the last dimension + 1e-6), without a gain.

    Differentiable once: a second derivative raises a RuntimeError.

    Args:
        x: (..., d), of a real floating dtype, which is also the result's.

    Reference: Zhang and Sennrich, Root Mean Square Layer Normalization, arXiv 1910.07467.
    """
    return cast("Tensor", _Normalized.apply(x))


class _Normalized(torch.autograd.Function):
    """y = s x with s = (|x|^2 / d + eps)^(-1/2), and dx = s (dy - y <dy, y> / d).

    Written out it takes a third of what autograd takes of the formula, whose intermediate results
    are as large as x and as many as its operations.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        # A norm reads x once and makes nothing of its size.
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        scale = norm.square_().div_(x.shape[-1]).add_(EPSILON).rsqrt_()
        y = x * scale
        ctx.save_for_backward(y, scale)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> Tensor:
        y, scale = ctx.saved_tensors
        work = dy * y
        along = work.sum(-1, keepdim=True).div_(-y.shape[-1])
        return torch.addcmul(dy, y, along, out=work).mul_(scale)
