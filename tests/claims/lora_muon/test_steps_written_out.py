"""What an optimiser of the contests does wrong is seen, in float64 or in float32."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from claims.lora_muon.contestants import (
    EXACT_LORA_MUON,
    FACTOR_MUON,
    LORA_MUON,
    MUON,
    SPECTRON,
)
from claims.lora_muon.steps_written_out import (
    DAMPING,
    IN_FLOAT32,
    contestants_written_out,
    damped_root,
    eight_steps,
)
from claims.measuring.study import ADAMW
from claims.measuring.written_out import WRITTEN_OUT
from geometry.gauge import Pair
from geometry.lora import Direction, Root, split_direction, split_direction_by_gram, split_step
from simulate.cells import Contestant
from simulate.optimizers import FactorMuon, LoRAMuon, Spectron
from simulate.optimizers.orthogonalizing import factors_moved
from simulate.optimizers.pair_optimizer import Batch, averaged, rate
from simulate.optimizers.spectron import _norm
from tests.claims.test_contests import no_first_moment_of_adam, no_momentum
from tests.claims.test_wrong_code import Broken, in_place_of

OF_PAIRS = (LORA_MUON, EXACT_LORA_MUON, FACTOR_MUON, SPECTRON)


def with_option(optimizer: Any, name: str, other: Any) -> Broken:
    """An optimiser of pairs that takes another option than it was given."""
    updated = optimizer.updated

    def otherwise(self: Any, batch: Batch, state: Any) -> Any:
        return updated(self, batch._replace(group={**batch.group, name: other}), state)

    return lambda monkeypatch: monkeypatch.setattr(optimizer, "updated", otherwise)


def twice_as_long(B: Tensor, A: Tensor, D_B: Tensor, D_A: Tensor, eta: Any, decay: float) -> Pair:
    return split_step(B, A, 2 * D_B, 2 * D_A, eta, decay)


def one_root_left_out(
    B: Tensor, A: Tensor, G_B: Tensor, G_A: Tensor, *, orthogonalize: Direction, root: Root
) -> Pair:
    return orthogonalize(G_B @ root(A)), orthogonalize(root(B.mT) @ G_A)


def a_thousandth_more(*factors: Tensor, **options: Any) -> Pair:
    D_B, D_A = split_direction_by_gram(*factors, **options)
    return D_B, 1.001 * D_A


def looking_ahead(batch: Batch, state: Any) -> Pair:
    B, A = (m.lerp(g, 0.1) for m, g in zip(averaged(batch, state), batch.gradients, strict=True))
    return B, A


def uphill(batch: Batch, moments: Pair, length: Tensor) -> Pair:
    return factors_moved(batch, moments, -length)


def over_the_norms_alone(batch: Batch, moments: Pair, length: Tensor) -> Pair:
    """rho = lr / (||B|| + ||A||)."""
    return factors_moved(batch, moments, length / (1 - length / rate(batch)))


def begun_anew(X: Tensor, v: Tensor, norms: str) -> tuple[Tensor, Tensor]:
    return _norm(X, v, norms)[0], v


def exactly(X: Tensor, v: Tensor, _: str) -> tuple[Tensor, Tensor]:
    return _norm(X, v, "exact")


BOTH = {WRITTEN_OUT, IN_FLOAT32}
CASES: dict[str, tuple[Contestant, Broken, set[str]]] = {
    "twice as long": (LORA_MUON, in_place_of(split_step, twice_as_long), BOTH),
    "twice as long, exact": (EXACT_LORA_MUON, in_place_of(split_step, twice_as_long), BOTH),
    "a root left out": (LORA_MUON, in_place_of(split_direction, one_root_left_out), {WRITTEN_OUT}),
    "a root left out, exact": (
        EXACT_LORA_MUON, in_place_of(split_direction, one_root_left_out), {WRITTEN_OUT},
    ),
    "by Gram matrices a thousandth more": (
        LORA_MUON, in_place_of(split_direction_by_gram, a_thousandth_more), {IN_FLOAT32},
    ),
    "by Gram matrices a thousandth more, exact": (
        EXACT_LORA_MUON, in_place_of(split_direction_by_gram, a_thousandth_more), {IN_FLOAT32},
    ),
    "seven steps of eight": (LORA_MUON, with_option(LoRAMuon, "ns_steps", 7), BOTH),
    "polar factors by SVD": (LORA_MUON, with_option(LoRAMuon, "orthogonalizer", "svd"), BOTH),
    "another damping": (LORA_MUON, with_option(LoRAMuon, "damping", 1e-3), BOTH),
    "an exact root": (LORA_MUON, with_option(LoRAMuon, "root", "svd"), {WRITTEN_OUT}),
    "a damped root in place of an exact one": (
        EXACT_LORA_MUON, with_option(LoRAMuon, "damping", 1e-3), BOTH,
    ),
    "decay": (LORA_MUON, with_option(LoRAMuon, "weight_decay", 0.1), BOTH),
    "uphill": (FACTOR_MUON, in_place_of(factors_moved, uphill), BOTH),
    "another member's rate": (
        FACTOR_MUON, with_option(FactorMuon, "lr", torch.tensor([0.1, 0.3])), BOTH,
    ),
    "the quintic of Muon": (FACTOR_MUON, with_option(FactorMuon, "orthogonalizer", "muon"), BOTH),
    "over the norms alone": (SPECTRON, in_place_of(factors_moved, over_the_norms_alone), BOTH),
    "a power iteration begun anew": (SPECTRON, in_place_of(_norm, begun_anew), BOTH),
    "exact norms": (SPECTRON, in_place_of(_norm, exactly), BOTH),
    "four steps of five": (SPECTRON, with_option(Spectron, "ns_steps", 4), BOTH),
    "no momentum of a matrix": (MUON, no_momentum, BOTH),
    "no first moment": (ADAMW, no_first_moment_of_adam, BOTH),
} | {
    f"{what}, {each.name}": (each, in_place_of(averaged, wrong), BOTH)
    for each in OF_PAIRS
    for what, wrong in (("no momentum", lambda batch, _: batch.gradients), ("ahead", looking_ahead))
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_what_is_broken_is_seen(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    contestant, broken, missed = CASES[name]
    broken(monkeypatch)
    found = contestants_written_out([contestant])
    assert {each.name for each in found if not each.holds} == missed


def test_iterations_are_near_what_they_stand_for() -> None:
    """Polar factors and inverse roots: no mistake has been copied."""
    generator = torch.Generator().manual_seed(3)
    X = torch.randn(4, 8, 24, generator=generator, dtype=torch.float64)
    spectrum = torch.linalg.svdvals(eight_steps(X))
    assert float((spectrum - 1).abs().max()) < 1e-3
    damping = DAMPING * torch.linalg.matrix_norm(X @ X.mT)[:, None, None]
    damped = X @ X.mT + damping * torch.eye(8, dtype=X.dtype)
    whitened = damped_root(X) @ damped @ damped_root(X)
    assert float((whitened - torch.eye(8, dtype=X.dtype)).abs().max()) < 1e-3
