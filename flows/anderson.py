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


def accelerated(x: Tensor, f: Tensor, last_x: Tensor, last_f: Tensor, wanted: Tensor) -> Tensor:
    """The step to take from x where f is proposed, all (s, L, N): s vectors each of L lanes.

    Args:
        wanted: (L,) booleans; elsewhere the step is f. Not for the first correction of a fixed
            point, which has no history.
    """
    df = f - last_f
    share = torch.linalg.vecdot(f, df).sum(0) / torch.linalg.vecdot(df, df).sum(0)
    g = torch.where(wanted & torch.isfinite(share), share, 0.0)[:, None]
    return torch.addcmul(f, df + (x - last_x), -g)
