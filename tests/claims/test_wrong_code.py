"""Code that is wrong in one place, plausibly, and a claim about it that has to see it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor

from claims import REGISTRY
from claims.low_rank_orthogonalization.heavy_tailed_runs import COLUMNS
from claims.low_rank_orthogonalization.nesterov import EXACT
from claims.registry import Setting
from geometry import polar, unfolding
from geometry.fixed_rank import FixedRank, Tangent, _projected, retract, tangent_norm
from geometry.fixed_rank_steps import orthogonalized
from geometry.flops import qr_flops
from geometry.locally_optimal import (
    frozen_weight,
    locally_optimal_from_products,
    locally_optimal_initialization,
    optimal_subspaces,
)
from geometry.newton_schulz import newton_schulz
from geometry.polar import _by_svd, msign
from geometry.sketch import _basis
from geometry.tangent_lmo import TangentOptimum, tangent_lmo
from geometry.tensor import offline_unfolding
from geometry.tensor_spectral_norm import spectral_norm_from_below
from geometry.unfolding import unfold, unfolded_shape, unfoldings
from simulate.locally_optimal_start import gradient_products
from simulate.optimizers.descent import descend
from simulate.optimizers.momentum import averaged
from simulate.optimizers.riemannian import added
from simulate.schedules import tail_index_rates
from tests.claims.test_small_sizes import SMALL

Wrong = Callable[..., Any]
Broken = Callable[[pytest.MonkeyPatch], None]
ROOMS = ("geometry", "simulate", "claims")


@dataclass(frozen=True)
class Case:
    """What takes the place of which function, and the measurement that does not hold then."""

    claim: str
    missed: str
    of: Callable[..., Any]
    wrong: Wrong
    sizes: dict[str, Any] = field(default_factory=dict)


def _scaled(share: float) -> Wrong:
    def step(W: Tensor, D: Tensor, lr: Any, ratio: float, weight_decay: float) -> Tensor:
        return descend(W, share * D, lr, ratio, weight_decay)

    return step


def _one_short(*given: Any) -> Tensor:
    Q = _basis(*given).clone()
    Q[..., -1] = 0.0
    return Q


def _one_iteration_at_most(*given: Any) -> Tensor:
    X, factors, sketch, drawn, count, iterations, cutoff = given
    return _basis(X, factors, sketch, drawn, count, min(iterations, 1), cutoff)


def _cut(X: Tensor, _: float | None = None) -> Tensor:
    return _by_svd(X, 1e-3)


def _no_look_ahead(M: Tensor, G: Tensor, options: dict[str, Any]) -> tuple[Tensor, Tensor]:
    return averaged(M, G, {**options, "nesterov": False})


def _shorter_memory(M: Tensor, G: Tensor, options: dict[str, Any]) -> tuple[Tensor, Tensor]:
    return averaged(M, G, {**options, "momentum": options["momentum"] ** 2})


def _as_at_two(steps: int, tail_index: float | None = None) -> tuple[float, float]:
    return tail_index_rates(steps, tail_index and 2.0)


def _but_the_last(order: int) -> tuple[unfolding.Modes, ...]:
    return unfoldings(order)[: max(1, len(unfoldings(order)) - 1)]


def _rows_as_they_come(X: Tensor, modes: Any, order: int | None = None) -> Tensor:
    d = X.ndim if order is None else order
    return X.reshape(*X.shape[:-d], *unfolded_shape(X.shape[-d:], modes))


def _longer(share: float) -> Wrong:
    return lambda *given, **options: share * spectral_norm_from_below(*given, **options)


def _core_twice(_: FixedRank, Z_V: Tensor, Z_U: Tensor) -> Tangent:
    return Tangent(Z_V, Z_U)


def _uphill(X: FixedRank, xi: Tangent) -> tuple[Tensor, Tensor]:
    left, right = orthogonalized(X, xi)
    return -left, right


def _forgetting(_: Tangent, gradient: Tangent) -> Tangent:
    return gradient


def _anywhere(_: Tensor, __: Tensor, G: Tensor, gap: float) -> TangentOptimum:
    value = torch.linalg.matrix_norm(G, ord="nuc")
    return TangentOptimum(msign(G), value, value)


def _unscaled(W: Tensor, B: Tensor, A: Tensor, *, adapter_scale: float = 1.0) -> Tensor:
    return frozen_weight(W, B, A)


def _fewer_vectors(*given: Any, oversampling: int | None, **options: Any) -> Any:
    rank = given[3]
    return locally_optimal_from_products(*given, oversampling=rank - 1, **options)


def _larger(share: float) -> Wrong:
    return lambda X, cutoff=None: share * _by_svd(X, cutoff)


def _no_momentum(_: Tensor, G: Tensor, __: dict[str, Any]) -> tuple[Tensor, Tensor]:
    return G, G


def _any_basis(*given: Any) -> Tensor:
    return torch.linalg.qr(torch.randn_like(_basis(*given))).Q


def _loosely(B: Tensor, A: Tensor, G: Tensor, gap: float = 0.1) -> TangentOptimum:
    return tangent_lmo(B, A, G, gap=0.1)


def _of_other_rows(*given: Any, **options: Any) -> Any:
    start = locally_optimal_initialization(*given, **options)
    return start._replace(B=start.B.roll(1, -2))


def _mispaired(G: Tensor, turn: Tensor) -> tuple[Tensor, Tensor]:
    U, V = optimal_subspaces(G, turn)
    return U, V.roll(1, -2)


def _one_per_cent_more(xi: Tangent) -> Tensor:
    return 1.01 * tangent_norm(xi)


def _twice(*given: Any, **options: Any) -> Any:
    gradient_products(*given, **options)
    return gradient_products(*given, **options)


RUNS: dict[str, Any] = {"seeds": 2, "horizons": (16, 32)}
ALIGNED = "||(Q^T D)(Q^T O)^T||_* / <D, O> off 1"
CASES = {
    "an unfolding left out": Case(
        "tensorion.lmo-optimal", "relative gap", unfoldings, _but_the_last
    ),
    "an unfolding left out, in a run": Case(
        "tensorion.descent", "f(W - eta S) above", unfoldings, _but_the_last
    ),
    "entries of an unfolding in their order in memory": Case(
        "tensorion.norm-bounds", "||X||_sigma, N and", unfold, _rows_as_they_come
    ),
    "a spectral norm too small": Case(
        "tensorion.norm-bounds", "||X||_sigma, N and", spectral_norm_from_below, _longer(0.9)
    ),
    "a spectral norm too large": Case(
        "tensorion.dimension-bound", "the same of planted", spectral_norm_from_below, _longer(1.1)
    ),
    "no step": Case("tensorion.equivariance", "||LMO", descend, _scaled(0.0)),
    "look-ahead left out": Case(
        "practical.thm-3.1", "||N^T O||_*", averaged, _no_look_ahead
    ),
    "steps too short": Case("practical.thm-3.1", "exact polar", descend, _scaled(0.9)),
    "steps too short, without momentum": Case(
        "low-rank.msgd-rate", "<G, O> off", descend, _scaled(0.9), {"horizons": (8, 16)}
    ),
    "a column too few": Case("low-rank.alignment", "dimensions of a sketch", _basis, _one_short),
    "one power iteration instead of five": Case(
        "low-rank.alignment", "share, Gaussian, h = 5", _basis, _one_iteration_at_most
    ),
    "a step of an iteration left out": Case(
        "low-rank.orthogonaliser-table", "iteration on a matrix", newton_schulz,
        lambda G, polynomials: newton_schulz(G, [*polynomials][1:]),
    ),
    "QR counted twice": Case(
        "low-rank.cost", "the formulas less what is stated", qr_flops,
        lambda *sizes: 2 * qr_flops(*sizes), {"shares": {256: (1.0,)}, "rounds": {256: 2}},
    ),
    "small singular values cut off": Case(
        "low-rank.exact-rank", "||O - msign(M)||_F at condition 10000", _by_svd, _cut
    ),
    "a momentum of another memory": Case(
        "low-rank.momentum-lemma", ALIGNED, averaged, _shorter_memory, {"halvings": (1, 2)}
    ),
    "rates of another tail": Case(
        "low-rank.heavy-tail-rate", "rates off the powers", tail_index_rates, _as_at_two,
        {**RUNS, "orders": {COLUMNS: (1.5,)}},
    ),
    "look-ahead left out, under noise": Case(
        "nesterov.rate", ALIGNED, averaged, _no_look_ahead, {**RUNS, "orders": {EXACT: (1.5,)}}
    ),
    "a retraction that stays": Case(
        "riemannlora.gauge", "bound at condition 1e+06", retract, lambda point, _: point
    ),
    "the core of a projection twice": Case(
        "riemannlora.descent", "distance from the second-order law", _projected, _core_twice
    ),
    "a step uphill": Case(
        "riemannlora.riemannion-spectrum", "steps of the run off", orthogonalized, _uphill
    ),
    "no momentum carried on": Case(
        "riemannlora.riemannion-spectrum", "steps of the run off", added, _forgetting
    ),
    "an optimum that is not tangent": Case(
        "riemannlora.riemannion-bounds", "||Z||_2 over 1", tangent_lmo, _anywhere
    ),
    "an adapter's scale left out": Case(
        "riemannlora.loi-loss-unchanged", "|loss / loss before", frozen_weight, _unscaled
    ),
    "a vector too few": Case(
        "riemannlora.rsvd", "products, or their vectors", locally_optimal_from_products,
        _fewer_vectors,
    ),
    "polar factors too large, of a sketch": Case(
        "low-rank.identity", "<M, O> over", _by_svd, _larger(1.01)
    ),
    "polar factors too large, of an orthogonal matrix": Case(
        "low-rank.exact-rank", "||O - msign(M)||_F at condition 1,", _by_svd, _larger(1.01)
    ),
    "polar factors too large, in a run": Case(
        "practical.thm-3.1", "exact polar factors", _by_svd, _larger(1.01)
    ),
    "polar factors too large, in the table": Case(
        "low-rank.orthogonaliser-table", "exact polar factor", _by_svd, _larger(1.01)
    ),
    "polar factors too large, of an unfolding": Case(
        "tensorion.lmo-optimal", "min ||S_tau||_2 - 1", _by_svd, _larger(1.01)
    ),
    "halves too long": Case(
        "lora-muon.solves-split", "largest | ||half||", _by_svd, _larger(1.01)
    ),
    "steps that are far too long": Case(
        "lora-muon.solves-split", "largest ||dW|| / eta", _by_svd, _larger(1.3)
    ),
    "steps that are too short": Case(
        "lora-muon.rank-step-scale", "smallest ||dW||", _by_svd, _larger(0.7)
    ),
    "an optimum that is known loosely": Case(
        "lora-muon.split-is-not-tangent-optimum", "largest gap", tangent_lmo, _loosely
    ),
    "a column too few, in a run": Case(
        "low-rank.momentum-lemma", "rank of a step", _basis, _one_short, {"halvings": (1, 2)}
    ),
    "a column too few, under noise": Case(
        "low-rank.heavy-tail-rate", "rank of a step", _basis, _one_short,
        {**RUNS, "orders": {COLUMNS: (1.5,)}},
    ),
    "no momentum": Case(
        "low-rank.momentum-lemma", "error over its bound", averaged, _no_momentum,
        {"halvings": (1, 2)},
    ),
    "a step uphill, without momentum": Case(
        "low-rank.msgd-rate", "exponent of ||G||_F in K, r = 3, curved", _by_svd, _larger(-1.0)
    ),
    "a basis of anything": Case(
        "low-rank.alignment", "Theorem 10.5, E ||M - Q Q^T M||_F", _basis, _any_basis
    ),
    "a basis of anything, by power iterations": Case(
        "low-rank.alignment", "share, Gaussian, h = 1 less Gaussian, h = 0", _basis, _any_basis
    ),
    "a spectral norm too large, beside N": Case(
        "tensorion.norm-bounds", "||X||_sigma / N - 1", spectral_norm_from_below, _longer(1.1)
    ),
    "the unfolding of the first mode": Case(
        "tensorion.online-vs-offline", "N*(G) / ||G_tau*||_* - 1", offline_unfolding,
        lambda _: (0,),
    ),
    "a retraction that stays, beside a truncated SVD": Case(
        "riemannlora.projection", "||R(X, xi) - truncated SVD||", retract, lambda point, _: point
    ),
    "a retraction that stays, by its order": Case(
        "riemannlora.retraction-order", "slope of ||R(X, t xi) - X - t xi||", retract,
        lambda point, _: point,
    ),
    "subspaces that are no pair": Case(
        "riemannlora.loi-optimal", "|share - 1| over the family", optimal_subspaces, _mispaired
    ),
    "a tangent's norm too large": Case(
        "riemannlora.loi-optimal", "share that ascent or a draw", tangent_norm, _one_per_cent_more
    ),
    "a tangent's norm too large, of a drawn start": Case(
        "riemannlora.rsvd", "share, Gaussian, most", tangent_norm, _one_per_cent_more
    ),
    "a start in other rows": Case(
        "riemannlora.loi-gain", "gain at alpha = 0.1", locally_optimal_initialization,
        _of_other_rows,
    ),
    "a loss evaluated twice": Case(
        "riemannlora.one-backward", "losses evaluated", gradient_products, _twice
    ),
    "backward passes taken twice": Case(
        "riemannlora.loi-loss-unchanged", "backward passes", gradient_products, _twice
    ),
}  # fmt: skip


def everywhere(monkeypatch: pytest.MonkeyPatch, original: object, wrong: object) -> None:
    for name, module in [*sys.modules.items()]:
        if name.partition(".")[0] in ROOMS:
            for known, value in [*vars(module).items()]:
                if value is original:
                    monkeypatch.setattr(module, known, wrong)
    for method, value in polar._EXACT.items():
        if value is original:
            monkeypatch.setitem(polar._EXACT, method, wrong)


def in_place_of(original: object, wrong: object) -> Broken:
    return lambda monkeypatch: everywhere(monkeypatch, original, wrong)


@pytest.mark.parametrize("name", CASES)
def test_what_is_wrong_is_seen(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    case = CASES[name]
    claim = REGISTRY[case.claim]
    sizes = {**claim.tiers["quick"], **SMALL[case.claim], **case.sizes}
    for cached in (unfolding._distinct, unfolding._canonical):
        monkeypatch.setattr(unfolding, cached.__name__, cached.__wrapped__)
    everywhere(monkeypatch, case.of, case.wrong)
    evidence = claim.check(Setting("quick", 1, sizes))
    missed = [m.name for m in evidence.measurements if not m.holds]
    assert any(each.startswith(case.missed) for each in missed), missed
