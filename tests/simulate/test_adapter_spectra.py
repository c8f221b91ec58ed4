"""Spectra of the products of a run, against dense singular value decompositions."""

from __future__ import annotations

import pytest
import torch

from simulate.adapter_spectra import adapter_spectra
from simulate.optimizers import FactorMuon
from simulate.pretrained import pretrained
from simulate.step_costs import Trace
from simulate.tasks import LowRankAdaptation
from simulate.training import EnsembleTraining
from tests.simulate.runs import corpus, training

LAYERS = ("query", "up", "down", "value")


def adapted(rank: int = 3, scale: float = 1.0) -> EnsembleTraining:
    models = pretrained(training("Muon", [(0.05, 0), (0.05, 1), (0.05, 2)], sizes={"depth": 2}))
    return EnsembleTraining(
        corpus(),
        LowRankAdaptation(models, rank, LAYERS, scale),
        [(0.05, 0), (0.1, 1), (0.05, 2)],
        FactorMuon,
        batch_size=4,
        dtype=torch.float32,
    )


def test_singular_values_are_those_of_the_dense_products() -> None:
    run = adapted(scale=2.0)
    assert not bool(adapter_spectra(run).any())  # B begins at zero
    run.run(5)
    found = adapter_spectra(run)
    pairs = run.model.roles().pairs
    assert found.shape == (3, len(pairs), 3) == (3, 8, 3)
    assert found.dtype == torch.float64
    for place, (B, A) in enumerate(pairs):
        s = torch.linalg.svdvals(B.detach().double() @ A.detach().double())
        torch.testing.assert_close(found[:, place], s[:, :3], rtol=1e-12, atol=1e-14)
    assert bool((found > 0).all())


def test_values_far_apart_keep_their_digits() -> None:
    run = adapted()
    run.run(2)
    with torch.no_grad():
        for B, A in run.model.roles().pairs:
            B.copy_(torch.eye(*B.shape[1:]) * torch.tensor([1.0, 1e-5, 1e-10]))
            A.copy_(torch.eye(*A.shape[1:]))
    expected = torch.tensor([1.0, 1e-5, 1e-10], dtype=torch.float64).expand(3, 8, 3)
    torch.testing.assert_close(adapter_spectra(run), expected, rtol=1e-6, atol=0)


def test_members_that_are_gone_have_none() -> None:
    run, others = adapted(), adapted()
    with torch.no_grad():
        run.model.embedding[1] = torch.nan
    run.run(3)
    others.run(3)
    found = adapter_spectra(run)
    assert bool(found[1].isnan().all())
    torch.testing.assert_close(found[[0, 2]], adapter_spectra(others)[[0, 2]], rtol=1e-4, atol=0)


def test_no_product_is_formed_and_layers_of_a_shape_go_together() -> None:
    run = adapted()
    run.run(1)
    with Trace() as seen:
        adapter_spectra(run)
    # Three shapes: square, up and down; the largest, of both depths, 3 members, 64 x 3.
    assert seen.operations["linalg_qr"] == 2 * 3
    assert seen.largest <= 2 * 3 * 64 * 3


def test_a_dense_model_has_none() -> None:
    with pytest.raises(ValueError, match="low-rank layers or adapters are expected, got none"):
        adapter_spectra(training("Muon", [(0.05, 0)]))
