"""Far jumps of heavy-tailed noise: what they weigh in a mean of momentum's errors, and should."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from claims.low_rank_orthogonalization.heavy_tailed_runs import TAILS, Array, M, N
from claims.registry import Setting
from simulate.noise import Noise

# Of jumps beyond the threshold so many are expected within a memory of 1/g steps.
RARITY = 0.1
# Noise is drawn for so many numbers' worth of steps at a time.
_BLOCK = 1 << 20


def excess_of_jumps(
    setting: Setting, orders: Sequence[float], horizons: Sequence[int], weights: Array, scale: float
) -> Array:
    """What jumps add to the mean over a run's steps of C_k, less what they are expected to.

    C_k = (1 - g) C_(k-1) + g J_k, C_0 = 0, where J_k is the sum of |xi_ij| over the entries of
    the step's noise with |xi_ij| > t. Its mean over k = 1 ... K is that of w_j J_j with
    w_j = 1 - (1 - g)^(K-j+1), and |xi_ij| / scale is Pareto's of index p, so that

        E J = m n scale p/(p - 1) (t / scale)^(1-p).

    The threshold t has m n (t / scale)^-p = RARITY g. The noise is that of ``trajectory_means``
    for the same setting, and its entries are drawn again.

    Args:
        orders: keys of TAILS. horizons: K. weights: g, one a horizon. scale: of the noise.

    Returns:
        (T, H, S) for T orders, H horizons and the setting's S seeds; of expectation 0.
    """
    own, tails = setting.seeds(setting["seeds"]), np.array([TAILS[a] for a in orders])
    thresholds = (M * N / (RARITY * weights)) ** (1 / tails[:, None])
    tail, member, step, size = _jumps(own, tails, max(horizons), thresholds.min(-1), setting.device)
    found = np.zeros((len(tails), len(horizons), len(own)))
    for place, (steps, g) in enumerate(zip(horizons, weights, strict=True)):
        weighs = (1 - (1 - g) ** np.arange(steps, 0, -1)) / steps
        far = (step < steps) & (size > thresholds[tail, place])
        added = weighs[step[far]] * size[far]
        np.add.at(found[:, place], (tail[far], member[far]), added)
        expected = M * N * tails / (tails - 1) * thresholds[:, place] ** (1 - tails)
        found[:, place] -= weighs.sum() * expected[:, None]
    return scale * found


def _jumps(
    seeds: Sequence[int], tails: Array, steps: int, thresholds: Array, device: str
) -> tuple[Array, Array, Array, Array]:
    """All entries of unit scale beyond the threshold of their tail: tail, member, step and size."""
    indices = torch.from_numpy(tails).to(device).repeat_interleave(len(seeds))
    least = torch.from_numpy(thresholds).to(device).repeat_interleave(len(seeds))[:, None, None]
    keys = torch.tensor([*seeds], device=device).repeat(len(tails))
    noise, block = Noise("pareto", indices), max(1, _BLOCK // (len(keys) * M * N))
    parts = []
    for first in range(0, steps, block):
        drawn = torch.arange(first, min(first + block, steps), device=device)
        sizes = noise.draw(keys, M, N, drawn).abs_()
        where = (sizes > least).nonzero(as_tuple=True)
        parts.append([x.cpu().numpy() for x in (where[0] + first, where[1], sizes[where])])
    step, lane, size = (np.concatenate(column) for column in zip(*parts, strict=True))
    return lane // len(seeds), lane % len(seeds), step, size
