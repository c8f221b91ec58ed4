"""Measurements that no control misses: wrong code that does, each held to by its name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

import claims.uniform_spectral_growth.conservation as conservation
import claims.uniform_spectral_growth.convergence as convergence
import claims.uniform_spectral_growth.critical_points as critical_points
import claims.uniform_spectral_growth.discrete as discrete
import claims.uniform_spectral_growth.lag as lag
from claims import REGISTRY
from claims.lora_muon import two_forms
from claims.lora_muon.matrices import R, polar_factor
from claims.low_rank_orthogonalization.heavy_tailed_runs import COLUMNS
from claims.low_rank_orthogonalization.nesterov import EXACT, RANDOMISED
from claims.measuring.flowing import integrate_there
from claims.registry import Setting
from claims.riemannlora.points import tangent_part
from claims.riemannlora.riemannion import law
from flows import Field, MatrixFactorization, Trajectory, spectral_flow
from geometry import inverse_root
from geometry.fixed_rank import FixedRank, Tangent, _projected, retract
from geometry.gauge import Pair
from geometry.lora import split_direction, split_direction_by_gram, split_step
from geometry.newton_schulz import OddPolynomial, frobenius_normalize
from geometry.orthogonalizers import Orthogonalizer, orthogonalizer_named, scalar_response
from geometry.sketch import _basis, low_rank_msign, range_basis
from geometry.tensor import offline_unfolding
from simulate.optimizers.descent import descend
from simulate.optimizers.momentum import averaged
from simulate.optimizers.pair_optimizer import averaged as averaged_pair
from simulate.schedules import tail_index_rates
from tests.claims.test_small_sizes import SMALL
from tests.claims.test_wrong_code import (
    ALIGNED,
    RUNS,
    Broken,
    _as_at_two,
    _one_short,
    _shorter_memory,
    in_place_of,
)
from tests.claims.uniform_spectral_growth.test_mutations import moved


@dataclass(frozen=True)
class Case:
    """What is broken, and the measurements, by how they begin, that do not hold then."""

    claim: str
    missed: tuple[str, ...]
    broken: Broken
    sizes: dict[str, Any] = field(default_factory=dict)


def _attribute(of: object, name: str, wrong: object) -> Broken:
    return lambda monkeypatch: monkeypatch.setattr(of, name, wrong)


def _form(name: str, wrong: Callable[..., Pair]) -> Broken:
    return lambda monkeypatch: monkeypatch.setitem(two_forms.FORMS, name, wrong)


def _uphill(W: Tensor, D: Tensor, lr: Any, ratio: float, weight_decay: float) -> Tensor:
    return descend(W, -D, lr, ratio, weight_decay)


def _with_coefficients(*wrong: float) -> Broken:
    def named(method: str) -> Orthogonalizer:
        return replace(orthogonalizer_named(method), coefficients=lambda steps: (wrong,) * steps)

    return in_place_of(orthogonalizer_named, named)


def _reshaped_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a matrix had to be transposed back."""
    apply = OddPolynomial.apply_to_matrix
    monkeypatch.setattr(
        OddPolynomial, "apply_to_matrix", lambda self, X: apply(self, X.mT).reshape(X.shape)
    )


def _least_kept(x: FixedRank, xi: Tangent) -> FixedRank:
    """A retraction that takes singular values for ascending."""
    r = x.S.shape[-1]
    X = (x.U @ x.S + xi.D_U) @ x.V.mT + x.U @ xi.D_V.mT
    U, s, Vh = torch.linalg.svd(X, full_matrices=False)
    kept = slice(r, 2 * r)
    return FixedRank(U[..., kept], torch.diag_embed(s[..., kept]), Vh.mT[..., kept])


def _without_core(x: FixedRank, Z_V: Tensor, Z_U: Tensor) -> Tangent:
    xi = _projected(x, Z_V, Z_U)
    return Tangent(xi.D_U, xi.D_V - x.V @ (x.V.mT @ xi.D_V))


def _core_twice(x: FixedRank, Z_V: Tensor, Z_U: Tensor) -> Tangent:
    return Tangent(Z_V, Z_U)


