"""Each measurement of a claim on flows is missed where what it measures is wrong.

Those that a control misses are left out: it shows the same.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from claims import REGISTRY
from claims.measuring.flowing import integrate_there
from claims.registry import Setting
from claims.uniform_spectral_growth import conservation, discrete, lag
from flows import Field, MatrixFactorization, Trajectory, orthogonalized_flow, spectral_flow
from flows.coordinates import ReducedCoordinates
from geometry.gauge import Pair
from tests.claims.test_small_sizes import SMALL


def missed(identifier: str, **sizes: Any) -> set[str]:
    claim = REGISTRY[identifier]
    setting = Setting("quick", 1, {**claim.tiers["quick"], **SMALL[identifier], **sizes})
    return {each.name for each in claim.check(setting).measurements if not each.holds}


def at_speed(speed: float) -> Any:
    """Flows in whose time all goes faster."""

    def integrated(
        setting: Setting, field: Field, start: Pair, times: Any, **options: Any
    ) -> Trajectory:
        times = torch.as_tensor(times, dtype=torch.float64)
        path = integrate_there(setting, field, start, speed * times, **options)
        arrivals = {share: when / speed for share, when in path.arrivals.items()}
        return replace(path, times=times, arrivals=arrivals)

    return integrated


def test_a_flow_that_is_too_fast_has_no_lag(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lag, "integrate_there", at_speed(1.05))
    found = missed("usg.lag-bound")
    assert {"smallest lag", "distance of the lag to its quadrature", "reference lag"} <= found


def test_a_flow_that_is_too_slow_lags_more_than_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lag, "integrate_there", at_speed(0.9))
    assert "largest lag over the exact majorant" in missed("usg.lag-bound")


def test_starts_that_are_smaller_than_stated(monkeypatch: pytest.MonkeyPatch) -> None:
    lora_init = MatrixFactorization.lora_init

    def smaller(self: MatrixFactorization, gamma: float, seed: Any) -> Pair:
        return lora_init(self, gamma / 100, seed=seed)

    monkeypatch.setattr(MatrixFactorization, "lora_init", smaller)
    found = missed("usg.equal-rate-underparametrised", seeds=48)
    for gamma in ("1e-3", "1e-5"):
        name = f"deviation at gamma {gamma}, end of the interval of its geometric mean, lower"
        assert name in found


def test_a_loss_that_rises_on_its_way(monkeypatch: pytest.MonkeyPatch) -> None:
    loss = ReducedCoordinates.loss

    def uneven(self: ReducedCoordinates, states: Tensor) -> Tensor:
        true = loss(self, states)
        # Of states on their way, along a trajectory, every second one.
        even = torch.arange(true.shape[-1]) % 2 == 0
        return torch.where(even, true, true * (1 + 1e-9)) if true.ndim > 1 else true

    monkeypatch.setattr(ReducedCoordinates, "loss", uneven)
    assert missed("usg.global-convergence") == {"largest rise of the loss, relative"}


def test_a_drift_of_another_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        conservation, "spectral_flow", lambda problem, beta: spectral_flow(problem, beta**1.2)
    )
    assert "slope of the drift in beta, upper end" in missed("usg.aligned-conservation")


def test_specgd_beside_another_flow_does_not_come_nearer(monkeypatch: pytest.MonkeyPatch) -> None:
    def too_late(setting: Setting, field: Field, *given: Any, **options: Any) -> Trajectory:
        late = "rtol" in options
        return (at_speed(1.05) if late else integrate_there)(setting, field, *given, **options)

    monkeypatch.setattr(discrete, "integrate_there", too_late)
    assert "order of SpecGD in its step, lower end" in missed("usg.specgd-tracks-flow")


@pytest.mark.parametrize(("share", "name"), [(1.2, "largest rate"), (0.9, "smallest rate")])
def test_steps_of_another_length(share: float, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def longer(*given: Any) -> Field:
        field = orthogonalized_flow(*given)
        return replace(field, direction=lambda G, s: share * field.direction(G, s))

    monkeypatch.setattr(discrete, "orthogonalized_flow", longer)
    assert missed("usg.newton-schulz-breaks-order") == {name}
