"""Flows that are broken in a plausible way do not pass the claims that are about them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

import claims.uniform_spectral_growth.conservation
import claims.uniform_spectral_growth.critical_points
import claims.uniform_spectral_growth.excess_rank
import claims.uniform_spectral_growth.growth
import flows.invariants
from claims import REGISTRY
from claims.measuring.flowing import integrate_there
from claims.registry import Setting, Verdict
from claims.running.one import run_claim
from flows import Field, MatrixFactorization, Trajectory, spectral_flow
from flows.coordinates import ReducedCoordinates
from geometry.gauge import Pair
from tests.claims.test_small_sizes import SMALL


def verdict(identifier: str, **sizes: Any) -> Verdict:
    claim = REGISTRY[identifier]
    quick = {**claim.tiers.get("quick", {}), **SMALL[identifier], **sizes}
    return run_claim(replace(claim, tiers={"quick": quick}), "quick", 1).verdict


def moved(change: Callable[[Tensor], Tensor]) -> Callable[..., Field]:
    """Spectral flows whose direction is changed."""

    def made(problem: MatrixFactorization, beta: float, **options: Any) -> Field:
        field = spectral_flow(problem, beta, **options)
        return replace(field, direction=lambda G, s: change(field.direction(G, s)), smoothing=None)

    return made


def test_a_reduced_flow_is_held_to_one_that_is_not_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    conservation = claims.uniform_spectral_growth.conservation
    monkeypatch.setattr(conservation, "spectral_flow", moved(lambda T: 1.01 * T))
    assert verdict("usg.reduction") is Verdict.FAILS


def test_a_flow_that_rests_elsewhere_has_other_critical_points(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def resting(T: Tensor) -> Tensor:
        # Where the gradient is large, which it is near no critical point.
        return torch.where(T.norm(dim=(-2, -1), keepdim=True) > 1.0, 0.0, T)

    critical_points = claims.uniform_spectral_growth.critical_points
    monkeypatch.setattr(critical_points, "spectral_flow", moved(resting))
    assert verdict("usg.critical-points") is Verdict.FAILS


def test_rates_are_also_those_of_the_trajectory(monkeypatch: pytest.MonkeyPatch) -> None:
    def faster(setting: Setting, field: Field, start: Pair, times: Tensor) -> Trajectory:
        return replace(integrate_there(setting, field, start, 1.01 * times), times=times)

    monkeypatch.setattr(claims.uniform_spectral_growth.growth, "integrate_there", faster)
    assert verdict("usg.equal-rate") is Verdict.FAILS


def test_dissipation_is_that_of_the_flow_which_was_integrated(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def without_A(T: Tensor) -> Tensor:
        # In the reduction both factors are one stack.
        return T * torch.tensor([1.0, 0.0])[:, None, None] if T.shape[-3:-2] == (2,) else T

    conservation = claims.uniform_spectral_growth.conservation
    monkeypatch.setattr(conservation, "spectral_flow", moved(without_A))
    assert verdict("usg.energy") is Verdict.FAILS


def test_an_identity_of_one_side_is_no_evidence(monkeypatch: pytest.MonkeyPatch) -> None:
    both_sides = flows.invariants.imbalance_identity
    monkeypatch.setattr(
        claims.uniform_spectral_growth.conservation,
        "imbalance_identity",
        lambda *given: 2 * both_sides(*given)[:1],
    )
    assert verdict("usg.imbalance-identity") is Verdict.VACUOUS


def test_a_direction_that_fills_what_has_no_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    def noisy(T: Tensor) -> Tensor:
        # Of full factors; in the reduction their rows outside of the spans are not there.
        return T + 1e-9 if T.shape[-2] >= 60 else T

    monkeypatch.setattr(claims.uniform_spectral_growth.excess_rank, "spectral_flow", moved(noisy))
    assert verdict("usg.excess-rank") is Verdict.FAILS


def test_a_loss_below_the_minimum_is_as_far_from_it(monkeypatch: pytest.MonkeyPatch) -> None:
    loss = ReducedCoordinates.loss
    monkeypatch.setattr(ReducedCoordinates, "loss", lambda *given: loss(*given) / 2)
    assert verdict("usg.global-convergence") is Verdict.FAILS


def test_an_interval_across_the_edge_of_its_band_is_outside() -> None:
    assert verdict("usg.equal-rate-underparametrised", seeds=32) is Verdict.FAILS
