"""What an optimiser's step costs in memory: the tensors that it makes, and what is kept."""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils._python_dispatch import TorchDispatchMode


class Trace(TorchDispatchMode):
    """Notes every operation within ``with Trace() as seen``.

    Attributes:
        largest: entries of the largest tensor that any of them returned.
        largest_bytes: of the one that takes the most memory.
        operations: how often each ran, by its name, such as "linalg_qr".
    """

    def __init__(self) -> None:
        super().__init__()
        self.largest = self.largest_bytes = 0
        self.operations: Counter[str] = Counter()

    def __torch_dispatch__(
        self, function: Any, kinds: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        self.operations[function.overloadpacket.__name__] += 1
        for part in result if isinstance(result, tuple | list) else (result,):
            if isinstance(part, Tensor):
                self.largest = max(self.largest, part.numel())
                size = part.numel() * part.element_size()
                self.largest_bytes = max(self.largest_bytes, size)
        return result


def numbers_kept(optimizer: Optimizer) -> int:
    """Entries of the tensors in an optimiser's state, those without a dimension left out."""
    values = [value for state in optimizer.state.values() for value in state.values()]
    return sum(x.numel() for x in values if isinstance(x, Tensor) and x.ndim > 0)


def with_gradient(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> nn.Parameter:
    """A Gaussian parameter with a Gaussian gradient, drawn in float64."""
    generator = torch.Generator().manual_seed(seed)
    values, gradient = (
        torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for _ in range(2)
    )
    parameter = nn.Parameter(values)
    parameter.grad = gradient
    return parameter
