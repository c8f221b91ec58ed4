"""What an optimiser costs: results that torch makes while one looks, and what is kept."""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


class Trace(TorchDispatchMode):
    """Notes every operation within ``with Trace() as seen``.

    Attributes:
        largest: entries of the largest tensor that any of them returned.
        operations: how often each ran, by its name, such as "linalg_qr".
    """

    def __init__(self) -> None:
        super().__init__()
        self.largest = 0
        self.operations: Counter[str] = Counter()

    def __torch_dispatch__(
        self, function: Any, kinds: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        self.operations[function.overloadpacket.__name__] += 1
        for part in result if isinstance(result, tuple | list) else (result,):
            if isinstance(part, Tensor):
                self.largest = max(self.largest, part.numel())
        return result


def numbers_kept(optimizer: torch.optim.Optimizer) -> int:
    """Entries of the tensors in an optimiser's state, those without a dimension left out."""
    values = [value for state in optimizer.state.values() for value in state.values()]
    return sum(x.numel() for x in values if isinstance(x, Tensor) and x.ndim > 0)
