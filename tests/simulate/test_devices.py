"""Discrete runs on every device: nothing of them stays behind on the CPU, and they do the same."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from simulate import optimizers
from simulate.cells import Cell, Contestant, Line, Recipe, run_cell
from simulate.classification import ImageStudy, train_classifiers
from simulate.locally_optimal_adaptation import locally_optimal_adaptation
from simulate.optimizers import keep_members
from simulate.optimizers.orthogonalizer_options import OF_TORCH
from simulate.pretrained import pretrained
from simulate.tasks import (
    Batches,
    CharacterTransformer,
    ConvolutionalClassifier,
    LowRankAdaptation,
    Perceptron,
    TensorCompletion,
    TensorRegression,
    Textures,
    Tucker,
)
from simulate.tasks.tensor_models import Entries
from simulate.tensor_training import train_tensors
from simulate.training import EnsembleTraining
from tests.simulate.runs import OPTIMIZERS, RATES, architecture, corpus, training

MEMBERS = 3
SHAPES: dict[str, list[tuple[int, ...]]] = {
    "pairs": [(6, 2), (2, 5)],
    "matrices": [(6, 5)],
    "tensors": [(3, 4, 2)],
}
WEIGHTED: dict[str, Any] = {"rank": 2, "sketch": "weighted"}
# By what they take: everything that simulate.optimizers has, with the ways that part on the inside.
EVERY: dict[str, tuple[str, Callable[..., Optimizer], dict[str, Any]]] = {
    "FactorMuon": ("pairs", optimizers.FactorMuon, {}),
    "LoRAMuon": ("pairs", optimizers.LoRAMuon, {"weight_decay": 0.1}),
    "LoRAMuon, Newton-Schulz": ("pairs", optimizers.LoRAMuon, {"root": "newton_schulz"}),
    "LoRARite": ("pairs", optimizers.LoRARite, {}),
    "LoRARiteCore": ("pairs", optimizers.LoRARiteCore, {}),
    "RiemannLoRA": ("pairs", optimizers.RiemannLoRA, {}),
    "RiemannLoRA, adaptive": ("pairs", optimizers.RiemannLoRA, {"adaptive": True}),
    "Riemannion": ("pairs", optimizers.Riemannion, {}),
    "ScaledGD": ("pairs", optimizers.ScaledGD, {}),
    "Spectron": ("pairs", optimizers.Spectron, {}),
    "SpectralDescent": ("matrices", optimizers.SpectralDescent, {"beta": 0.1}),
    "Muon, torch": ("matrices", optimizers.Muon, {"orthogonalizer": OF_TORCH}),
    "Muon, exact": ("matrices", optimizers.Muon, {"orthogonalizer": "svd"}),
    "Muon, Polar Express": ("matrices", optimizers.Muon, {"orthogonalizer": "polar_express"}),
    "LowRankMuon": ("matrices", optimizers.LowRankMuon, {"rank": 2, "sketch": "gaussian"}),
    "LowRankMSGD, weighted": ("matrices", optimizers.LowRankMSGD, WEIGHTED),
    "LowRankMSGD": ("matrices", optimizers.LowRankMSGD, {"rank": 2}),
    "MemberSGD": ("matrices", optimizers.MemberSGD, {"momentum": 0.9}),
    "MemberAdamW": ("matrices", optimizers.MemberAdamW, {}),
    "Tensorion": ("tensors", optimizers.Tensorion, {"order": 3}),
    "Tensorion, offline": ("tensors", optimizers.Tensorion, {"order": 3, "unfolding": "offline"}),
}  # fmt: skip
SEEDED = ("LowRankMuon", "LowRankMSGD")


def drawn(shape: tuple[int, ...], seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(MEMBERS, *shape, generator=generator, dtype=torch.float64)


def stepped(name: str, device: torch.device | str) -> list[Tensor]:
    """Parameters after two steps, of which the second has lost a member."""
    takes, make, options = EVERY[name]
    parameters = [Parameter(drawn(shape, i).to(device)) for i, shape in enumerate(SHAPES[takes])]
    given = [tuple(parameters)] if takes == "pairs" else parameters
    lr = torch.tensor([0.01, 0.02, 0.03], dtype=torch.float64, device=device)
    if name.partition(",")[0] in SEEDED:
        options = {**options, "seed": torch.tensor([1, 2, 3], device=device)}
    optimizer = make(given, lr=lr, **options)
    for step in range(2):
        for i, p in enumerate(parameters):
            p.grad = drawn(tuple(p.shape[1:]), 10 + 2 * step + i).to(device)[: len(p)]
        optimizer.step()
        if not step:
            keep_members(optimizer, torch.tensor([0, 2]))
    return [p.detach() for p in parameters]


@pytest.mark.parametrize("name", EVERY)
def test_every_optimiser_steps_where_its_parameters_are(name: str, device: torch.device) -> None:
    for there, here in zip(stepped(name, device), stepped(name, "cpu"), strict=True):
        assert there.device.type == device.type
        # torch's own orthogonaliser computes in bfloat16.
        torch.testing.assert_close(
            there.cpu(), here, rtol=1e-9, atol=1e-3 if OF_TORCH in EVERY[name][2].values() else 1e-9
        )


def test_no_optimiser_is_left_out() -> None:
    kinds = {make for _, make, _ in EVERY.values()}
    # Bases, and what steps by the optimisers of others.
    others = {optimizers.MatrixOptimizer, optimizers.PairOptimizer, optimizers.OneByOne}
    public = [getattr(optimizers, name) for name in optimizers.__all__]
    assert kinds == {
        each
        for each in public
        if isinstance(each, type) and issubclass(each, Optimizer) and each not in others
    }


@pytest.mark.parametrize("name", ["LoRAMuon", "Muon"])
def test_a_transformer_differentiates_where_it_is(name: str, device: torch.device) -> None:
    found = []
    for place in (device, torch.device("cpu")):
        model = CharacterTransformer(architecture(name), [1, 2], dtype=torch.float64, device=place)
        batches = Batches(corpus().train, length=16, batch_size=2, seeds=[1, 2], device=place)
        loss = model.token_losses(*batches.at(0)).mean((1, 2)).sum()
        loss.backward()
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        assert {x.device.type for x in gradients} == {place.type}
        found.append([loss.detach().cpu(), *(x.cpu() for x in gradients)])
    torch.testing.assert_close(found[0], found[1], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_ensemble_trains_and_loses_members(name: str, device: torch.device) -> None:
    members = [(RATES[name], 0), (1e300, 1), (RATES[name], 2)]
    there, here = (
        training(name, members, device=place, evaluation_tokens=64) for place in (device, "cpu")
    )
    found, expected = (run.run(3, validate_at=[0, 3]) for run in (there, here))
    assert {p.device.type for p in there.model.parameters()} == {device.type}
    assert list(found.diverged) == list(expected.diverged) == [1]
    kept = found.diverged[1].parameters
    assert {p.device.type for p in kept.values()} == {"cpu"}
    assert torch.tensor(found.loss_rows) == pytest.approx(
        torch.tensor(expected.loss_rows), rel=1e-5, nan_ok=True
    )
    for step, losses in expected.validation.items():
        assert found.validation[step].device.type == "cpu"
        torch.testing.assert_close(found.validation[step], losses, equal_nan=True)


def finetuned(device: torch.device | str, start: bool) -> EnsembleTraining:
    before = training("Muon", [(0.05, 0), (0.05, 1)], device=device, evaluation_tokens=64)
    before.run(1)
    models = pretrained(before)
    # Windows come from the CPU.
    windows = Batches(corpus().train, length=16, batch_size=2, seeds=models.seeds).at(0)
    adaptation = (
        locally_optimal_adaptation(models, windows, rank=2)
        if start
        else LowRankAdaptation(models, rank=2)
    )
    return EnsembleTraining(
        corpus(),
        adaptation,
        [(0.05, 0), (0.1, 0), (0.05, 1)],
        optimizers.Riemannion if start else optimizers.LoRAMuon,
        batch_size=2,
        evaluation_tokens=64,
        dtype=torch.float64,
        device=device,
    )


@pytest.mark.parametrize("start", [True, False])
def test_adapters_are_trained(start: bool, device: torch.device) -> None:
    there, here = (finetuned(place, start).run(2, validate_at=[2]) for place in (device, "cpu"))
    torch.testing.assert_close(there.validation[2], here.validation[2], rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("network", [Perceptron, ConvolutionalClassifier])
def test_classifiers_are_trained(network: Any, device: torch.device) -> None:
    images = Textures(side=8, orientations=2, periods=(3.0,))
    study = partial(
        ImageStudy, images, train=40, validation=10, test=10, widths=(6,), steps=3,
        batch_size=4, network=network, recorded=(0, 3), dtype=torch.float64,
    )  # fmt: skip
    contestant = (
        Contestant("low rank", optimizers.LowRankMuon, {"rank": 2}, draws=True)
        if network is Perceptron
        else Contestant("AdamW", optimizers.MemberAdamW)
    )
    there, here = (
        train_classifiers(study(device=place), contestant, [0.1, 1e300, 0.2], [1, 1, 2])
        for place in (str(device), "cpu")
    )
    # The perceptron's inputs are normalised, whatever its weights are.
    lost = [] if network is Perceptron else [1]
    assert list(there.diverged) == list(here.diverged) == lost
    for name in ("validation", "test", "training_loss", "validation_loss"):
        found = getattr(there, name)
        assert found.device.type == "cpu"
        torch.testing.assert_close(found, getattr(here, name), equal_nan=True)


@pytest.mark.parametrize("batch_size", [None, 8])
@pytest.mark.parametrize("model", [Entries(), Tucker((2, 2, 2))])
def test_tensors_are_trained(
    model: Entries | Tucker, batch_size: int | None, device: torch.device
) -> None:
    contestant = Contestant("AdamW", optimizers.MemberAdamW)
    if isinstance(model, Entries):
        contestant = Contestant("Tensorion", optimizers.Tensorion, {"order": 3})
    shape, ranks, seeds = (3, 4, 5), (2, 2, 2), [1, 2]
    for task in (
        partial(TensorRegression, shape, ranks, seeds, samples=30, condition=10.0, noise=0.1),
        partial(TensorCompletion, shape, ranks, seeds, share=0.3, noise=0.1),
    ):
        there, here, narrow = (
            train_tensors(
                task(batch_size=batch_size, device=place, dtype=dtype),
                contestant, (0.01, 1e300), steps=3, recorded=(0, 3), model=model,
            )
            for place, dtype in (
                (device, torch.float64), ("cpu", torch.float64), (device, torch.float32),
            )
        )  # fmt: skip
        assert (there.held_out.device.type, there.held_out.dtype) == ("cpu", torch.float64)
        torch.testing.assert_close(there.held_out, here.held_out, equal_nan=True)
        assert there.diverged.keys() == here.diverged.keys()
        # At the first of the rates nothing overflows.
        close, exact = narrow.held_out[0], here.held_out[0]
        torch.testing.assert_close(close, exact, rtol=1e-3, atol=1e-4)
        assert not torch.equal(close, exact)


def test_cells_are_trained(device: torch.device) -> None:
    cell = Cell(Line(Contestant("LoRA-Muon", optimizers.LoRAMuon), architecture("LoRAMuon"), 2),
                (0.03, 1e30), (0, 1))  # fmt: skip
    there, here = (
        run_cell(cell, Recipe(corpus(), 2, evaluation_tokens=64, device=str(place)))
        for place in (device, "cpu")
    )
    torch.testing.assert_close(there.losses, here.losses, equal_nan=True)
    assert torch.equal(there.diverged_at, here.diverged_at)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="files keep no tensors of elsewhere")
def test_a_checkpoint_of_a_gpu_goes_on_with_the_same_bits(tmp_path: Path) -> None:
    members = [(RATES["Muon"], 0), (1e300, 1), (RATES["Muon"], 2)]
    whole = training("Muon", members, device="cuda")
    whole.run(4)
    first = training("Muon", members, device="cuda")
    first.run(2, checkpoint=tmp_path / "run")
    again = training("Muon", members, device="cuda")
    again.load(tmp_path / "run")
    again.run(4)
    for one, other in zip(whole.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(one, other)
