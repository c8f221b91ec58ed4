"""Anderson's acceleration of a fixed-point iteration with a window of one, lane by lane.

The new iterate is x + f - g (dx + df), where f is the proposed correction, dx and df are the last
changes of x and of f, and g minimises |f - g df|. What the structured Jacobian leaves out acts
in a few directions, and the slowest of them is soon the only one left. Windows of one and three
were measured: three saves a tenth of the corrections and costs more than that.

Reference: Anderson 1965, J. ACM 12; Walker, Ni 2011, SIAM J. Numer. Anal. 49.
"""

from __future__ import annotations

import torch
from torch import Tensor


class Anderson:
    """The last iterates (s, L, N) of L lanes, s vectors each."""

    def __init__(self, like: Tensor) -> None:
        self.last_f, self.last_x = torch.zeros_like(like), torch.zeros_like(like)

    def step(self, x: Tensor, f: Tensor, accelerate: Tensor) -> Tensor:
        """The step to take from x (s, L, N) where f (s, L, N) is proposed.

        Args:
            accelerate: (L,) booleans; elsewhere the step is f. Not for the first correction of a
                fixed point, which has no history.
        """
        df = f - self.last_f
        share = torch.linalg.vecdot(f, df).sum(0) / torch.linalg.vecdot(df, df).sum(0)
        g = torch.where(accelerate, share, 0.0).nan_to_num(0.0)[:, None]
        change = df + (x - self.last_x)
        self.last_f, self.last_x = f, x
        return torch.addcmul(f, change, -g)

    def select(self, lanes: Tensor) -> None:
        """Keep some of the lanes."""
        self.last_f, self.last_x = self.last_f[:, lanes], self.last_x[:, lanes]
