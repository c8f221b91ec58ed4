"""LoRA on pretrained models from the locally optimal start of every layer that is adapted."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from geometry.errors import require_positive
from simulate.locally_optimal_start import locally_optimal_start
from simulate.tasks.adaptation import LowRankAdaptation, Pretrained
from simulate.tasks.batches import Windows
from simulate.tasks.transformer import Block


def locally_optimal_adaptation(
    pretrained: Pretrained,
    windows: Windows,
    *,
    rank: int = 8,
    layers: tuple[str, ...] = ("query", "value"),
    scale: float = 1.0,
    size: float = 1.0,
    oversampling: int | None = None,
    power_iterations: int = 1,
    seed: int = 0,
) -> LowRankAdaptation:
    """Adapters where the gradient of the mean loss on some windows is most tangent.

    Args:
        windows: inputs and targets, (E, batch, length) for the E pretrained models, or
            (batch, length) for all of them.
        rank, layers, scale: as of :class:`LowRankAdaptation`.
        size: every singular value of scale B A.
        oversampling, power_iterations: as of
            :func:`simulate.locally_optimal_start.locally_optimal_start`.
        seed: of the randomised SVD.

    Raises:
        ValueError: as those two; windows that the models do not take.
    """
    require_positive("size", size)
    zero = LowRankAdaptation(pretrained, rank=rank, layers=layers, scale=scale)
    model = pretrained.model
    inputs, targets = (
        part.to(model.embedding.device).expand(model.members, *part.shape[-2:]) for part in windows
    )

    def loss() -> Tensor:
        return model.token_losses(inputs, targets).mean((1, 2)).sum()

    starts = locally_optimal_start(
        [cast("Block", block).layers[name] for block in model.blocks for name in zero.adapted],
        loss,
        rank,
        scale=size,
        adapter_scale=scale,
        oversampling=oversampling,
        power_iterations=power_iterations,
        generator=torch.Generator().manual_seed(seed),
    )
    pairs = tuple((start.B, start.A) for start in starts)
    return LowRankAdaptation(pretrained, rank=rank, layers=layers, scale=scale, starts=pairs)
