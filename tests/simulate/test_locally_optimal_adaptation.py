"""Adapters of a transformer begun where the gradient is most tangent; the loss is what it was."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from geometry.fixed_rank import point, tangent_norm, tangent_projection
from simulate.locally_optimal_adaptation import locally_optimal_adaptation
from simulate.tasks import Architecture, CharacterTransformer, Pretrained

SMALL = Architecture(vocabulary=11, length=8, width=16, depth=2, heads=4)
SEEDS = (3, 7)
LAYERS = ("query", "up")


def test_the_start_is_optimal_and_the_loss_at_it_is_that_of_the_pretrained_model() -> None:
    pretrained = Pretrained(CharacterTransformer(SMALL, SEEDS, dtype=torch.float64), SEEDS)
    options: dict[str, Any] = {"rank": 3, "layers": LAYERS, "scale": 0.5, "size": 2.0}
    inputs, targets = torch.randint(11, (2, 5, 8), generator=torch.Generator().manual_seed(0))
    adaptation = locally_optimal_adaptation(pretrained, (inputs, targets), **options)
    adapted, dense = adaptation.model(SEEDS, dtype=torch.float64), pretrained.model
    tokens = inputs.expand(2, -1, -1), targets.expand(2, -1, -1)
    losses = dense.token_losses(*tokens).mean((1, 2))
    torch.testing.assert_close(
        adapted.token_losses(*tokens).mean((1, 2)), losses, rtol=1e-12, atol=0.0
    )
    names = [f"blocks.{block}.layers.{name}.weight" for block in range(2) for name in LAYERS]
    weights = [dense.get_parameter(name) for name in names]
    gradients = torch.autograd.grad(losses.sum(), weights)
    for (B, A), G in zip(adapted.roles().pairs, gradients, strict=True):
        s = torch.linalg.svdvals(0.5 * B @ A)[:, :3]
        torch.testing.assert_close(s, torch.full_like(s, 2.0), rtol=1e-10, atol=0.0)
        share = tangent_norm(tangent_projection(point(B, A), G)).square()
        best = torch.linalg.svdvals(G)[:, :6].square().sum(-1)
        # A randomised SVD, of nine vectors of sixteen with one power iteration.
        assert bool((share / best).gt(0.97).all())
        assert bool((share / best).le(1 + 1e-12).all())


def test_sizes_are_positive() -> None:
    pretrained = Pretrained(CharacterTransformer(SMALL, SEEDS), SEEDS)
    windows = torch.zeros(2, 1, 8, dtype=torch.int64)
    with pytest.raises(ValueError, match="size must be finite and > 0"):
        locally_optimal_adaptation(pretrained, (windows[0], windows[1]), size=0.0)
