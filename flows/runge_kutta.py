"""One explicit Runge–Kutta step for many lanes, each with a step of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from flows.tableaux import Tableau

Velocity = Callable[[Tensor], Tensor]


STABILITY_SHARE = 0.9


@dataclass(frozen=True)
class Step:
    """The stages K (stages + 1, L, N) of a step, its end and the state of the stage before it.

    The last stage is the velocity at the end, the first stage of the next step.
    """

    K: Tensor
    end: Tensor
    previous: Tensor


@dataclass(frozen=True)
class Method:
    """A tableau on a device and in a dtype; ``weights[s]`` (s + 1,) make the stage s + 1."""

    tableau: Tableau
    weights: tuple[Tensor, ...]
    errors: Tensor | None
    dense: Tensor | None

    @classmethod
    def on(cls, tableau: Tableau, like: Tensor) -> Method:
        rows, errors, dense = (
            None if x is None else torch.as_tensor(x, dtype=like.dtype, device=like.device)
            for x in (tableau.rows, tableau.error, tableau.dense)
        )
        assert rows is not None
        weights = tuple(row[:stage] for stage, row in enumerate(rows[1:], 1))
        return cls(tableau, weights, errors, dense)

    def step(
        self, velocity: Velocity, y: Tensor, f: Tensor, h: Tensor, K: Tensor | None = None
    ) -> Step:
        """One step from y (L, N), where y' = f, with the steps h (L,).

        Args:
            K: (stages + 1, L, N), room to be used: fresh pages cost time.
        """
        K = y.new_empty(self.tableau.stages + 1, *y.shape) if K is None else K
        K[0] = f
        end, columns, h = y, K.flatten(1).mT, h[:, None]
        for stage, weights in enumerate(self.weights, 1):
            moved = torch.mv(columns[:, :stage], weights).view(y.shape)
            previous, end = end, torch.addcmul(y, h, moved)
            K[stage] = velocity(end)
        return Step(K, end, previous)

    def error(self, K: Tensor, h: Tensor, scale: Tensor) -> Tensor:
        """The scaled local error of each lane, (L,); a step is good where it is at most 1.

        In the maximum norm: a mode that arrives is a few components of many, and a mean over all
        of them would let its error exceed the tolerance by the root of their number.
        """
        assert self.errors is not None
        error = torch.mv(K.flatten(1).mT, self.errors).view(scale.shape)
        return h * error.div_(scale).abs_().amax(-1)

    def stable_step(self, apart: Tensor, change: Tensor) -> Tensor:
        """The longest step, (L,), within the method's stability interval on the real axis.

        The field's Lipschitz constant is read off the last two stages, which lie at the same time:
        how far ``apart`` their states are, and by how much their velocities ``change`` (Hairer,
        Wanner, Solving ODEs II, IV.2). Without this cap a converged mode is not damped but kept at
        the size where the error estimate just notices it.
        """
        limit = (STABILITY_SHARE * self.tableau.stability) * apart / change
        # Stages that coincide to the last bit (0, or 0 / 0) say nothing.
        return torch.where(limit > 0, limit, torch.inf)

    def interpolate(self, y: Tensor, h: Tensor, K: Tensor, theta: Tensor) -> Tensor:
        """The dense output at y(t + theta h), all arguments per lane, (L, N)."""
        assert self.dense is not None
        powers = theta[:, None].expand(-1, self.dense.shape[1]).cumprod(1)
        weights = (h[:, None] * powers) @ self.dense.mT
        return torch.baddbmm(y[:, None], weights[:, None], K.transpose(0, 1)).squeeze(1)
