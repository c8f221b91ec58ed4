"""The layers of a transformer: dense, low-rank, and dense with a LoRA adapter; members first."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class DenseLayer(nn.Module):
    """x (E, tokens, n) to x W^T (E, tokens, m), with W (E, m, n)."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, x: Tensor) -> Tensor:
        """(E, tokens, m)."""
        return torch.bmm(x, self.weight.mT)


class LowRankLayer(nn.Module):
    """x (E, tokens, n) to x (B A)^T (E, tokens, m), the product never formed."""

    def __init__(self, B: Tensor, A: Tensor) -> None:
        super().__init__()
        self.B, self.A = nn.Parameter(B), nn.Parameter(A)

    def forward(self, x: Tensor) -> Tensor:
        """(E, tokens, m)."""
        return torch.bmm(torch.bmm(x, self.A.mT), self.B.mT)


class AdapterLayer(nn.Module):
    """x (E, tokens, n) to x (W + scale B A)^T (E, tokens, m): W is frozen, B and A are trained.

    Args:
        weight: W (E, m, n).
        B: (E, m, r). A: (E, r, n). With B = 0 the outputs have the bits of the layer W.
        scale: alpha / r in LoRA's notation.
    """

    def __init__(self, weight: Tensor, B: Tensor, A: Tensor, scale: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.B, self.A, self.scale = nn.Parameter(B), nn.Parameter(A), scale

    def forward(self, x: Tensor) -> Tensor:
        """(E, tokens, m)."""
        adapted = torch.bmm(torch.bmm(x, self.A.mT), self.B.mT)
        return torch.bmm(x, self.weight.mT) + self.scale * adapted
