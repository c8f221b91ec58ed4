"""Every claim at a small size: the check holds, and each control fails by the same criterion."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from claims import REGISTRY
from claims.registry import ROUNDS_IN, Place, Verdict
from claims.running.one import run_claim
from tests.claims.low_rank_orthogonalization.test_parity import TRAINED as TRAINED_ON_IMAGES
from tests.claims.riemannlora.test_finetune import TRAINED as FINE_TUNED
from tests.claims.tensorion.test_convergence import TRAINED as TRAINED_ON_TENSORS
from tests.claims.test_learning_rates import TRAINED

SMALL: dict[str, dict[str, Any]] = {
    "usg.closed-forms": {"seeds": 1, "points": 11},
    "usg.lag-bound": {"points": 46},
    "usg.critical-points": {"seeds": 1},
    "usg.saddle-escape": {"offsets": 4},
    "usg.local-rate": {"seeds": 1},
    "usg.global-convergence": {"seeds": 1, "scales": [0.1, 1.0]},
    "usg.l2-convergence": {"seeds": 1, "points": 57},
    "usg.specgd-tracks-flow": {"seeds": 3},
    "usg.equal-rate": {"seeds": 3, "points": 5},
    "usg.equal-rate-underparametrised": {"points": 2},
    "usg.alignment": {"seeds": 4},
    "usg.smallest-first": {"seeds": 3, "times": 11},
    "usg.gf-largest-first": {"seeds": 3, "times": 11},
    "usg.smallest-first-limit": {"betas": [0.03, 0.2], "gammas": [1e-3, 1e-5], "seeds": 1},
    "usg.reduction": {"seeds": 1, "steps": 60},
    "usg.energy": {"seeds": 1, "times": 11},
    "usg.imbalance-identity": {"seeds": 1, "times": 11},
    "usg.aligned-conservation": {"seeds": 3},
    "usg.specgd-threshold": {"seeds": 1},
    "usg.newton-schulz-breaks-order": {"seeds": 3},
    "usg.lockstep": {"seeds": 2},
    "usg.excess-rank": {"seeds": 3, "shape": (24, 28), "times": 61},
    "usg.imbalanced-classes": {},
    "usg.lora-finetune-spectrum": {
        "seeds": 3, "tokens": 20_000, "pretraining": 60, "steps": 24, "recorded": 4,
        "evaluation": 512,
    },
    "lora-muon.solves-split": {"seeds": 3},
    "lora-muon.projector-form": {"seeds": 3},
    "lora-muon.dense-limit": {"seeds": 3},
    "lora-muon.second-order": {"seeds": 3},
    "lora-muon.split-decay": {"seeds": 3},
    "lora-muon.split-is-not-tangent-optimum": {"seeds": 2},
    "lora-muon.gauge": {"seeds": 2},
    "lora-muon.gauge-damping": {"seeds": 5},
    "lora-muon.gauge-trajectory": {"seeds": 2, "steps": 10},
    "lora-muon.qr-equals-gram": {"seeds": 2, "steps": 10},
    "lora-muon.rank-step-scale": {"seeds": 2, "size": 32, "ranks": (1, 4, 32)},
    "lora-muon.zero-init-kick": {"seeds": 2},
    "lora-muon.no-second-moments": {"shape": (300, 200, 4)},
    "lora-muon.lr-transfer-rescaling": {"seeds": 2, "steps": 12, "tokens": 5_000},
    "lora-muon.adapter-step-time": {"sizes": (1024,), "ranks": (64,)},
    "spectron.bound": {"seeds": 8},
    "spectron.not-invariant": {},
    "lora-rite.first-step": {"seeds": 3},
    "lora-rite.gauge": {"seeds": 2},
    "low-rank.descent": {"members": 50},
    "low-rank.msgd-rate": {"seeds": 12},
    "low-rank.momentum-lemma": {"seeds": 6, "halvings": (1, 3, 5)},
    "low-rank.heavy-tail-rate": {
        "seeds": 12, "horizons": (1024, 4096), "orders": {"columns, r = 3": (1.5, 1.2)},
        "sgd_horizons": (256, 1024),
    },
    "low-rank.unknown-tail": {
        "seeds": 6, "horizons": (256, 1024), "sgd_horizons": (256, 1024),
    },
    "nesterov.rate": {"seeds": 6, "horizons": (256, 1024), "sgd_horizons": (256, 1024)},
    "practical.thm-3.1": {"seeds": 4, "rates": (0.03, 0.3), "b1": (0.0, 0.9)},
    "low-rank.orthogonaliser-table": {"drawn": 7},
    "low-rank.identity": {"seeds": 2},
    "low-rank.exact-rank": {"seeds": 2, "conditions": (1.0, 1e4)},
    "low-rank.not-an-approximation": {"shape": (48, 64), "rank": 12, "dimensions": 48},
    "low-rank.alignment": {"drawn": 1, "ranks": (16,), "powers": (0,)},
    "low-rank.tall-columns": {"draws": 8},
    "low-rank.noise-robustness": {"draws": 4},
    "practical.thm-3.4": {"seeds": 2, "cells": 4096},
    "low-rank.cost": {
        "shares": {256: (1.0,), 1024: (1 / 16,)}, "rounds": {256: 7, 1024: 2}, "exact_up_to": 0,
        "counted_shapes": ((9, 14),), "counted_ranks": (3,),
    },
    "tensorion.lmo-optimal": {"seeds": 1, "drawn": 50},
    "tensorion.equivariance": {"seeds": 3},
    "tensorion.norm-bounds": {"seeds": 1, "shapes": ((3, 3, 3), (3, 2, 2, 2))},
    "tensorion.dimension-bound": {"seeds": 1},
    "tensorion.order-2-is-muon": {"seeds": 1, "steps": 3},
    "tensorion.descent": {"seeds": 12, "steps": 6},
    "tensorion.online-vs-offline": {"seeds": 6, "runs": 1, "steps": 12},
    "riemannlora.projection": {"seeds": 2},
    "riemannlora.retraction-order": {"seeds": 2},
    "riemannlora.gauge": {"seeds": 1},
    "riemannlora.muon-rotation": {"seeds": 2},
    "riemannlora.transpose-symmetry": {"seeds": 2},
    "riemannlora.descent": {"seeds": 2, "steps": 20},
    "riemannlora.loi-optimal": {"seeds": 2, "draws": 128},
    "riemannlora.loi-loss-unchanged": {"seeds": 3},
    "riemannlora.rsvd": {"seeds": 32},
    "riemannlora.one-backward": {"seeds": 3},
    "riemannlora.loi-gain": {"seeds": 32},
    "riemannlora.riemannion-bounds": {"seeds": 2},
    "riemannlora.riemannion-spectrum": {"seeds": 3, "sizes": (8, 64), "steps": 30},
}  # fmt: skip


def test_no_claim_is_left_out() -> None:
    # What small runs cannot decide has tests of its own.
    trained = {*TRAINED, *TRAINED_ON_IMAGES, *TRAINED_ON_TENSORS, *FINE_TUNED}
    assert {*SMALL} | trained == {claim.id for claim in REGISTRY}
    assert not {*SMALL} & trained


@pytest.mark.parametrize("identifier", SMALL)
def test_comes_out_as_declared_and_its_controls_fail(identifier: str) -> None:
    claim = REGISTRY[identifier]
    tiers = {"quick": {**claim.tiers.get("quick", {}), **SMALL[identifier]}}
    outcome = run_claim(replace(claim, tiers=tiers), "quick", 1)
    assert outcome.verdict is claim.expected, (outcome.reason, outcome.traceback)
    assert set(outcome.controls) == set(claim.controls)


@pytest.mark.parametrize(
    ("identifier", "dtype"),
    [(claim.id, each) for claim in REGISTRY if claim.dtypes == ROUNDS_IN for each in ROUNDS_IN],
)
def test_comes_out_so_in_other_dtypes(identifier: str, dtype: str) -> None:
    claim = REGISTRY[identifier]
    tiers = {"quick": {**claim.tiers.get("quick", {}), **SMALL[identifier]}}
    outcome = run_claim(replace(claim, tiers=tiers), "quick", 1, place=Place("cpu", dtype))
    assert outcome.verdict is claim.expected, (outcome.reason, outcome.traceback)


def test_the_seed_of_the_run_moves_the_numbers_and_not_the_verdict() -> None:
    claim = REGISTRY["usg.newton-schulz-breaks-order"]
    outcomes = [run_claim(claim, "quick", seed) for seed in (0, 0, 7)]
    values = [[m.value for m in o.evidence.measurements] for o in outcomes if o.evidence]
    assert [o.verdict for o in outcomes] == [Verdict.HOLDS] * 3
    assert values[0] == values[1]
    assert values[0] != values[2]