def _rest_taken_twice(x: FixedRank, Z: Tensor) -> Tensor:
    """A sign in Z - (I - U U^T) Z (I - V V^T)."""
    rest = Z - x.U @ (x.U.mT @ Z)
    return Z - rest - (rest @ x.V) @ x.V.mT


def _dense_core_twice(x: FixedRank, Z: Tensor) -> Tensor:
    return tangent_part(x, Z) + x.U @ (x.U.mT @ Z @ x.V) @ x.V.mT


def _by_cholesky(B: Tensor, A: Tensor, G_B: Tensor, G_A: Tensor) -> Pair:
    """The QR form with its triangle from a Gram matrix."""

    def core(G: Tensor, other: Tensor) -> Tensor:
        inverse = torch.linalg.inv(torch.linalg.cholesky(other.mT @ other).mT)
        return polar_factor(G @ inverse, R) @ inverse.mT

    return core(G_B, A.mT), core(G_A.mT, B).mT


def _damped_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """A damping of every entry of a Gram matrix where it is one of the diagonal."""
    of_products = inverse_root._of_products

    def wrong(S: Tensor, damping: float, cutoff: float) -> Tensor:
        beside = 1 - torch.eye(S.shape[-1], dtype=S.dtype, device=S.device)
        norm = torch.linalg.matrix_norm(S, keepdim=True)
        return of_products(S + damping * norm * beside, damping, cutoff)

    monkeypatch.setattr(inverse_root, "_of_products", wrong)


def _backwards(*given: Any, **options: Any) -> Trajectory:
    found = integrate_there(*given, **options)
    return replace(found, states=found.states.flip(1))


def _flow_ahead(setting: Setting, field: Field, start: Pair, times: Tensor, **how: Any) -> Any:
    """Of flow and steps the flow alone, 1 % later than it says."""
    return integrate_there(setting, field, start, times if "method" in how else 1.01 * times, **how)


def _smaller_start(monkeypatch: pytest.MonkeyPatch) -> None:
    start = MatrixFactorization.lora_init
    monkeypatch.setattr(
        MatrixFactorization,
        "lora_init",
        lambda self, gamma, **options: start(self, gamma**2, **options),
    )


