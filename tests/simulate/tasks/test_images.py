"""Generated images: what they are of, what they hang on, and in what classes differ."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from simulate.tasks import Textures

CLEAN = Textures(
    side=32, orientation_spread=0.0, period_spread=0.0, window=10.0, clutter=0.0, noise=0.0
)


def test_an_image_is_a_function_of_seed_part_and_place() -> None:
    textures = Textures()
    few, many = (textures.draw(count, seed=3, part="train") for count in (5, 50))
    assert torch.equal(few.pixels, many.pixels[:5])
    assert torch.equal(few.labels, many.labels[:5])
    for other in (
        textures.draw(5, seed=4, part="train"),
        textures.draw(5, seed=3, part="test"),
        textures.draw(5, seed=3, part="validation"),
    ):
        assert not bool((few.pixels == other.pixels).any())


def test_images_are_normalised_and_labels_balanced() -> None:
    pixels, labels = Textures().draw(4000, seed=0, part="train")
    assert pixels.shape == (4000, 256)
    assert pixels.dtype == torch.float32
    assert float(pixels.mean(1).abs().max()) < 1e-6
    assert float((pixels.square().mean(1) - 1).abs().max()) < 1e-5
    counts = torch.bincount(labels, minlength=10)
    assert len(counts) == 10
    z = (counts - 400) / (400 * 0.9) ** 0.5
    assert float(z.abs().max()) < 4


def test_the_spectrum_of_a_clean_image_peaks_where_its_class_says() -> None:
    pixels, labels = CLEAN.draw(60, seed=1, part="train")
    power = torch.fft.fft2(pixels.double().reshape(-1, 32, 32), (256, 256)).abs().square()
    peak = power.flatten(1).argmax(1)
    fy, fx = (torch.fft.fftfreq(256).double()[i] for i in (peak // 256, peak % 256))
    periods = torch.tensor(CLEAN.periods).double()[labels // 5]
    assert float(((fx.square() + fy.square()).rsqrt() / periods - 1).abs().max()) < 0.05
    # An orientation is one of half a turn.
    off = torch.atan2(fy, fx) - math.pi / 5 * (labels % 5)
    assert float(torch.sin(off).abs().max()) < 0.08


def test_classes_differ_in_second_moments_and_not_in_means() -> None:
    textures = Textures()
    train, test = (textures.draw(4000, seed=0, part=part) for part in ("train", "test"))
    chosen = torch.nn.functional.one_hot(train.labels, 10).float()

    def means(features: torch.Tensor) -> torch.Tensor:
        return chosen.T @ features / chosen.sum(0)[:, None]

    # Means of n images of mean square 1: 1 / n if there is nothing else.
    sizes = means(train.pixels).square().mean(1) * chosen.sum(0)
    assert 0.7 < float(sizes.mean()) < 1.5

    def right(features: torch.Tensor, centres: torch.Tensor) -> float:
        return float((torch.cdist(features, centres).argmin(1) == test.labels).float().mean())

    # They lie in the span of their class, so the largest product is somewhat often the right one.
    assert right(test.pixels, means(train.pixels)) < 0.3
    spectra = [
        torch.fft.fft2(part.pixels.reshape(-1, 16, 16)).abs().flatten(1) for part in (train, test)
    ]
    assert right(spectra[1], means(spectra[0])) > 0.6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"side": 0}, "side must be a positive int"),
        ({"noise": -1.0}, "noise must be finite"),
        ({"window": 0.0}, "window must be finite and > 0"),
        ({"periods": ()}, "periods of at least 2 pixels"),
        ({"periods": (1.0,)}, "periods of at least 2 pixels"),
        ({"contrasts": (2.0, 1.0)}, "0 < low <= high"),
    ],
)
def test_textures_that_there_are_not_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Textures(**options)


def test_draws_out_of_range_are_refused() -> None:
    for count, seed, part, message in (
        (0, 0, "train", "count must be a positive int"),
        (1, -1, "train", "seed must lie in"),
        (1, 0, "training", "one of train, validation, test is expected, got 'training'"),
    ):
        with pytest.raises(ValueError, match=message):
            Textures().draw(count, seed=seed, part=part)
