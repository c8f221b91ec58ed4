"""Code that is broken in a plausible way does not pass the claims that are about it."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

import claims.lora_muon.gauges
import claims.lora_muon.two_forms
import geometry.lora
import geometry.polar
import simulate.optimizers.lora_muon
from claims import REGISTRY
from claims.registry import Verdict
from claims.running.one import run_claim
from geometry.gauge import Pair
from simulate.optimizers import LoRAMuon, Spectron
from simulate.optimizers.orthogonalizing import factors_moved
from simulate.optimizers.pair_optimizer import Batch, State, averaged, rate
from simulate.step_costs import Trace
from tests.claims.test_small_sizes import SMALL

Updated = Callable[[Any, Batch, State], tuple[Pair, State]]
UPDATED: Updated = LoRAMuon.updated


def verdict(identifier: str) -> Verdict:
    claim = REGISTRY[identifier]
    sizes = {**claim.tiers.get("quick", {}), **SMALL[identifier]}
    return run_claim(replace(claim, tiers={"quick": sizes}), "quick", 1).verdict


def with_option(name: str, value: float) -> Updated:
    """LoRA-Muon that takes another number for an option than it was given."""

    def updated(self: LoRAMuon, batch: Batch, state: State) -> tuple[Pair, State]:
        return UPDATED(self, batch._replace(group={**batch.group, name: value}), state)

    return updated


def uphill(self: LoRAMuon, batch: Batch, state: State) -> tuple[Pair, State]:
    moved, kept = UPDATED(self, batch, state)
    B, A = (2 * x - new for x, new in zip(batch.factors, moved, strict=True))
    return (B, A), kept


@pytest.mark.parametrize(
    ("identifier", "updated"),
    [
        ("lora-muon.split-decay", with_option("weight_decay", 0.0)),
        ("lora-muon.qr-equals-gram", with_option("momentum", 0.99)),
        ("lora-muon.qr-equals-gram", uphill),
        ("lora-muon.dense-limit", uphill),
    ],
)
def test_an_optimiser_that_does_something_else(
    identifier: str, updated: Updated, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LoRAMuon, "updated", updated)
    assert verdict(identifier) is Verdict.FAILS


@pytest.mark.parametrize("identifier", ["lora-muon.projector-form", "lora-muon.dense-limit"])
def test_polar_factors_that_are_a_hundredth_too_large(
    identifier: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    exact = geometry.polar._by_svd

    def larger(X: Tensor, rank_cutoff: float | None = None) -> Tensor:
        return 1.01 * exact(X, rank_cutoff)

    # The optimiser's and the reference's alike, were it taken from there.
    monkeypatch.setattr(geometry.polar, "_by_svd", larger)
    monkeypatch.setitem(geometry.polar._EXACT, "svd", larger)
    assert verdict(identifier) is Verdict.FAILS


@pytest.mark.parametrize("cutoff", [0.3, 1e-8])
def test_small_directions_that_are_dropped(cutoff: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        geometry.polar._EXACT, "svd", partial(geometry.polar._by_svd, rank_cutoff=cutoff)
    )
    assert verdict("lora-muon.solves-split") is Verdict.FAILS


@pytest.mark.parametrize("identifier", ["lora-muon.gauge", "lora-muon.qr-equals-gram"])
def test_a_damping_in_float32_alone(identifier: str, monkeypatch: pytest.MonkeyPatch) -> None:
    damped = partial(geometry.lora.split_direction_by_gram, root="eigh", damping=1e-6)

    def direction(*factors: Tensor, **_: Any) -> Pair:
        return damped(*factors)

    monkeypatch.setattr(simulate.optimizers.lora_muon, "split_direction_by_gram", direction)
    monkeypatch.setitem(
        claims.lora_muon.two_forms.FORMS, claims.lora_muon.two_forms.WIDER, direction
    )
    assert verdict(identifier) is Verdict.FAILS


def test_the_paper_s_damping_left_out_in_float32_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    exact = geometry.lora.split_direction_by_gram

    def direction(*factors: Tensor, **_: Any) -> Pair:
        return exact(*factors)

    monkeypatch.setattr(simulate.optimizers.lora_muon, "split_direction_by_gram", direction)
    assert verdict("lora-muon.gauge-damping") is Verdict.FAILS


@pytest.mark.parametrize(
    "total",
    [lambda B, A: B + A, lambda B, A: torch.hypot(B, A) + 1, lambda B, A: B + A + 0.1],
    ids=["without the one", "root of squares", "a tenth"],
)
def test_a_spectron_whose_length_is_another(
    total: Callable[[Tensor, Tensor], Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    def updated(self: Spectron, batch: Batch, state: State) -> tuple[Pair, State]:
        moments, norms = averaged(batch, state), map(_spectral_norm, batch.factors)
        rho = rate(batch) / total(*norms)[..., None, None]
        return factors_moved(batch, moments, rho), {**state, "momentum_buffer": moments}

    monkeypatch.setattr(Spectron, "updated", updated)
    assert verdict("spectron.bound") is Verdict.FAILS


def _spectral_norm(X: Tensor) -> Tensor:
    norm: Tensor = torch.linalg.matrix_norm(X, 2)
    return norm


def test_runs_that_were_never_regauged_are_no_evidence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims.lora_muon.gauges, "regauged", lambda B, A, _: (B, A))
    monkeypatch.setattr(claims.lora_muon.gauges, "regauged_gradients", lambda G, H, _: (G, H))
    assert verdict("lora-muon.gauge-trajectory") is Verdict.VACUOUS


@pytest.mark.parametrize("unseen", ["largest", "operations"])
def test_a_trace_that_does_not_see_makes_the_claim_vacuous(
    unseen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeing = Trace.__torch_dispatch__

    def half_blind(self: Trace, *call: Any) -> Any:
        before = copy(getattr(self, unseen))
        result = seeing(self, *call)
        setattr(self, unseen, before)
        return result

    monkeypatch.setattr(Trace, "__torch_dispatch__", half_blind)
    assert verdict("lora-muon.no-second-moments") is Verdict.VACUOUS
