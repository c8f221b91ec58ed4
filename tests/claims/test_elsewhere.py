"""Whole claims, check and controls, on the device of :mod:`tests.elsewhere`."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest

from claims import REGISTRY
from claims.registry import Evidence, Place, Setting
from claims.riemannlora import gauge, runs, symmetries
from claims.uniform_spectral_growth import critical_points
from tests.claims.test_small_sizes import SMALL
from tests.elsewhere import elsewhere, here

# What these do there is tested apart: flows in test_places.py, training in tests/simulate.
FLOWS = (
    "usg.closed-forms", "usg.lag-bound", "usg.equal-rate", "usg.equal-rate-underparametrised",
    "usg.alignment", "usg.smallest-first", "usg.gf-largest-first", "usg.smallest-first-limit",
    "usg.energy", "usg.imbalance-identity", "usg.aligned-conservation", "usg.saddle-escape",
    "usg.local-rate", "usg.global-convergence", "usg.l2-convergence", "usg.specgd-tracks-flow",
    "usg.specgd-threshold", "usg.newton-schulz-breaks-order", "usg.excess-rank",
)  # fmt: skip
TRAINING = (
    "lora-muon.lr-transfer-rescaling", "lora-muon.lr-transfer-rank", "lora-muon.rank-2-proxy",
    "lora-muon.lr-transfer-width-depth", "lora-muon.best-rate-rescaling",
    "lora-muon.rank-32-beats-dense", "low-rank.pretraining", "low-rank.heavy-tail-rate",
    "low-rank.unknown-tail", "nesterov.polyak-parity", "tensorion.convergence",
    "riemannlora.finetune",
)  # fmt: skip
THERE = [
    claim.id
    for claim in REGISTRY
    if "cuda" in claim.devices and claim.id not in (*FLOWS, *TRAINING)
]
# Nothing there is fast: smaller still than the small sizes.
SMALLER: dict[str, dict[str, Any]] = {
    "usg.reduction": {"steps": 20},
    "usg.critical-points": {"seeds": 1},
    "usg.lockstep": {"seeds": 1, "steps": 2, "before_arrivals": 2},
    "usg.lora-finetune-spectrum": {
        "seeds": 2, "tokens": 2_000, "length": 8, "width": 8, "batch": 2, "pretraining": 3,
        "steps": 3, "recorded": 3, "evaluation": 64, "rates": (0.1, 0.3, 1.0),
    },
    "lora-muon.gauge-trajectory": {"seeds": 1, "steps": 4},
    "spectron.not-invariant": {"seeds": 2},
    "low-rank.descent": {"members": 5},
    "low-rank.msgd-rate": {"seeds": 3, "horizons": (8, 16, 32), "control_horizons": (8, 16)},
    "low-rank.momentum-lemma": {"seeds": 3, "halvings": (1, 2)},
    "low-rank.alignment": {
        "shape": (80, 90), "draws": 3, "drawn": 1, "ranks": (16,), "powers": (0,),
    },
    "nesterov.rate": {"seeds": 3, "horizons": (16, 32), "sgd_horizons": (16, 32)},
    "practical.thm-3.1": {
        "seeds": 3, "noises": (1.0,), "rates": (0.1,), "b1": (0.9,), "horizons": (4, 8),
    },
    "tensorion.descent": {"seeds": 3, "steps": 2},
    "riemannlora.riemannion-spectrum": {"seeds": 2, "sizes": (8,), "steps": 4, "bisections": 3},
}  # fmt: skip


@pytest.fixture(autouse=True)
def _hessians_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are taken on the CPU, by transforms that crash where operations are looked at."""
    taken = critical_points._hessian

    def hessian(*args: Any) -> Any:
        with here():
            return taken(*args)

    monkeypatch.setattr(critical_points, "_hessian", hessian)


@pytest.fixture(autouse=True)
def _short_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of pairs in many gauges: three steps instead of twenty."""
    for module in (gauge, symmetries):
        monkeypatch.setattr(module, "products", partial(runs.products, steps=3))


def test_nobody_is_left_out_for_nothing() -> None:
    apart = (*FLOWS, *TRAINING)
    assert all("cuda" in REGISTRY[identifier].devices for identifier in apart)
    assert set(SMALLER) <= set(THERE)


@pytest.mark.parametrize("identifier", THERE)
def test_a_claim_measures_there_what_it_measures_here(
    identifier: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And mixes no devices on the way, at which it would raise."""
    claim = REGISTRY[identifier]
    small = {**SMALL.get(identifier, {}), **SMALLER.get(identifier, {})}
    sizes = {**claim.tiers.get("quick", {}), **small}
    setting = replace(claim, tiers={"quick": sizes}).setting("quick", 0)
    # Runs are remembered by where they were.
    there = replace(setting, place=Place("cuda"))
    for part in (claim.check, *claim.controls.values()):
        asked: list[str] = []
        expected = part(setting)
        with elsewhere() as device, monkeypatch.context() as patch:

            def place(_: Setting, device: str = str(device), asked: list[str] = asked) -> str:
                asked.append(device)
                return device

            patch.setattr(Setting, "device", property(place))
            found = part(there)
        assert asked
        _alike(found, expected)


def _alike(found: Evidence, expected: Evidence) -> None:
    for one, other in zip(expected.measurements, found.measurements, strict=True):
        assert other.name == one.name
        # Decomposed into other operations some are rounded otherwise, and some count round-offs.
        bound = one.bound if isinstance(one.bound, float) else 0.0
        assert other.value == pytest.approx(one.value, rel=0.05, abs=max(1e-3, 0.05 * abs(bound)))
        assert other.holds == one.holds
    for name, array in expected.arrays.items():
        assert np.shape(found.arrays[name]) == np.shape(array)
