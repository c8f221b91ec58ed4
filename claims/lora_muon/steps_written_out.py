"""The optimisers that train in the claims, held to their formulas, written out.

Nothing here is taken from the code under test. Iterations of odd polynomials act on singular
values, so they are written as scalar functions of those, and roots of Gram matrices as functions of
the factor's. Coefficients are as the papers print them.

References: Cesista et al., arXiv 2606.12921, Algorithms 1 and 4, appendices B.3 and B.4; Janson,
Oyallon, Belilovsky, arXiv 2602.12429, for Spectron.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from claims.lora_muon.contestants import (
    EXACT_LORA_MUON,
    FACTOR_MUON,
    LORA_MUON,
    MUON,
    SPECTRON,
)
from claims.lora_muon.two_forms import written_out
from claims.measuring.study import ADAMW
from claims.measuring.written_out import (
    RATES,
    Formula,
    Step,
    adamw,
    as_written_out,
    heavy_ball,
    quintic,
    steps_taken,
)
from claims.registry import Measurement
from geometry.gauge import Pair
from simulate.cells import Contestant

MOMENTUM = 0.9
M, N, R = 32, 24, 8
# Tables 1 and 2: c_1, c_3, c_5 of each step.
POLAR = (
    (7.2086, -15.5131, 9.0178), (3.9623, -2.5813, 0.4542), (3.9466, -2.5765, 0.4544),
    (3.8991, -2.5671, 0.4566), (3.7186, -2.5308, 0.4653), (3.1390, -2.3073, 0.4733),
    (2.1715, -1.5246, 0.3885), (1.8648, -1.2224, 0.3577),
)  # fmt: skip
ROOT = (
    (7.424865680309214, -18.39581635618996, 12.896720413604342),
    (3.4877256051546017, -2.3300436563986993, 0.4404692168431095),
    (2.7766085124882527, -2.070643152532662, 0.46302261050004967),
    (1.9913142104341506, -1.373936700681269, 0.3875934979568538),
    (1.8754637749479246, -1.2505152090010534, 0.37505152463617264),
    (1.874999066623701, -1.2499981332141676, 0.37499906659046633),
    (1.875, -1.25, 0.375),
)
# Of Algorithm 4: how much every step's argument is reduced by, and the relative damping.
SAFETY, DAMPING = 1.001, 1e-5
# What is stored is rounded once, and products within a step are sums of r terms.
ROUNDINGS = float(R)
IN_FLOAT32 = (
    "the same in float32, over its rounding of a weight over the rate and of the step, most"
)


class PairStep(NamedTuple):
    """One step of a pair, and those before it.

    Attributes:
        moments: of both gradients, (E, m, r) and (E, r, n).
        before: both factors before this step and before all the others, (T, E, m, r) and
            (T, E, r, n), this one last.
    """

    moments: Pair
    before: Pair


# What the steps of both factors over the rate should have been.
PairFormula = Callable[[PairStep], Pair]


def _composed(table: Sequence[tuple[float, float, float]], s: Tensor) -> Tensor:
    for first, third, fifth in table:
        s = first * s + third * s**3 + fifth * s**5
    return s


def eight_steps(X: Tensor) -> Tensor:
    """Table 1 on the singular values of X (..., m, n) over its Frobenius norm."""
    U, s, Vh = torch.linalg.svd(X, full_matrices=False)
    s = s / torch.linalg.vector_norm(s, dim=-1, keepdim=True)
    return (U * _composed(POLAR, s)[..., None, :]) @ Vh


def damped_root(X: Tensor) -> Tensor:
    """Table 2's (X X^T)^(-1/2), (..., r, r), of X (..., r, n).

    On x = sqrt(s_i^2 / ||X X^T||_F + damping): it takes x to y, about 1, and the root is y / x.
    """
    U, s, _ = torch.linalg.svd(X, full_matrices=False)
    norm = torch.linalg.vector_norm(s**2, dim=-1, keepdim=True)
    x = (s**2 / norm + DAMPING).sqrt()
    reduced = [(a / SAFETY, b / SAFETY**3, c / SAFETY**5) for a, b, c in ROOT]
    return (U * (_composed(reduced, x) / x / norm.sqrt())[..., None, :]) @ U.mT


def _lora_muon(step: PairStep) -> Pair:
    """Half the rate along O(m_B R_A) R_A and R_B O(R_B m_A)."""
    (m_B, m_A), (B, A) = step.moments, (each[-1] for each in step.before)
    R_A, R_B = damped_root(A), damped_root(B.mT)
    return eight_steps(m_B @ R_A) @ R_A / 2, R_B @ eight_steps(R_B @ m_A) / 2


def _exact_lora_muon(step: PairStep) -> Pair:
    (m_B, m_A), (B, A) = step.moments, (each[-1] for each in step.before)
    D_B, D_A = written_out(B, A, m_B, m_A)
    return D_B / 2, D_A / 2


def _factor_muon(step: PairStep) -> Pair:
    m_B, m_A = step.moments
    return eight_steps(m_B), eight_steps(m_A)


def _spectron(step: PairStep) -> Pair:
    """Each factor along the quintic of its moment, over ||B|| + ||A|| + 1."""
    B, A = step.before
    length = (_by_power(B) + _by_power(A.mT) + 1)[:, None, None]
    m_B, m_A = step.moments
    return quintic(m_B) / length, quintic(m_A) / length


def _by_power(X: Tensor) -> Tensor:
    """What power iteration makes of ||X||_2, (E,), one step for each of X (T, E, m, r).

    ||S v|| / sqrt(v^T S v) of the Gram matrix S, and v goes on along S v. No text says where it
    begins: the optimiser draws a vector from seed 0.
    """
    v = torch.randn(X.shape[-1], generator=torch.Generator().manual_seed(0), dtype=X.dtype)
    v, norm = v.expand(*X.shape[1:-2], -1), torch.empty(0)
    for S in X.mT @ X:
        moved = torch.einsum("...ij,...j->...i", S, v)
        norm = torch.linalg.vector_norm(moved, dim=-1) / (v * moved).sum(-1).sqrt()
        v = moved
    return norm


# Of momentum .9 and no decay, as the claims have it.
OF_PAIRS: Mapping[str, PairFormula] = {
    LORA_MUON.name: _lora_muon,
    EXACT_LORA_MUON.name: _exact_lora_muon,
    FACTOR_MUON.name: _factor_muon,
    SPECTRON.name: _spectron,
}


def _muon(step: Step) -> Tensor:
    return eight_steps(heavy_ball(MOMENTUM, step.gradients))


OF_MATRICES: Mapping[str, Formula] = {MUON.name: _muon, ADAMW.name: adamw(0.0)}


def contestants_written_out(contestants: Sequence[Contestant]) -> tuple[Measurement, ...]:
    """That contestants step as their names say, in float64 and in float32.

    float32 is what they train in, and there LoRA-Muon goes by Gram matrices in float64. A new value
    is rounded, which over the rate is u |parameter| / rate, and so is the step: an error is counted
    in the sum of both, and may be r of them.
    """
    off, rounded = [], []
    for each in contestants:
        errors, sizes, _ = _errors(each, torch.float64)
        off.append(float((errors / sizes).max()))
        errors, sizes, stored = _errors(each, torch.float32)
        u = torch.finfo(torch.float32).eps / 2
        rounded.append(float((errors / (u * (stored + sizes))).max()))
    return as_written_out(off), Measurement(IN_FLOAT32, float(np.max(rounded)), "<=", ROUNDINGS)


def _errors(contestant: Contestant, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """The largest entries, of every step and parameter, a row, and member (..., E): of the error of
    a step over the rate, of that as it should have been, and of the parameter over the rate."""
    of_pairs = contestant.name in OF_PAIRS

    def make(parameters: list[nn.Parameter], lr: Tensor) -> Optimizer:
        given = [tuple(parameters)] if of_pairs else parameters
        return contestant.optimizer(given, lr, range(len(lr)))

    found: list[Tensor] = []
    past: list[list[Step]] = []
    for taken in steps_taken(make, [(M, R), (R, N)] if of_pairs else [(M, N)], dtype=dtype):
        past.append(taken)
        due = _of_pair(contestant, past) if of_pairs else [OF_MATRICES[contestant.name](*taken)]
        for step, each in zip(taken, due, strict=True):
            compared = torch.stack([step.taken - each, each, step.before])
            found.append(compared.abs().amax((-2, -1)))
    errors, sizes, parameters = torch.stack(found, 1)
    return errors, sizes, parameters / torch.tensor(RATES)


def _of_pair(contestant: Contestant, past: Sequence[Sequence[Step]]) -> Pair:
    B, A = (torch.stack([step.before for step in each]) for each in zip(*past, strict=True))
    m_B, m_A = (heavy_ball(MOMENTUM, step.gradients) for step in past[-1])
    return OF_PAIRS[contestant.name](PairStep((m_B, m_A), (B, A)))
