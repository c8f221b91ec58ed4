"""The claim on costs: where its two curves cross, and that its controls fail by construction."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from torch import Tensor

import geometry.sketch
from claims import REGISTRY
from claims.low_rank_orthogonalization import cost
from claims.low_rank_orthogonalization.cost import (
    EXACTLY,
    SKETCHES,
    _crossover,
    _crossover_by_flops,
    _formula,
    _full_formula,
)
from claims.registry import Setting
from geometry.sketch import _basis, low_rank_msign


def test_shares_of_the_derivation() -> None:
    size = 4096
    ratio = _full_formula(size, size) / _formula(size, size, size // 16, "columns")
    assert ratio == pytest.approx(86.7, abs=0.1)
    x = _crossover_by_flops(size, "columns")
    assert x == pytest.approx(0.909, abs=1e-3)
    assert 4 * x + 24 * x**2 + 26 / 3 * x**3 == pytest.approx(30, rel=1e-3)


def test_the_crossover_by_flops_is_the_last_rank_that_costs_no_more() -> None:
    full = _full_formula(64, 64)
    for sketch in ("columns", "Gaussian", "Gaussian, h = 1"):
        rank = round(64 * _crossover_by_flops(64, sketch))
        assert _formula(64, 64, rank, sketch) <= full < _formula(64, 64, rank + 1, sketch)


def test_speed_ups_cross_one_between_the_shares_that_were_run() -> None:
    shares = [0.25, 0.5, 1.0]
    assert _crossover(shares, np.array([4.0, 2.0, 0.5])) == pytest.approx(0.5**0.5)
    # A power of the share is followed exactly, also over what was not run.
    power = 0.7**3 / np.array(shares) ** 3
    assert _crossover(shares, power) == pytest.approx(0.7)
    assert _crossover(shares, np.array([power[0], np.nan, power[2]])) == pytest.approx(0.7)
    assert math.isnan(_crossover(shares, np.array([4.0, 2.0, np.nan])))


def test_an_iteration_that_is_not_counted_is_missed() -> None:
    claim = REGISTRY["low-rank.cost"]
    (measured,) = claim.controls["an iteration uncounted"](claim.setting("quick", 0)).measurements
    assert measured.name == EXACTLY
    # An iteration has two products by M at least.
    assert measured.value > 4 * 24 * 40


def test_work_that_is_counted_or_takes_time_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    claim = REGISTRY["low-rank.cost"]
    sizes = {"shares": {1024: (1 / 16,)}, "rounds": {1024: 2}, "exact_up_to": 0}
    setting = Setting("quick", 1, {**claim.tiers["quick"], **sizes})

    def missed() -> list[str]:
        return [m.name for m in claim.check(setting).measurements if not m.holds]

    def passes(M: Tensor, *given: Any, **options: Any) -> Tensor:
        # Which the count leaves out.
        for _ in range(300):
            M = 1.0 * M
        return low_rank_msign(M, *given, **options)

    def basis_twice(*given: Any) -> Tensor:
        _basis(*given)
        return _basis(*given)

    with monkeypatch.context() as patch:
        patch.setattr(cost, "low_rank_msign", passes)
        assert [name.rpartition(",")[0] for name in missed()] == [
            f"full over {sketch}, m = n = 1024" for sketch in SKETCHES
        ]
    monkeypatch.setattr(geometry.sketch, "_basis", basis_twice)
    assert EXACTLY in missed()
