"""The ensemble of perceptrons is its members, each alone."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cross_entropy, gelu

from simulate.tasks import Perceptron


def models(seeds: list[int], dtype: torch.dtype = torch.float64) -> Perceptron:
    return Perceptron(12, (8, 6), 3, seeds, dtype=dtype)


def test_a_member_starts_as_it_does_alone() -> None:
    together, alone = models([4, 5, 6]), models([5])
    for p, its in zip(together.parameters(), alone.parameters(), strict=True):
        assert torch.equal(p[1], its[0])
    assert [tuple(W.shape) for W in together.weights] == [(3, 8, 12), (3, 6, 8)]
    values = torch.cat([torch.linalg.svdvals(W.detach()).flatten() for W in together.weights])
    assert float((values - 1).abs().max()) < 1e-12


def test_losses_are_those_of_the_formula() -> None:
    model = models([1, 2])
    images, labels = torch.randn(2, 7, 12, dtype=torch.float64), torch.randint(3, (2, 7))
    found = model.image_losses(images, labels)
    for member in range(2):
        x = images[member]
        for W in (*model.weights, model.readout):
            x = x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt() @ W[member].T
            x = x if W is model.readout else gelu(x)
        expected = cross_entropy(x, labels[member], reduction="none")
        assert torch.allclose(found[member], expected, rtol=1e-12, atol=1e-12)


def test_no_member_sees_another() -> None:
    model = models([1, 2])
    images, labels = torch.randn(2, 5, 12, dtype=torch.float64), torch.zeros(2, 5).long()
    model.image_losses(images, labels)[0].sum().backward()
    for p in model.parameters():
        assert p.grad is not None
        assert bool(p.grad[0].any())
        assert not bool(p.grad[1].any())


def test_dtype_and_sizes() -> None:
    assert {p.dtype for p in models([0], torch.float32).parameters()} == {torch.float32}
    for widths, classes, message in (
        ((), 3, "at least one hidden layer"),
        ((0,), 3, "every size must be a positive int"),
        ((4,), 0, "every size must be a positive int"),
    ):
        with pytest.raises(ValueError, match=message):
            Perceptron(12, widths, classes, [0])
    with pytest.raises(ValueError, match="seeds: at least one"):
        models([])