MEAN, RATES, RANK = "largest mean over its bound", "rates off the powers", "rank of a step off r"
# Orders at which the bound falls the fastest, and horizons long enough to go beyond it.
LONG = {"seeds": 2, "horizons": (1024, 4096)}
SHORT: dict[str, Any] = {**RUNS, "orders": {COLUMNS: (1.5,)}}
L_5, U_5 = "l_5 = inf", "u_5 = sup"
CASES = {
    "uphill, known tail": Case(
        "low-rank.heavy-tail-rate", (MEAN,), in_place_of(descend, _uphill),
        {**LONG, "orders": {COLUMNS: (2.0,)}},
    ),
    "uphill, unknown tail": Case(
        "low-rank.unknown-tail", (MEAN,), in_place_of(descend, _uphill),
        {**LONG, "orders": {COLUMNS: (2.0,)}},
    ),
    "uphill, Nesterov": Case(
        "nesterov.rate", (MEAN, "shallowest slope above theory's, a = 2"),
        in_place_of(descend, _uphill), {**RUNS, "horizons": (256, 1024), "orders": {EXACT: (2.0,)}},
    ),
    "another memory, known tail": Case(
        "low-rank.heavy-tail-rate", (ALIGNED,), in_place_of(averaged, _shorter_memory), SHORT
    ),
    "another memory, unknown tail": Case(
        "low-rank.unknown-tail", (ALIGNED,), in_place_of(averaged, _shorter_memory), SHORT
    ),
    "rates of a tail of 1.5, unknown tail": Case(
        "low-rank.unknown-tail", (RATES,),
        in_place_of(tail_index_rates, lambda steps, _: tail_index_rates(steps, 1.5)), SHORT,
    ),
    "rates of another tail, Nesterov": Case(
        "nesterov.rate", (RATES,), in_place_of(tail_index_rates, _as_at_two),
        {**RUNS, "orders": {EXACT: (1.5,)}},
    ),
    "a vector too few, unknown tail": Case(
        "low-rank.unknown-tail", (RANK,), in_place_of(_basis, _one_short), SHORT
    ),
    "a vector too few, Nesterov": Case(
        "nesterov.rate", (RANK,), in_place_of(_basis, _one_short),
        {**RUNS, "orders": {RANDOMISED: (1.5,)}},
    ),
    "digits of the last coefficient exchanged": Case(
        "practical.thm-3.4", (L_5, "p on [17/25, 5/4], least"),
        _with_coefficients(3.4445, -4.7750, 2.0135),
    ),
    "digits of the second coefficient exchanged": Case(
        "practical.thm-3.4", (U_5, "p on [0, 5/4], most", "p on [17/25, 5/4], most"),
        _with_coefficients(3.4445, -4.5770, 2.0315),
    ),
    "a wrong digit in the first coefficient": Case(
        "practical.thm-3.4", (L_5, U_5, "p(s)/s on [0, 17/25], least"),
        _with_coefficients(2.4445, -4.7750, 2.0315),
    ),
    "half of a norm": Case(
        "practical.thm-3.4", ("<N, O> / ||N||_F, least",),
        in_place_of(frobenius_normalize, lambda G: frobenius_normalize(G) / 2),
    ),
    "reshaped back, not transposed": Case(
        "practical.thm-3.4", ("||O||_F ||N||_F / <N, O>, most",), _reshaped_back
    ),
    "least singular values kept": Case(
        "riemannlora.descent", ("share of steps that are admitted",),
        in_place_of(retract, _least_kept),
    ),
    "a core left out": Case(
        "riemannlora.loi-optimal",
        ("share that ascent reaches, least", "standard errors of the mean share at random"),
        in_place_of(_projected, _without_core),
    ),
    "a core twice": Case(
        "riemannlora.loi-optimal",
        ("share that ascent or a draw", "standard errors of the mean share at random"),
        in_place_of(_projected, _core_twice),
    ),
    "a sign in the projection": Case(
        "riemannlora.riemannion-bounds", ("eps = ||X* - P X*||_2",),
        in_place_of(tangent_part, _rest_taken_twice),
    ),
    "a dense core twice": Case(
        "riemannlora.riemannion-spectrum",
        ("largest over 2 / root 3", "off (root(4 - 3 c^2)", "members inside", "the example off"),
        in_place_of(tangent_part, _dense_core_twice),
    ),
    "a law of other singular values": Case(
        "riemannlora.riemannion-spectrum", ("off (root(4 - 3 c^2)",),
        in_place_of(law, lambda c: law(1.01 * c)),
    ),
    "a run by what is not tangent": Case(
        "riemannlora.riemannion-spectrum",
        ("smallest singular value in a run", "largest singular value in a run", "steps of the run"),
        in_place_of(tangent_part, lambda _, Z: Z),
    ),
    "the first mode, whatever the shape": Case(
        "tensorion.online-vs-offline", ("N*(G) / ||G_tau*||_* over sqrt(r*)",),
        in_place_of(offline_unfolding, lambda _: (0,)),
    ),
    "uphill, both forms": Case(
        "lora-muon.qr-equals-gram",
        ("difference after 1 steps, Gram form", "difference after 10 steps, Gram form"),
        in_place_of(split_step, lambda B, A, D_B, D_A, *to: split_step(B, A, -D_B, -D_A, *to)),
    ),
    "no momentum, both forms": Case(
        "lora-muon.qr-equals-gram", ("difference after 10 steps, Gram form",),
        in_place_of(averaged_pair, lambda batch, _: batch.gradients),
    ),
    "a triangle from a Gram matrix": Case(
        "lora-muon.qr-equals-gram",
        ("error over u condition, QR form, float64", "error over u condition, QR form, float32"),
        _form(two_forms.QR, _by_cholesky),
    ),
    "a root that is damped": Case(
        "lora-muon.qr-equals-gram",
        (
            "error over u condition^2, root of the Gram matrix, float64",
            "error over u condition^2, root of the Gram matrix, float32",
        ),
        _form(
            two_forms.OF_GRAM,
            partial(
                split_direction,
                root=partial(inverse_root.inverse_root, method="eigh", damping=1e-4),
            ),
        ),
    ),
    "Gram matrices that are damped": Case(
        "lora-muon.qr-equals-gram", ("error over u condition, Gram matrices in float64, float32",),
        _form(two_forms.WIDER, partial(split_direction_by_gram, root="eigh", damping=1e-6)),
    ),
    "a damping of every entry": Case(
        "lora-muon.gauge-damping", ("share of the step, orthogonal",), _damped_everywhere
    ),
    "a vector more": Case(
        "low-rank.identity", ("rank(Q^T M) over r",),
        in_place_of(
            range_basis,
            lambda M, rank, sketch, **_: range_basis(
                M, rank + 1, sketch, generator=torch.Generator().manual_seed(0)
            ),
        ),
    ),
    "vectors longer than one": Case(
        "low-rank.alignment", ("share over the best of its rank",),
        in_place_of(_basis, lambda *given: 1.01 * _basis(*given)),
    ),
    "a step of the response left out": Case(
        "low-rank.orthogonaliser-table", ("a grid's worst beyond the exact one",),
        in_place_of(
            scalar_response,
            lambda method, s, steps, **options: scalar_response(method, s, steps - 1, **options),
        ),
    ),
    "a sixteenth of the rank": Case(
        "low-rank.cost",
        ("full over columns, l = m", "full over Gaussian, l = m", "full over Gaussian, h = 1, l"),
        in_place_of(
            low_rank_msign,
            lambda M, rank, *given, **how: low_rank_msign(M, max(rank // 16, 1), *given, **how),
        ),
        {"shares": {256: (1.0,)}, "rounds": {256: 7}},
    ),
    "a flow that is faster": Case(
        "usg.lag-bound", ("smallest lag", "distance of the lag to its quad", "reference lag"),
        _attribute(lag, "spectral_flow", moved(lambda T: 1.01 * T)),
    ),
    "a flow that is slower": Case(
        "usg.lag-bound", ("largest lag over its bound", "largest lag over the exact majorant"),
        _attribute(lag, "spectral_flow", moved(lambda T: 0.99 * T)),
    ),
    "a flow that descends less": Case(
        "usg.critical-points", ("smallest descent elsewhere",),
        _attribute(critical_points, "spectral_flow", moved(lambda T: 0.9 * T)),
    ),
    "a flow ahead of its steps": Case(
        "usg.specgd-tracks-flow", ("order of SpecGD in its step, lower end",),
        _attribute(discrete, "integrate_there", _flow_ahead),
    ),
    "a flow run backwards": Case(
        "usg.global-convergence", ("largest rise of the loss",),
        _attribute(convergence, "integrate_there", _backwards),
    ),
    "a beta that is squared": Case(
        "usg.aligned-conservation", ("slope of the drift in beta, upper end",),
        _attribute(
            conservation, "spectral_flow", lambda problem, beta: spectral_flow(problem, beta**2)
        ),
    ),
    "a start that is smaller": Case(
        "usg.equal-rate-underparametrised",
        ("deviation at gamma 1e-5, end of the interval of its geometric mean, lower",),
        _smaller_start,
    ),
}  # fmt: skip


def _missed(case: Case) -> list[str]:
    claim = REGISTRY[case.claim]
    sizes = {**claim.tiers["quick"], **SMALL[case.claim], **case.sizes}
    evidence = claim.check(Setting("quick", 1, sizes))
    return [m.name for m in evidence.measurements if not m.holds]


@pytest.mark.parametrize("name", CASES)
def test_what_is_wrong_is_seen_by(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    case = CASES[name]
    # Of the claim's own small sizes another test shows that all hold.
    without = _missed(case) if case.sizes else []
    case.broken(monkeypatch)
    found = _missed(case)
    for each in case.missed:
        assert any(name.startswith(each) for name in found), (each, found)
        assert not any(name.startswith(each) for name in without), (each, without)
