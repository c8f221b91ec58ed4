"""Quadratics tr X^T A X B / 2 whose curvature differs by direction, drawn one a seed."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from claims.measuring.draws import orthonormal
from geometry.philox import uniforms


def curvatures(seeds: Sequence[int], m: int, n: int, decades: float) -> tuple[Tensor, Tensor]:
    """A (E, m, m) and B (E, n, n), symmetric, of random axes.

    Eigenvalues are 10^(-c u), with c uniform up to ``decades``, one a matrix, and u up to 1, one
    an eigenvalue: from round to conditions of 10^decades.
    """
    made = []
    for stream, size in ((101, m), (103, n)):
        axes = orthonormal(seeds, size, size, stream=stream)
        drawn = uniforms(torch.tensor(seeds), size + 1, stream=stream + 1)
        eigenvalues = 10 ** (-decades * drawn[:, :1] * drawn[:, 1:])
        made.append((axes * eigenvalues[:, None]) @ axes.mT)
    return made[0], made[1]
