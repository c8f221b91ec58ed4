"""A small convolutional network whose ensembles are one model: members are groups of channels."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, conv2d, gelu

from geometry.errors import require_positive_int
from simulate.tasks.image_classifier import READOUT_SCALE, ImageClassifier
from simulate.tasks.orthogonal_start import Streams
from simulate.tasks.transformer import require_place

KERNEL = 3


class ConvolutionalClassifier(ImageClassifier):
    """E networks in one: convolutions of 3 x 3 with biases and gelu, halved between, a readout.

    Between two convolutions means of 2 x 2 pixels are taken, after the last one none; the readout
    is linear in all that is left, with a bias. Kernels begin Gaussian with variance 2 / (9 in),
    biases at 0, the readout Gaussian with standard deviation 0.02. A member's start is a function
    of its seed and the sizes, bit for bit.

    Args:
        pixels: of the images, a square number.
        widths: channels out of the convolutions, at least one; no more than leave a pixel.
        classes: outputs.
        seeds: one for each of the E members, 0 <= seed < 2^64.
        dtype, device: of all parameters and of the arithmetic.

    Raises:
        ValueError: sizes below one, images that are no square, too many convolutions, no or bad
            seeds, a dtype that is not floating, no such device.
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
        for size in (pixels, *widths, classes):
            require_positive_int("every size", size)
        side = math.isqrt(pixels)
        if side * side != pixels:
            raise ValueError(f"pixels: a square number is expected, got {pixels}")
        left = side >> max(len(widths) - 1, 0)
        if not widths or not left:
            raise ValueError(
                f"widths: one convolution or more, and no more than leave a pixel of {side} x "
                f"{side}, are expected, got {tuple(widths)}"
            )
        self.side, members, streams = side, len(seeds), Streams(seeds)
        self.kernels, self.biases = nn.ParameterList(), nn.ParameterList()
        for n, m in zip((1, *widths), widths, strict=False):
            drawn = streams.gaussian(m, n, KERNEL, KERNEL)
            self.kernels.append(drawn * (2 / (KERNEL * KERNEL * n)) ** 0.5)
            self.biases.append(torch.zeros(members, m))
        inputs = widths[-1] * left * left
        self.readout = nn.Parameter(READOUT_SCALE * streams.gaussian(classes, inputs))
        self.offset = nn.Parameter(torch.zeros(members, classes))
        self.to(device=device, dtype=dtype)

    @property
    def weights(self) -> list[nn.Parameter]:
        """The kernels, (E, out, in, 3, 3)."""
        return list(self.kernels)

    @property
    def others(self) -> list[nn.Parameter]:
        """Biases (E, out), readout (E, classes, n) and its bias (E, classes)."""
        return [*self.biases, self.readout, self.offset]

    def forward(self, images: Tensor) -> Tensor:
        """Logits (E, batch, classes) of images (E, batch, pixels)."""
        members = self.members
        x = images.movedim(0, 1).unflatten(-1, (self.side, self.side))
        for layer, (kernel, bias) in enumerate(zip(self.kernels, self.biases, strict=True)):
            if layer:
                x = avg_pool2d(x, 2)
            same = kernel.flatten(0, 1), bias.flatten()
            x = gelu(conv2d(x, *same, padding=KERNEL // 2, groups=members))
        x = x.unflatten(1, (members, -1)).movedim(1, 0).flatten(2)
        return torch.baddbmm(self.offset[:, None], x, self.readout.mT)
