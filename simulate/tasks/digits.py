"""Handwritten digits of 8 x 8 pixels, which scikit-learn has with it: nothing is downloaded."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from geometry.errors import require_between, require_positive_int
from simulate.tasks.images import LabelledImages, require_part, standardised

# Of 1,797 images: where in their random order a part begins, and how many it has.
PLACES = {"test": (0, 400), "validation": (400, 400), "train": (800, 997)}


@dataclass(frozen=True)
class Digits:
    """Ten classes, 997 images to train on, 400 to tune by and 400 to tell of.

    Reference:
        Alpaydin and Kaynak, Optical Recognition of Handwritten Digits, UCI 1998.
    """

    @property
    def side(self) -> int:
        """Of an image, in pixels."""
        return 8

    @property
    def classes(self) -> int:
        """How many."""
        return 10

    def draw(self, count: int, *, seed: int, part: str) -> LabelledImages:
        """``count`` images on the CPU; the first of more are the same.

        Args:
            seed: of the order of all images, by which they are parted: one seed, one split;
                0 <= seed < 2^63.
            part: "train", "validation" or "test".

        Raises:
            ValueError: no such part, a count below 1 or above what there is, a seed out of range.
        """
        require_positive_int("count", count)
        require_between("seed", seed, 0, 2**63 - 1)
        require_part(part)
        begin, most = PLACES[part]
        if count > most:
            raise ValueError(f"count: at most {most} in part {part!r}, got {count}")
        # scikit-learn takes a second to import, and nothing else needs it.
        from sklearn.datasets import load_digits

        pixels, labels = (torch.from_numpy(x) for x in load_digits(return_X_y=True))
        order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
        chosen = order[begin : begin + count]
        return LabelledImages(standardised(pixels[chosen]), labels[chosen].long())
