"""The claim on step times: its interval, and that controls fail by construction."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from claims import REGISTRY
from claims.lora_muon.step_time import FASTER, _median


def test_the_interval_of_a_median_is_that_of_order_statistics() -> None:
    values = np.random.default_rng(0).permutation(np.arange(41.0))
    middle, low, high = _median(values)
    assert middle == 20.0
    # P(at least 14 of 41 below the median): the interval holds it in 95 % of the cases or more.
    assert (low, high) == (13.0, 27.0)
    assert 1 - 2 * binom.cdf(13, 41, 0.5) >= 0.95
    assert 1 - 2 * binom.cdf(14, 41, 0.5) < 0.96


@pytest.mark.parametrize("count", [1, 2, 5])
def test_of_few_values_the_interval_is_all_of_them(count: int) -> None:
    assert _median(np.arange(float(count)))[1:] == (0.0, count - 1.0)


def test_a_disturbed_minority_moves_the_interval_by_no_more_than_its_neighbours() -> None:
    ratios = np.r_[np.linspace(0.7, 0.8, 30), np.full(8, 50.0)]
    _, low, high = _median(ratios)
    assert 0.7 < low < high < 0.81


def test_the_core_is_not_faster_than_the_fastest_qr_form() -> None:
    claim = REGISTRY["lora-muon.adapter-step-time"]
    evidence = claim.controls["LoRA-RITE's core"](claim.setting("quick", 0))
    (upper,) = (m for m in evidence.measurements if "QR form" in m.name)
    assert upper.bound == FASTER < 1
    assert upper.value >= 1
