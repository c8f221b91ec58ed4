"""When a lane has converged, so that its state may hold from there on."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from flows.coordinates import Coordinates
from flows.problem import MatrixFactorization


@dataclass(frozen=True)
class Convergence:
    """When a lane has converged to ``tolerance`` in its factors.

    Where the optimum fits the target exactly, the residual ||BA - Y||_F says it. Elsewhere the
    gradient does, over the smallest curvature of the optimum, together with a loss below every
    saddle's: a saddle that is passed by slowly is no end.
    """

    tolerance: float
    optimal_loss: float
    curvature: float
    saddle_gap: float

    @classmethod
    def of(cls, problem: MatrixFactorization, tolerance: float) -> Convergence:
        return cls(tolerance, problem.optimal_loss, problem.optimal_curvature, problem.saddle_gap)

    def reached(self, coordinates: Coordinates, states: Tensor) -> Tensor:
        """(L,) booleans."""
        if self.optimal_loss == 0.0:
            return (2 * coordinates.loss(states)).sqrt() <= self.tolerance
        size = torch.linalg.matrix_norm(coordinates.gradient(states))
        small = size <= self.tolerance * self.curvature
        if not bool(small.any()):
            return small
        return small & (coordinates.loss(states) <= self.optimal_loss + 0.5 * self.saddle_gap)
