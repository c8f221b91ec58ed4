"""The ensemble of convolutional networks is its members, each alone; digits are split once."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import avg_pool2d, conv2d, cross_entropy, gelu

from simulate.cells import Contestant
from simulate.classification import ImageStudy, train_classifiers
from simulate.optimizers import MemberAdamW
from simulate.tasks import ConvolutionalClassifier, Digits


def models(seeds: list[int]) -> ConvolutionalClassifier:
    return ConvolutionalClassifier(64, (4, 6), 3, seeds, dtype=torch.float64)


def test_a_member_starts_as_it_does_alone() -> None:
    together, alone = models([4, 5, 6]), models([5])
    for p, its in zip(together.parameters(), alone.parameters(), strict=True):
        assert torch.equal(p[1], its[0])
    assert [tuple(W.shape[1:]) for W in together.weights] == [(4, 1, 3, 3), (6, 4, 3, 3)]
    assert len(together.weights) + len(together.others) == len(list(together.parameters()))


def test_losses_are_those_of_the_formula_and_no_member_sees_another() -> None:
    model = models([1, 2])
    for p in model.others:
        torch.nn.init.normal_(p)
    images, labels = torch.randn(2, 7, 64, dtype=torch.float64), torch.randint(3, (2, 7))
    found = model.image_losses(images, labels)
    first, second = model.biases
    for member in range(2):
        x = images[member].reshape(7, 1, 8, 8)
        x = gelu(conv2d(x, model.kernels[0][member], first[member], padding=1))
        x = gelu(conv2d(avg_pool2d(x, 2), model.kernels[1][member], second[member], padding=1))
        logits = x.flatten(1) @ model.readout[member].T + model.offset[member]
        expected = cross_entropy(logits, labels[member], reduction="none")
        assert torch.allclose(found[member], expected, rtol=1e-12, atol=1e-12)
    found[0].sum().backward()
    for p in model.parameters():
        assert p.grad is not None
        assert bool(p.grad[0].any())
        assert not bool(p.grad[1].any())


def test_sizes_that_there_are_not_are_refused() -> None:
    for pixels, widths, message in (
        (65, (4,), "a square number is expected, got 65"),
        (64, (), "one convolution or more"),
        (64, (2,) * 5, "leave a pixel of 8 x 8"),
        (64, (0,), "every size must be a positive int"),
    ):
        with pytest.raises(ValueError, match=message):
            ConvolutionalClassifier(pixels, widths, 10, [0])


def test_digits_are_parted_by_one_seed_and_no_image_is_in_two_parts() -> None:
    parts = {
        part: Digits().draw(count, seed=0, part=part)
        for part, count in (("train", 997), ("validation", 400), ("test", 400))
    }
    everything = torch.cat([pixels for pixels, _ in parts.values()])
    assert len(torch.unique(everything, dim=0)) == 1797
    assert torch.equal(parts["test"].pixels[:9], Digits().draw(9, seed=0, part="test").pixels)
    assert not torch.equal(parts["test"].pixels[:9], Digits().draw(9, seed=1, part="test").pixels)
    assert everything.mean(1).abs().max() < 1e-6
    assert torch.bincount(parts["train"].labels).min() > 80
    for count, part, message in ((401, "test", "at most 400"), (1, "rest", "one of train")):
        with pytest.raises(ValueError, match=message):
            Digits().draw(count, seed=0, part=part)


def test_convolutions_learn_digits_and_their_losses_are_recorded() -> None:
    study = ImageStudy(
        Digits(), train=500, validation=100, test=100, widths=(6, 8), steps=60, batch_size=32,
        network=ConvolutionalClassifier, recorded=(0, 30, 60),
    )  # fmt: skip
    adamw = Contestant("AdamW", MemberAdamW)
    scores = train_classifiers(study, adamw, [3e-2, 3e-2, 0.0], [1, 2, 1])
    assert scores.validation_loss.shape == (3, 3)
    assert scores.validation_loss[0].tolist() == pytest.approx([2.3] * 3, abs=0.1)
    assert bool((scores.validation_loss.diff(dim=0) < 0).all())
    assert bool((scores.test[:2] > scores.test[2]).all())
    assert float(scores.test[:2].min()) > 0.7
