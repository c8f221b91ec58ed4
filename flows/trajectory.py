"""States at several times, and what they say, computed when asked: of flows and of optimisers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from flows.coordinates import Coordinates
from flows.fields import Field
from flows.invariants import dissipation, imbalance
from flows.moving import moved
from flows.problem import MatrixFactorization
from flows.recording import Work
from flows.starts import Factors
from geometry.errors import require_positive


@dataclass(frozen=True)
class States:
    """The factors of a problem at several times, whatever moved them.

    ``...`` below stands for the leading batch dimensions of the start, T for the times. Everything
    but :attr:`factors` and :attr:`products` is computed in the coordinates of the run. What has no
    finite value is NaN.

    Attributes:
        coordinates: of the flattened lanes.
        batch: the leading batch shape.
        times: (T,).
        states: (lanes, T, p + q, r), float dtype of the problem.
    """

    problem: MatrixFactorization
    coordinates: Coordinates
    batch: torch.Size
    times: Tensor
    states: Tensor

    @cached_property
    def singular_values(self) -> Tensor:
        """Singular values of B A, (..., T, r), descending."""
        b, a = self.coordinates.factors(self.states)
        W = b @ a
        finite = torch.isfinite(W.sum((-2, -1)))[..., None]
        # LAPACK would refuse the whole batch for one that is not.
        values = torch.linalg.svdvals(torch.where(finite[..., None], W, 0.0))
        values = torch.where(finite, values, torch.nan)
        return self._shaped(values[..., : self.problem.rank])

    @cached_property
    def mode_values(self) -> Tensor:
        """d_i = u_i^T B A v_i, (..., T, k): follows a mode by its name, not by its rank."""
        return self._shaped(self.coordinates.mode_values(self.states))

    @cached_property
    def loss(self) -> Tensor:
        """The objective, (..., T)."""
        return self._shaped(self.coordinates.loss(self.states))

    @cached_property
    def imbalance(self) -> Tensor:
        """B^T B - A A^T, (..., T, r, r)."""
        return self._shaped(imbalance(*self.coordinates.factors(self.states)))

    @cached_property
    def gradient_norms(self) -> Tensor:
        """Frobenius norm of the gradient of the objective, (..., T)."""
        return self._shaped(torch.linalg.matrix_norm(self._gradients))

    def mode_overlaps(self) -> Tensor:
        """u_j^T B A v_i, (..., T, k, k); its diagonal is :attr:`mode_values`."""
        return self._shaped(self.coordinates.mode_overlaps(self.states))

    @property
    def factors(self) -> Factors:
        """B (..., T, m, r) and A (..., T, r, n) in ambient coordinates, built on demand."""
        B, A = self.coordinates.lift(self.states)
        return self._shaped(B), self._shaped(A)

    @property
    def products(self) -> Tensor:
        """B A, (..., T, m, n) in ambient coordinates, built on demand."""
        B, A = self.factors
        return B @ A

    def arrival_times(self, fraction: float = 0.9) -> Tensor:
        """The first of the times at which d_i >= fraction sigma_i, (..., k); inf where none is."""
        require_positive("fraction", fraction)
        there = self.mode_values >= fraction * self.problem.singular_values
        first = self.times[there.to(torch.uint8).argmax(-2)]
        return torch.where(there.any(-2), first, torch.inf)

    @cached_property
    def _gradients(self) -> Tensor:
        return self._per_time(self.coordinates.gradient)

    def _per_time(self, function: Callable[[Tensor], Tensor]) -> Tensor:
        slices = [function(states) for states in self.states.unbind(1)]
        return torch.stack(slices, dim=1)

    def _shaped(self, values: Tensor) -> Tensor:
        return values.reshape(*self.batch, *values.shape[1:])


@dataclass(frozen=True)
class Trajectory(States):
    """The solution of :func:`flows.integrate`.

    Attributes:
        field: the vector field that was integrated.
        work: what each lane cost; flattened lanes.
    """

    field: Field
    work: Work
    arrivals: dict[float, Tensor]
    again: Callable[[float], Trajectory]

    @cached_property
    def energy(self) -> Tensor:
        """The rate at which the field dissipates the objective, -dL/dt, (..., T)."""
        return self._shaped(dissipation(self._gradients, self._velocities))

    @cached_property
    def mode_rates(self) -> Tensor:
        """d/dt d_i, (..., T, k), from the field itself, not from differences in time."""
        return self._shaped(self.coordinates.mode_rates(self.states, self._velocities))

    def reduced_products(self) -> tuple[Tensor, Tensor]:
        """b a and its time derivative within the coordinates, each (..., T, p, q)."""
        (b, a), (db, da) = (self.coordinates.factors(x) for x in (self.states, self._velocities))
        return self._shaped(b @ a), self._shaped(db @ a + b @ da)

    def to(self, device: torch.device | str) -> Trajectory:
        """The same on another device, with its problem, field and coordinates."""

        def again(fraction: float) -> Trajectory:
            # Where this one was integrated.
            return self.again(fraction).to(device)

        return replace(moved(self, device), again=again)

    def arrival_times(self, fraction: float = 0.9) -> Tensor:
        """The first time at which d_i >= fraction sigma_i, (..., k); inf where it never was.

        Located on the dense output (for a fixed step: the first iterate). A fraction that
        ``integrate`` was not told of costs another integration.
        """
        # By a tensor nothing is found among numbers.
        require_positive("fraction", fraction)
        fraction = float(fraction)
        if fraction in self.arrivals:
            return self._shaped(self.arrivals[fraction])
        return self.again(fraction).arrival_times(fraction)

    @cached_property
    def _velocities(self) -> Tensor:
        return self._per_time(lambda states: self.field.velocity(self.coordinates, states))
