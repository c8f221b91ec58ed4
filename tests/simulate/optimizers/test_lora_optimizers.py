"""What each optimiser of LoRA pairs does: formulas, gauges, bounds, the zero start, PEFT."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from geometry.gauge import regauged, regauged_gradients
from geometry.inverse_root import inverse_root
from geometry.lora import split_direction
from geometry.polar import msign, orthogonalize
from geometry.scaling import unit_roundoff
from simulate.optimizers import (
    FactorMuon,
    LoRAMuon,
    LoRARite,
    LoRARiteCore,
    PairOptimizer,
    Riemannion,
    RiemannLoRA,
    ScaledGD,
    Spectron,
    lora_pairs,
)
from simulate.optimizers.lora_muon import by_gram
from tests.geometry.test_msign import random_matrices, with_spectrum

Make = Callable[..., PairOptimizer]
M, N, R = 12, 9, 3


def drawn(seed: int = 0) -> tuple[Tensor, Tensor]:
    return random_matrices(M, R, seed=seed), random_matrices(R, N, seed=seed + 50)


def stepped(
    make: Make, B: Tensor, A: Tensor, gradients: list[Tensor], **options: object
) -> tuple[Tensor, Tensor]:
    """The factors after steps with noisy gradients of the product."""
    pair = nn.Parameter(B.clone()), nn.Parameter(A.clone())
    optimizer = make([pair], **options)
    for noise in gradients:
        G = 0.3 * (pair[0] @ pair[1]).detach() + noise
        pair[0].grad, pair[1].grad = G @ pair[1].detach().mT, pair[0].detach().mT @ G
        optimizer.step()
    return pair[0].detach(), pair[1].detach()


def noises(count: int) -> list[Tensor]:
    return [random_matrices(M, N, seed=200 + step) for step in range(count)]


def gauge(condition: float, seed: int = 7) -> Tensor:
    return with_spectrum(R, R, torch.logspace(0, -math.log10(condition), R).double(), seed)


COVARIANT: dict[str, Make] = {
    "LoRAMuon": LoRAMuon,
    "LoRARiteCore": LoRARiteCore,
    "LoRARite": LoRARite,
    "RiemannLoRA": RiemannLoRA,
    "Riemannion": Riemannion,
    "ScaledGD": ScaledGD,
}
NOT_COVARIANT: dict[str, Make] = {
    "FactorMuon": FactorMuon,
    "Spectron": Spectron,
    "Adam": lambda pairs, lr: torch.optim.Adam([p for pair in pairs for p in pair], lr=lr),  # type: ignore[dict-item,return-value]
}


def drift(make: Make, condition: float, steps: int) -> float:
    B, A = drawn()
    one = stepped(make, B, A, noises(steps), lr=0.1)
    other = stepped(make, *regauged(B, A, gauge(condition)), noises(steps), lr=0.1)
    return float((one[0] @ one[1] - other[0] @ other[1]).norm() / (one[0] @ one[1]).norm())


@pytest.mark.parametrize("condition", [1.0, 10.0, 1000.0])
@pytest.mark.parametrize("name", COVARIANT)
def test_the_product_moves_alike_in_every_gauge(name: str, condition: float) -> None:
    # Twenty steps of round-off, each amplified by the condition of the factors.
    assert drift(COVARIANT[name], condition, 20) <= 1e-12 * condition


@pytest.mark.parametrize("name", NOT_COVARIANT)
def test_the_others_do_not(name: str) -> None:
    assert drift(NOT_COVARIANT[name], 10.0, 20) > 0.01


def test_lora_muon_is_its_formula() -> None:
    B, A = drawn()
    lr, momentum, decay = 0.2, 0.9, 0.3
    b, a, m_B, m_A = B, A, torch.zeros_like(B), torch.zeros_like(A)
    for noise in noises(4):
        G = 0.3 * b @ a + noise
        m_B = momentum * m_B + (1 - momentum) * G @ a.mT
        m_A = momentum * m_A + (1 - momentum) * b.mT @ G
        D_B, D_A = split_direction(b, a, m_B, m_A)
        s = math.sqrt(1 - decay * lr)
        b, a = s * b - lr / 2 / s * D_B, s * a - lr / 2 / s * D_A
    found = stepped(LoRAMuon, B, A, noises(4), lr=lr, momentum=momentum, weight_decay=decay)
    for given, expected in zip(found, (b, a), strict=True):
        assert float((given - expected).abs().max()) <= 1e-12


def test_lora_muon_in_qr_coordinates_is_the_same() -> None:
    B, A = drawn()
    gram, qr = (stepped(make, B, A, noises(50), lr=0.05) for make in (LoRAMuon, LoRARiteCore))
    assert float((gram[0] @ gram[1] - qr[0] @ qr[1]).abs().max()) <= 1e-12
    # The control: with its second moments LoRA-RITE goes elsewhere.
    full = stepped(LoRARite, B, A, noises(50), lr=0.05)
    assert float((gram[0] @ gram[1] - full[0] @ full[1]).abs().max()) > 0.01


@pytest.mark.parametrize("scale", [0.5, 4.0])
def test_an_adapters_scale_leaves_the_radius_in_w(scale: float) -> None:
    B, A = drawn()
    pair = nn.Parameter(B.clone()), nn.Parameter(A.clone())
    G = scale * random_matrices(M, N, seed=9)
    pair[0].grad, pair[1].grad = G @ A.mT, B.mT @ G
    LoRAMuon([pair], lr=1e-3, scale=scale).step()
    half = scale * (pair[0].detach() - B) @ A
    assert float(torch.linalg.matrix_norm(half, 2)) == pytest.approx(5e-4, rel=1e-10)


@pytest.mark.parametrize("lr", [0.1, 0.01, 0.001])
def test_the_second_step_from_the_zero_start_moves_a_by_its_own_size(lr: float) -> None:
    _, A = drawn()
    B, noise = torch.zeros(M, R, dtype=torch.float64), noises(1)[0]
    first = stepped(LoRAMuon, B, A, [noise], lr=lr, momentum=0.0)
    assert torch.equal(first[1], A)
    assert float(torch.linalg.matrix_norm(first[0] @ A, 2)) == pytest.approx(lr / 2, rel=1e-10)
    second = stepped(LoRAMuon, B, A, [noise, noise], lr=lr, momentum=0.0)
    # D_A = R_B msign(R_B G_A), with R_B of norm 2 / lr times that of A's root: no lr is left.
    moved = float((second[1] - A).norm() / A.norm())
    assert 0.1 < moved < 10
    damped = stepped(LoRAMuon, B, A, [noise, noise], lr=lr, momentum=0.0, root="newton_schulz")
    assert float((damped[1] - A).norm() / A.norm()) == pytest.approx(moved, rel=0.05)


def test_spectron_stays_in_its_radius_with_exact_norms_and_polar_factor() -> None:
    B, A = drawn()
    b, a = stepped(Spectron, B, A, noises(1), lr=0.5, orthogonalizer="svd", norms="exact")
    rho = 0.5 / (torch.linalg.matrix_norm(B, 2) + torch.linalg.matrix_norm(A, 2) + 1)
    assert float(torch.linalg.matrix_norm(B - b, 2) / rho) == pytest.approx(1.0, rel=1e-10)
    assert float(torch.linalg.matrix_norm(b @ a - B @ A, 2)) <= 0.5
    # The control: Muon on each factor with that rate leaves it.
    b, a = stepped(FactorMuon, B, A, noises(1), lr=0.5)
    assert float(torch.linalg.matrix_norm(b @ a - B @ A, 2)) > 0.5


def test_spectrons_power_iteration_finds_the_norms() -> None:
    B, A = drawn()
    pair = nn.Parameter(B.clone()), nn.Parameter(A.clone())
    optimizer = Spectron([pair], lr=1e-12, orthogonalizer="svd")
    G = noises(1)[0]
    for _ in range(300):
        pair[0].grad, pair[1].grad = G @ A.mT, B.mT @ G
        optimizer.step()
    before = pair[0].detach().clone()
    optimizer.param_groups[0]["lr"] = 1.0
    optimizer.step()
    rho = float(torch.linalg.matrix_norm(pair[0].detach() - before, 2))
    norms = torch.linalg.matrix_norm(B, 2) + torch.linalg.matrix_norm(A, 2)
    assert rho == pytest.approx(1 / float(norms + 1), rel=1e-8)


def test_factor_muon_and_scaled_gd_are_their_formulas() -> None:
    B, A = drawn()
    G = 0.3 * B @ A + noises(1)[0]
    G_B, G_A = G @ A.mT, B.mT @ G
    b, a = stepped(FactorMuon, B, A, noises(1), lr=0.1, weight_decay=0.5)
    assert float((b - (0.95 * B - 0.1 * msign(G_B))).abs().max()) <= 1e-13
    assert float((a - (0.95 * A - 0.1 * msign(G_A))).abs().max()) <= 1e-13
    b, a = stepped(ScaledGD, B, A, noises(1), lr=0.1)
    assert float((b - (B - 0.1 * G_B @ torch.linalg.inv(A @ A.mT))).abs().max()) <= 1e-12
    assert float((a - (A - 0.1 * torch.linalg.inv(B.mT @ B) @ G_A)).abs().max()) <= 1e-12


def test_the_first_step_of_lora_rite_is_an_unmagnified_polar_factor() -> None:
    B, A = drawn()
    G = 0.3 * B @ A + noises(1)[0]
    b, a = stepped(LoRARite, B, A, noises(1), lr=0.1, eps=1e-12)
    for moved, factor, gradient, other in (
        (B - b, B, G @ A.mT, A.mT),
        ((A - a).mT, A.mT, (B.mT @ G).mT, B),
    ):
        T = torch.linalg.qr(other).R
        unmagnified = msign(gradient @ torch.linalg.inv(T))
        expected = 0.1 * math.sqrt(len(factor)) * unmagnified @ torch.linalg.inv(T).mT
        assert float((moved - expected).abs().max()) <= 1e-8
    # The control: the second step has a past.
    two = stepped(LoRARite, B, A, noises(2), lr=0.1, eps=1e-12)
    size = torch.linalg.matrix_norm((two[0] - b) @ a, 2) / (0.1 * math.sqrt(M))
    assert abs(float(size) - 1) > 1e-3


def test_moments_are_carried_by_the_factors_gauge() -> None:
    B, A = drawn()
    W = []
    for transported in (None, True, False):
        pair = nn.Parameter(B.clone()), nn.Parameter(A.clone())
        optimizer = LoRAMuon([pair], lr=0.1)
        for number, noise in enumerate(noises(10)):
            if number == 5 and transported is not None:
                C = gauge(10.0)
                for p, new in zip(
                    pair, regauged(pair[0].detach(), pair[1].detach(), C), strict=True
                ):
                    p.data.copy_(new)
                if transported:
                    moments = [optimizer.state[p]["momentum_buffer"] for p in pair]
                    for m, new in zip(
                        moments, regauged_gradients(moments[0], moments[1], C), strict=True
                    ):
                        m.copy_(new)
            G = 0.3 * (pair[0] @ pair[1]).detach() + noise
            pair[0].grad, pair[1].grad = G @ pair[1].detach().mT, pair[0].detach().mT @ G
            optimizer.step()
        W.append((pair[0] @ pair[1]).detach())
    assert float((W[1] - W[0]).abs().max()) <= 1e-12
    assert float((W[2] - W[0]).abs().max()) > 1e-3


def test_the_papers_own_numerics_are_close_to_the_exact_ones() -> None:
    B, A = drawn()
    exact = stepped(LoRAMuon, B, A, noises(5), lr=0.1)
    own = stepped(
        LoRAMuon, B, A, noises(5), lr=0.1, orthogonalizer="lora_muon", root="newton_schulz"
    )
    assert 1e-6 < float((own[0] @ own[1] - exact[0] @ exact[1]).norm()) <= 0.01
    assert float((orthogonalize(B, "lora_muon") - msign(B)).abs().max()) < 1e-2
    assert float((inverse_root(A, "newton_schulz") - inverse_root(A)).abs().max()) < 1e-2


def test_options_out_of_range_are_told() -> None:
    pair = nn.Parameter(drawn()[0]), nn.Parameter(drawn()[1])
    for make, options, message in (
        (LoRAMuon, {"orthogonalizer": "sdv"}, "unknown method 'sdv'.*did you mean 'svd'"),
        (LoRAMuon, {"root": "eig"}, "unknown root 'eig'.*did you mean 'eigh'"),
        (LoRAMuon, {"scale": 0.0}, "scale must be finite and > 0, got 0"),
        (LoRAMuon, {"momentum": 1.0}, r"momentum must lie in \[0, 1\), got 1.0"),
        (LoRAMuon, {"weight_decay": -0.1}, "weight_decay must be finite and >= 0, got -0.1"),
        (Spectron, {"norms": "exat"}, "unknown norms 'exat'.*did you mean 'exact'"),
        (LoRARite, {"betas": (0.9, 1.0)}, r"betas in \[0, 1\) are expected"),
        (LoRARite, {"eps": -1.0}, "eps must be finite and >= 0"),
    ):
        with pytest.raises(ValueError, match=message):
            make([pair], **options)
    optimizer = LoRAMuon([pair], lr=2.0, weight_decay=0.9)
    for factor in pair:
        factor.grad = torch.ones_like(factor)
    with pytest.raises(ValueError, match=r"weight_decay \* eta in \[0, 1\) is expected"):
        optimizer.step()


class Adapted(nn.Module):
    """A module whose parameters are named as PEFT names them."""

    def __init__(self, *adapters: str) -> None:
        super().__init__()
        self.base = nn.Linear(5, 6)
        self.lora_A = nn.ModuleDict({name: nn.Linear(5, 2, bias=False) for name in adapters})
        self.lora_B = nn.ModuleDict({name: nn.Linear(2, 6, bias=False) for name in adapters})


class TestPairsOfAModel:
    def test_are_found_and_train(self) -> None:
        model = nn.Sequential(Adapted("default"), nn.ReLU(), Adapted("default"))
        pairs = lora_pairs(model)
        assert [(tuple(B.shape), tuple(A.shape)) for B, A in pairs] == [((6, 2), (2, 5))] * 2
        own = {id(p) for pair in pairs for p in pair}
        assert own == {id(p) for name, p in model.named_parameters() if "lora" in name}
        LoRAMuon(pairs, lr=0.1)

    def test_of_one_adapter_among_several(self) -> None:
        model = nn.Sequential(Adapted("default", "other"))
        assert len(lora_pairs(model, "other")) == 1
        with pytest.raises(ValueError, match=r"one of \['default', 'other'\] is expected"):
            lora_pairs(model)
        with pytest.raises(ValueError, match=r"unknown adapter 'othr'.*did you mean 'other'"):
            lora_pairs(model, "othr")

    def test_a_model_without_is_told(self) -> None:
        with pytest.raises(ValueError, match="given Linear, which has none"):
            lora_pairs(nn.Linear(3, 3))
        model = Adapted("default")
        del model.lora_B["default"]
        with pytest.raises(ValueError, match="lora_B of adapter 'default' is missing"):
            lora_pairs(nn.Sequential(model))


def test_lora_muon_in_single_precision_rounds_once() -> None:
    numerics: list[dict[str, Any]] = [{}, {"orthogonalizer": "lora_muon", "root": "newton_schulz"}]
    for options in numerics:
        pair = [x.float() for x in regauged(*drawn(), gauge(1e3))]
        gradients = [random_matrices(*x.shape, seed=300).float() for x in pair]
        moved = []
        for dtype in (torch.float64, torch.float32):
            B, A = (nn.Parameter(x.to(dtype)) for x in pair)
            B.grad, A.grad = (x.to(dtype) for x in gradients)
            LoRAMuon([(B, A)], lr=0.1, momentum=0.0, **options).step()
            moved.append((B.detach().double(), A.detach().double()))
        for exact, single in zip(*moved, strict=True):
            apart = float((exact - single).abs().max() / exact.abs().max())
            assert apart <= 4 * unit_roundoff(torch.float32)


@pytest.mark.parametrize(
    ("dtype", "device", "expected"),
    [
        (torch.float64, "cpu", False),
        (torch.float32, "cpu", True),
        (torch.bfloat16, "cuda", True),
        # Apple's device has no float64.
        (torch.float32, "mps", False),
    ],
)
def test_gram_matrices_are_taken_where_a_dtype_is_twice_as_wide(
    dtype: torch.dtype, device: str, expected: bool
) -> None:
    assert by_gram(dtype, torch.device(device)) is expected
