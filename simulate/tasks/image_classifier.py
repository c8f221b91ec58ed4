"""Classifiers of images whose ensembles are one model, members an axis; a perceptron."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, gelu

from geometry.errors import require_positive_int
from simulate.tasks.layers import DenseLayer
from simulate.tasks.normalizing import normalized
from simulate.tasks.orthogonal_start import Streams, dense_start, orthogonal_factors
from simulate.tasks.transformer import require_place

READOUT_SCALE = 0.02


class ImageClassifier(nn.Module):
    """Base: E classifiers in one; no product of one meets another's."""

    readout: nn.Parameter

    @property
    def members(self) -> int:
        """E."""
        return len(self.readout)

    @property
    @abstractmethod
    def weights(self) -> list[nn.Parameter]:
        """Of the hidden layers, (E, ...), for the optimiser that is looked at."""

    @property
    @abstractmethod
    def others(self) -> list[nn.Parameter]:
        """The parameters that are left, (E, ...), for AdamW."""

    @abstractmethod
    def forward(self, images: Tensor) -> Tensor:
        """Logits (E, batch, classes) of images (E, batch, pixels)."""

    def image_losses(self, images: Tensor, labels: Tensor) -> Tensor:
        """Cross entropy in nats of each image, (E, batch), labels (E, batch) int64."""
        logits = self(images)
        losses = cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none")
        return losses.unflatten(0, labels.shape)


class Perceptron(ImageClassifier):
    """E perceptrons in one: x <- gelu(W normalized(x)) layer by layer, then a linear readout.

    No biases; inputs of layers are divided by their root mean squares, as in
    ``CharacterTransformer``. The W begin orthogonal, the readout Gaussian with standard deviation
    0.02. A member's start is a function of its seed and the sizes, bit for bit.

    Args:
        pixels: inputs.
        widths: outputs of the hidden layers, at least one.
        classes: outputs.
        seeds: one for each of the E members, 0 <= seed < 2^64.
        dtype, device: of all parameters and of the arithmetic.

    Raises:
        ValueError: sizes below one, no or bad seeds, a dtype that is not floating, no such device.
    """

    def __init__(
        self,
        pixels: int,
        widths: Sequence[int],
        classes: int,
        seeds: Sequence[int],
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__()
        require_place(seeds, dtype, torch.device(device))
        sizes = (pixels, *widths, classes)
        if len(sizes) < 3:
            raise ValueError("widths: at least one hidden layer is expected, got none")
        for size in sizes:
            require_positive_int("every size", size)
        streams, layers = Streams(seeds), []
        for n, m in zip(sizes, widths, strict=False):
            U, V = orthogonal_factors(streams, m, n, min(m, n))
            layers.append(DenseLayer(dense_start(U, V, gain=1.0)))
        self.layers = nn.ModuleList(layers)
        self.readout = nn.Parameter(READOUT_SCALE * streams.gaussian(classes, sizes[-2]))
        self.to(device=device, dtype=dtype)

    @property
    def weights(self) -> list[nn.Parameter]:
        """W of the hidden layers, (E, m, n)."""
        return [layer.weight for layer in self.layers]  # type: ignore[misc]

    @property
    def others(self) -> list[nn.Parameter]:
        """The readout, (E, classes, n)."""
        return [self.readout]

    def forward(self, images: Tensor) -> Tensor:
        """Logits (E, batch, classes) of images (E, batch, pixels)."""
        x = images
        for layer in self.layers:
            x = gelu(layer(normalized(x)))
        return torch.bmm(normalized(x), self.readout.mT)
