"""Arrivals: the first time at which a mode value d_i reaches a fraction of its target sigma_i."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from flows.coordinates import Coordinates


@dataclass(frozen=True)
class Levels:
    """The levels f sigma_i of every fraction f, (F, k), and how far a state is above them."""

    values: Tensor

    def excess(self, coordinates: Coordinates, states: Tensor) -> Tensor:
        """d_i - f sigma_i of states (L, ..., p + q, r), (L, ..., F, k)."""
        return coordinates.mode_values(states)[..., None, :] - self.values


def locate(
    evaluate: Callable[[Tensor, Tensor], Tensor],
    before: Tensor,
    after: Tensor,
    iterations: int = 60,
) -> Tensor:
    """Roots in (0, 1] of functions that change sign, by the Illinois variant of regula falsi.

    Args:
        evaluate: (theta (E,), index (E,)) to values (E,); index says which event.
        before, after: values at 0 (negative) and at 1 (not negative), (E,).

    Returns:
        theta (E,), to an absolute error of 1e-14.
    """
    low, high = torch.zeros_like(before), torch.ones_like(after)
    below, above = before.clone(), after.clone()
    index = torch.arange(len(before), device=before.device)
    side = torch.zeros_like(before)
    theta = high.clone()
    for _ in range(iterations):
        previous = theta
        theta = torch.where(above > 0, low - below * (high - low) / (above - below), high)
        if bool(((theta - previous).abs() <= 1e-14).all()):
            break
        value = evaluate(theta, index)
        up = value >= 0
        # Halving the value at an end that stays put twice is what makes it superlinear.
        below = torch.where(up, torch.where(side > 0, below / 2, below), value)
        above = torch.where(up, value, torch.where(side < 0, above / 2, above))
        low, high = torch.where(up, low, theta), torch.where(up, theta, high)
        side = torch.where(up, 1.0, -1.0).to(side)
    return theta
