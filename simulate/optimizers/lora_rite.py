"""LoRA-RITE: matrix preconditioning of unmagnified gradients, and its simplified core."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from geometry.errors import require_nonnegative
from geometry.gauge import Pair
from geometry.lora import split_direction_by_qr
from geometry.scaling import compute_dtype
from simulate.optimizers.lora_muon import LoRAMuon
from simulate.optimizers.momentum import require_betas
from simulate.optimizers.orthogonalizing import orthogonalizer_of
from simulate.optimizers.pair_optimizer import (
    Batch,
    PairOptimizer,
    Pairs,
    State,
    rate,
)


class LoRARite(PairOptimizer):
    """Adam with matrices for second moments, in the orthonormal basis of the other factor.

    With A^T = U T the unmagnified gradient of B is g = G_B T^-1. When the basis turns by
    P = U^T U_last, the second moment V becomes P V P^T and the first M becomes M P^T; then
    V <- beta_2 V + (1 - beta_2) g^T g / m, M <- beta_1 M + (1 - beta_1) g S with
    S = ((V + escaped)^(1/2) + eps)^(-1), betas corrected for their bias, and B <- B - lr M T^-T.
    ``escaped`` is what V has lost by the turn, which would else make steps too long. A likewise.

    Half precisions compute in float32; what is kept has the dtype of the factors.

    Covariant: no step depends on the gauge. T is inverted as a pseudo-inverse, so from LoRA's zero
    start B moves alone at first. The reference implementation clips g by its norm over all pairs
    and drops it where its mean square exceeds 1; neither is done here.

    Args:
        pairs: [(B, A), ...] or groups; see :class:`PairOptimizer`.
        lr: a number or one a member. betas: of the first and the second moment.
        eps: added to the roots of the eigenvalues. escape: whether escaped mass is added.
        weight_decay: of each factor, with the gradient step's rate.

    Reference: Yen et al., LoRA Done RITE, arXiv 2410.20625, Algorithm 1.
    """

    def __init__(
        self,
        pairs: Pairs,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        *,
        escape: bool = True,
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "escape": escape,
        }
        super().__init__(pairs, defaults)

    def require_options(self, options: Mapping[str, Any]) -> None:
        super().require_options(options)
        require_betas(options["betas"])
        require_nonnegative("eps", options["eps"])

    def initial_state(self, factors: Pair) -> State:
        B, A = factors[0], factors[1].mT
        square = B.new_zeros(*B.shape[:-2], B.shape[-1], B.shape[-1])
        mass = B.new_zeros(B.shape[:-2])
        return {
            "first_moment": (torch.zeros_like(B), torch.zeros_like(A)),
            "second_moment": (square, square),
            # Of the other factor: where the moments are coordinates.
            "basis": (torch.zeros_like(A), torch.zeros_like(B)),
            "escaped": (mass, mass),
        }

    def updated(self, batch: Batch, state: State) -> tuple[Pair, State]:
        dtype = batch.factors[0].dtype
        (B, A), (G_B, G_A) = _computing(batch.factors), _computing(batch.gradients)
        state = {name: _computing(both) for name, both in state.items()}
        kept = [{name: both[side] for name, both in state.items()} for side in range(2)]
        D_B, new_B = self._direction(batch, G_B, A.mT, kept[0])
        D_A, new_A = self._direction(batch, G_A.mT, B, kept[1])
        lr, decay = rate(batch), batch.group["weight_decay"]
        factors = B - lr * (D_B + decay * B), A - lr * (D_A.mT + decay * A)
        new = {name: (new_B[name].to(dtype), new_A[name].to(dtype)) for name in new_B}
        return (factors[0].to(dtype), factors[1].to(dtype)), new

    def _direction(
        self, batch: Batch, G: Tensor, other: Tensor, kept: dict[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """M T^-T of a factor (..., m, r) beside the other (..., n, r), and what is kept."""
        group = batch.group
        first, second = (_corrected(beta, batch.step) for beta in group["betas"])
        basis, T = torch.linalg.qr(other)
        inverse = torch.linalg.pinv(T)
        g = G @ inverse
        turn = basis.mT @ kept["basis"]
        V = turn @ kept["second_moment"] @ turn.mT
        escaped = second * (kept["escaped"] + _lost(kept["second_moment"], V))
        V = second * V + (1 - second) * (g.mT @ g) / g.shape[-2]
        w, Q = torch.linalg.eigh((V + V.mT) / 2)
        added = escaped[..., None] if group["escape"] else 0.0
        weights = 1 / ((w.clamp_min(0) + added).sqrt() + group["eps"])
        # Where nothing has been seen yet there is nothing to weigh.
        weights = torch.where(w.amax(-1, keepdim=True) + added > 0, weights, 0.0)
        preconditioned = g @ (Q * weights[..., None, :]) @ Q.mT
        M = first * (kept["first_moment"] @ turn.mT) + (1 - first) * preconditioned
        new = {"first_moment": M, "second_moment": V, "basis": basis, "escaped": escaped}
        return M @ inverse.mT, new


class LoRARiteCore(LoRAMuon):
    """LoRA-RITE without second moments and projected ones: msign(m T^-1) T^-T for B, A likewise.

    It is LoRA-Muon in QR coordinates: the same step, whose error grows with the condition number
    of a factor where the Gram form by eigh has its square. Factors have to have full rank. ``root``
    and ``damping`` have no meaning here.

    Reference: arXiv 2606.12921, Proposition 6.
    """

    def direction(self, batch: Batch, moments: Pair) -> Pair:
        by = orthogonalizer_of(batch)
        return split_direction_by_qr(*batch.factors, *moments, orthogonalize=by)


def _computing(both: Pair) -> Pair:
    first, second = (x.to(compute_dtype(x.dtype)) for x in both)
    return first, second


def _corrected(beta: float, step: int) -> float:
    """The decay with which a moment from 0 is an average: Shazeer, Stern 2018, section 7.1."""
    return float(beta * (1 - beta**step) / (1 - beta ** (step + 1)))


def _lost(old: Tensor, new: Tensor) -> Tensor:
    """The largest fall of an eigenvalue, at most that of the trace, at least 0."""
    fall = (torch.linalg.eigvalsh(old) - torch.linalg.eigvalsh(new)).amax(-1)
    trace = (old - new).diagonal(dim1=-2, dim2=-1).sum(-1)
    return torch.minimum(fall, trace).clamp_min(0)
