"""Small images of oriented textures, generated: a classification task that needs no download."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from geometry.errors import (
    require_between,
    require_nonnegative,
    require_positive,
    require_positive_int,
)
from geometry.philox import uniforms

# Streams that nobody else draws from: the optimisers' are below, the noise's is 2^31.
PARTS = {"train": 2**31 + 16, "validation": 2**31 + 17, "test": 2**31 + 18}
# Of each of two gratings: class, phase, deviations of orientation and period; then the contrast
# and the centre of the window.
_DRAWS = 11


class LabelledImages(NamedTuple):
    """n images and what is in them.

    Attributes:
        pixels: (n, side^2) float32; each image has mean 0 and root mean square 1.
        labels: (n,) int64.
    """

    pixels: Tensor
    labels: Tensor

    def to(self, *, dtype: torch.dtype, device: torch.device | str) -> LabelledImages:
        """The same on a device, pixels in a dtype."""
        return LabelledImages(self.pixels.to(dtype=dtype, device=device), self.labels.to(device))


def standardised(images: Tensor) -> Tensor:
    """Images (n, pixels) with mean 0 and root mean square 1, each, in float32."""
    images = images - images.mean(-1, keepdim=True)
    return (images / images.square().mean(-1, keepdim=True).sqrt()).float()


def require_part(part: str) -> None:
    """Raise ValueError unless it is "train", "validation" or "test"."""
    if part not in PARTS:
        raise ValueError(f"part: one of {', '.join(PARTS)} is expected, got {part!r}")


@dataclass(frozen=True)
class Textures:
    """Gratings in clutter and noise: a class is an orientation and a period.

    An image is a grating of its class times a Gaussian window around a random place, with random
    phase, contrast, and deviations of orientation and period; a weaker grating of any class all
    over it, drawn alike; and Gaussian noise in every pixel. A phase is as likely as the opposite
    one, so the mean image of every class is 0: classes differ in second moments, and the nearest of
    class means tells a quarter of the images right. Neighbouring classes overlap, which bounds the
    accuracy.

    Args:
        side: of an image, in pixels.
        orientations: their number; equally spaced on half a turn.
        periods: of the gratings, in pixels, at least 2.
        orientation_spread: standard deviation, as a share of the spacing of orientations.
        period_spread: standard deviation of the logarithm of the period.
        window: standard deviation of the Gaussian window, as a share of the side.
        shift: of its centre from the image's along an axis, at most, as a share of the side.
        contrasts: the lowest and the highest amplitude of the grating.
        clutter: amplitude of the other grating.
        noise: standard deviation of a pixel.

    Raises:
        ValueError: sizes, spreads or contrasts out of these ranges.
    """

    side: int = 16
    orientations: int = 5
    periods: tuple[float, ...] = (3.0, 5.0)
    orientation_spread: float = 0.2
    period_spread: float = 0.1
    window: float = 0.25
    shift: float = 0.2
    contrasts: tuple[float, float] = (0.75, 1.5)
    clutter: float = 0.4
    noise: float = 0.5

    def __post_init__(self) -> None:
        for name in ("side", "orientations"):
            require_positive_int(name, getattr(self, name))
        for name in ("orientation_spread", "period_spread", "shift", "clutter", "noise"):
            require_nonnegative(name, getattr(self, name))
        require_positive("window", self.window)
        if not self.periods or not all(2 <= period < math.inf for period in self.periods):
            raise ValueError(f"periods of at least 2 pixels are expected, got {self.periods}")
        low, high = self.contrasts
        if not 0 < low <= high < math.inf:
            raise ValueError(f"contrasts: 0 < low <= high is expected, got {self.contrasts}")

    @property
    def classes(self) -> int:
        """How many: label k has orientation k % orientations and period k // orientations."""
        return self.orientations * len(self.periods)

    def draw(self, count: int, *, seed: int, part: str) -> LabelledImages:
        """``count`` images on the CPU, every label as likely; the first of more are the same.

        Args:
            seed: 0 <= seed < 2^63.
            part: "train", "validation" or "test", independent of each other.

        Raises:
            ValueError: no such part, a count below 1, a seed out of range.
        """
        require_positive_int("count", count)
        require_between("seed", seed, 0, 2**63 - 1)
        require_part(part)
        every, numbers = _DRAWS + self.side**2, torch.arange(count)
        drawn = uniforms(torch.tensor(seed), every, step=numbers, stream=PARTS[part])
        own, other, rest, pixels = drawn.tensor_split((4, 8, _DRAWS), dim=-1)
        labels, signal = self._grating(own)
        _, clutter = self._grating(other)
        low, high = self.contrasts
        amplitude = low + (high - low) * rest[:, :1]
        image = amplitude * self._window(2 * rest[:, 1:] - 1) * signal + self.clutter * clutter
        image = image + self.noise * torch.special.ndtri(pixels)
        return LabelledImages(standardised(image), labels)

    def _places(self) -> tuple[Tensor, Tensor]:
        """x and y of the pixels from the middle of the image, each (side^2,)."""
        along = torch.arange(self.side, dtype=torch.float64) - (self.side - 1) / 2
        y, x = torch.meshgrid(along, along, indexing="ij")
        return x.flatten(), y.flatten()

    def _grating(self, drawn: Tensor) -> tuple[Tensor, Tensor]:
        """Classes (n,) and gratings of amplitude 1 (n, side^2) from uniform numbers (n, 4)."""
        labels = (drawn[:, 0] * self.classes).long()
        spacing = math.pi / self.orientations
        turned, stretched = torch.special.ndtri(drawn[:, 2:]).unbind(-1)
        angle = spacing * (labels % self.orientations + self.orientation_spread * turned)
        period = torch.tensor(self.periods, dtype=torch.float64)[labels // self.orientations]
        period = period * (self.period_spread * stretched).exp()
        x, y = self._places()
        along = angle.cos()[:, None] * x + angle.sin()[:, None] * y
        return labels, torch.cos(2 * math.pi * (along / period[:, None] + drawn[:, 1:2]))

    def _window(self, offset: Tensor) -> Tensor:
        """(n, side^2), 1 at the centres; offsets (n, 2) in [-1, 1]."""
        x, y = self._places()
        centre = self.side * self.shift * offset
        square = (x - centre[:, :1]).square() + (y - centre[:, 1:]).square()
        return (-square / (2 * (self.window * self.side) ** 2)).exp()
