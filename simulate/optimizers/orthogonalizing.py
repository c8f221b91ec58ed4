"""Optimisers of LoRA pairs that go by orthogonalised first moments: what they share."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from torch import Tensor

from geometry.gauge import Pair
from geometry.lora import Direction
from geometry.orthogonalizers import orthogonalizer_named
from geometry.polar import orthogonalize
from simulate.optimizers.pair_optimizer import Batch, PairOptimizer, rate


class OrthogonalizingPairOptimizer(PairOptimizer):
    """Base of those with the options ``orthogonalizer`` and ``ns_steps``."""

    def require_options(self, options: Mapping[str, Any]) -> None:
        """Raise ValueError for an option out of range, or an unknown orthogonaliser."""
        super().require_options(options)
        orthogonalizer_named(options["orthogonalizer"]).polynomials(options["ns_steps"])


def orthogonalizer_of(batch: Batch) -> Direction:
    """What the group orthogonalises by."""
    group = batch.group
    return partial(orthogonalize, method=group["orthogonalizer"], steps=group["ns_steps"])


def factors_moved(batch: Batch, moments: Pair, length: Tensor) -> Pair:
    """(1 - lr weight_decay) X - length O(m) for each factor X by itself.

    Args:
        length: broadcasts to the stacked factors.
    """
    left, direction = 1 - rate(batch) * batch.group["weight_decay"], orthogonalizer_of(batch)
    B, A = (left * x - length * direction(m) for x, m in zip(batch.factors, moments, strict=True))
    return B, A
