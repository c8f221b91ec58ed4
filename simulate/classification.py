"""The training of an ensemble of image classifiers, each member by its own rate and seed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from geometry.errors import require_nonnegative, require_positive_int
from simulate.optimizers.member_adamw import MemberAdamW
from simulate.schedules import linear_decay
from simulate.tasks.batches import Batches
from simulate.tasks.image_classifier import ImageClassifier
from simulate.tasks.images import LabelledImages

# From the hidden matrices, rates (E,) float64 and seeds (E,) int64, to their optimiser.
MakeOptimizer = Callable[[list[Parameter], Tensor, Tensor], Optimizer]
READOUT_RATE = 3e-3
IMAGES_AT_ONCE = 1024


@dataclass(frozen=True, eq=False)
class ImageSets:
    """What is trained on, tuned by and told of: three parts, labels 0 to ``classes`` - 1."""

    train: LabelledImages
    validation: LabelledImages
    test: LabelledImages
    classes: int


@dataclass(frozen=True)
class Regimen:
    """How every contestant trains.

    Attributes:
        widths: of the hidden layers.
        steps: of a run; rates rise in the first tenth, then fall to 0 along a line.
        batch_size: images of a member in a step.

    Raises:
        ValueError: numbers below one.
    """

    widths: tuple[int, ...]
    steps: int
    batch_size: int

    def __post_init__(self) -> None:
        for value in (*self.widths, self.steps, self.batch_size):
            require_positive_int("widths, steps and batch_size", value)


@dataclass(frozen=True, eq=False)
class Accuracies:
    """Of E members after the last step.

    Attributes:
        validation, test: (E,) float64, shares of images.
        training_loss: (steps, E) float64, in nats, of the batches.
    """

    validation: Tensor
    test: Tensor
    training_loss: Tensor


def train_classifiers(
    sets: ImageSets,
    regimen: Regimen,
    members: Sequence[tuple[float, int]],
    optimizer: MakeOptimizer,
) -> Accuracies:
    """Train E members together, as if each were alone, up to the rounding of batched products.

    Start and batches of a member are functions of its seed alone. The hidden matrices step by
    ``optimizer`` at the member's rate, the readout by AdamW at 3e-3; all rates follow the schedule.

    Args:
        members: (rate, seed), E of them, 0 <= seed < 2^63.

    Raises:
        ValueError: no members, bad rates or seeds.
        NotFiniteError: a gradient or an update that is not finite.
    """
    for rate, _ in members:
        require_nonnegative("the rate of a member", rate)
    seeds = [seed for _, seed in members]
    pixels = sets.train.pixels
    model = ImageClassifier(pixels.shape[-1], regimen.widths, sets.classes, seeds)
    rates = torch.tensor([rate for rate, _ in members], dtype=torch.float64)
    optimizers = [
        optimizer(model.matrices, rates, torch.tensor(seeds)),
        MemberAdamW([model.readout], lr=READOUT_RATE, weight_decay=0.0),
    ]
    initial = [group["lr"] for each in optimizers for group in each.param_groups]
    schedule = linear_decay(regimen.steps, regimen.steps // 10)
    # Windows of one number each: the numbers of the images.
    numbers = torch.arange(len(pixels) + 1)
    batches = Batches(numbers, length=1, batch_size=regimen.batch_size, seeds=seeds)
    losses = []
    for step in range(regimen.steps):
        chosen = batches.positions(step)
        loss = model.image_losses(pixels[chosen], sets.train.labels[chosen]).mean(-1)
        for each in optimizers:
            each.zero_grad()
        loss.sum().backward()
        losses.append(loss.detach().double())
        groups = [group for each in optimizers for group in each.param_groups]
        for group, lr in zip(groups, initial, strict=True):
            group["lr"] = lr * schedule(step)
        for each in optimizers:
            each.step()
    return Accuracies(
        _accuracy(model, sets.validation), _accuracy(model, sets.test), torch.stack(losses)
    )


@torch.no_grad()
def _accuracy(model: ImageClassifier, images: LabelledImages) -> Tensor:
    """(E,) the share of images whose label has the largest logit."""
    members, right = len(model.readout), torch.zeros(len(model.readout), dtype=torch.float64)
    for pixels, labels in zip(*(part.split(IMAGES_AT_ONCE) for part in images), strict=True):
        logits = model(pixels.expand(members, -1, -1))
        right += (logits.argmax(-1) == labels).sum(-1)
    return right / len(images.labels)
