"""The training of ensembles of image classifiers, and their rates tuned by the common protocol."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from geometry.errors import require_nonnegative, require_positive_int
from simulate.atomic import writable_folder
from simulate.cells import Contestant
from simulate.checkpoint import read_checkpoint, write_checkpoint
from simulate.fingerprint import fingerprint, name_of
from simulate.optimizers.member_adamw import MemberAdamW
from simulate.optimizers.members import let_go, step_or_leave
from simulate.schedules import begin_schedule, follow_schedule, linear_decay
from simulate.tasks.batches import sample_batches
from simulate.tasks.convolutional_classifier import ConvolutionalClassifier
from simulate.tasks.digits import Digits
from simulate.tasks.image_classifier import ImageClassifier, Perceptron
from simulate.tasks.images import LabelledImages, Textures
from simulate.training_record import Departure
from simulate.tuning import Protocol, Tuning, distinct, place_of_best

Array = NDArray[np.float64]
READOUT_RATE = 3e-3
IMAGES_AT_ONCE = 1024


@dataclass(frozen=True)
class ImageStudy:
    """What all contestants share: the images, the classifier and how long it trains.

    Attributes:
        source: what the images are of. data_seed: of the images, the same for all members.
        train, validation, test: numbers of images to train on, to tune by and to tell of.
        widths: of the hidden layers.
        steps: of a run. Rates rise along a line in the first tenth, then fall to 0 along one.
        batch_size: images of a member in a step.
        network: what is trained.
        recorded: numbers of steps, ascending, after which the validation images' loss is recorded.
        dtype, device: of images and models, which are drawn on the CPU.

    Raises:
        ValueError: numbers below one, recorded steps that do not ascend in 0..steps.
    """

    source: Textures | Digits
    train: int
    validation: int
    test: int
    widths: tuple[int, ...]
    steps: int
    batch_size: int
    data_seed: int = 0
    network: type[Perceptron | ConvolutionalClassifier] = Perceptron
    recorded: tuple[int, ...] = ()
    dtype: torch.dtype = torch.float32
    device: str = "cpu"

    def __post_init__(self) -> None:
        for name in ("train", "validation", "test", "steps", "batch_size"):
            require_positive_int(name, getattr(self, name))
        if list(self.recorded) != sorted({*self.recorded} & {*range(self.steps + 1)}):
            raise ValueError(
                f"recorded: steps that ascend in 0..{self.steps} are expected, got {self.recorded}"
            )

    def images(self, part: str) -> LabelledImages:
        """The images of "train", "validation" or "test"."""
        drawn = self.source, getattr(self, part), self.data_seed, part
        return _images(*drawn, self.dtype, self.device)

    def model(self, seeds: Sequence[int]) -> ImageClassifier:
        """E members before their first step."""
        sizes = self.source.side**2, self.widths, self.source.classes
        return self.network(*sizes, seeds, dtype=self.dtype, device=self.device)

    def described(self) -> dict[str, Any]:
        """Plain values that differ where studies do."""
        return dataclasses.asdict(self) | {
            "source": [type(self.source).__name__, dataclasses.asdict(self.source)],
            "network": self.network.__name__,
            "dtype": str(self.dtype),
        }


# One study's: to draw them takes a tenth of a training.
@lru_cache(maxsize=3)
def _images(
    source: Textures | Digits,
    count: int,
    seed: int,
    part: str,
    dtype: torch.dtype,
    device: str,
) -> LabelledImages:
    return source.draw(count, seed=seed, part=part).to(dtype=dtype, device=device)


@dataclass(frozen=True, eq=False)
class Scores:
    """Of E members after the last step, on the CPU; NaN from where a member diverged.

    Attributes:
        validation, test: (E,) float64, shares of the images that are told right.
        training_loss: (steps, E) float64, in nats, of the batches.
        validation_loss: (T, E) float64, in nats, at the T recorded steps.
        diverged: by member, when and why it left.
    """

    validation: Tensor
    test: Tensor
    training_loss: Tensor
    validation_loss: Tensor
    diverged: Mapping[int, Departure] = field(default_factory=dict)


def train_classifiers(
    study: ImageStudy, contestant: Contestant, rates: Sequence[float], seeds: Sequence[int]
) -> Scores:
    """Train E members together, as if each were alone, up to the rounding of batched products.

    Start, batches and what an optimiser draws are functions of a member's seed alone. The hidden
    layers' weights step by the contestant, biases and readout by AdamW at 3e-3; all rates follow
    the schedule.

    A member whose gradient or update is not finite, or whose update needs a factorisation that
    fails, is recorded as diverged and leaves: it costs no more, and the others go on.

    Args:
        rates, seeds: one a member; seeds in 0..2^63 - 1.

    Raises:
        ValueError: no members, bad rates or seeds.
    """
    for rate in rates:
        require_nonnegative("the rate of a member", rate)
    pixels, labels = study.images("train")
    model = study.model(seeds)
    lr = torch.tensor(rates, dtype=torch.float64, device=study.device)
    optimizers = [
        contestant.optimizer(model.weights, lr, seeds),
        MemberAdamW(model.others, lr=READOUT_RATE, weight_decay=0.0),
    ]
    groups = [group for each in optimizers for group in each.param_groups]
    begin_schedule(groups)
    schedule = linear_decay(study.steps, study.steps // 10)
    batches = sample_batches(len(pixels), study.batch_size, seeds, study.device)
    going, diverged = list(range(len(seeds))), dict[int, Departure]()
    losses = torch.full((study.steps, len(seeds)), torch.nan, dtype=torch.float64)
    curves = torch.full((len(study.recorded), len(seeds)), torch.nan, dtype=torch.float64)
    validation, test = torch.full((2, len(seeds)), torch.nan, dtype=torch.float64)

    def leave(reasons: Mapping[int, str]) -> bool:
        nonlocal going, batches
        diverged.update({going[place]: Departure(step, why) for place, why in reasons.items()})
        going = [going[place] for place in let_go(optimizers, len(going), reasons)]
        if going:
            left = [seeds[i] for i in going]
            batches = sample_batches(len(pixels), study.batch_size, left, study.device)
        return bool(going)

    for step in range(study.steps + 1):
        if step in study.recorded:
            found = _on_images(model, study.images("validation"))[1]
            curves[study.recorded.index(step), going] = found
        if step == study.steps:
            break
        for each in optimizers:
            each.zero_grad()
        chosen = batches.positions(step)
        loss = model.image_losses(pixels[chosen], labels[chosen]).mean(-1)
        loss.sum().backward()
        losses[step, going] = loss.detach().double().cpu()
        # Its graph holds on to the parameters as they are.
        del loss
        follow_schedule(groups, schedule(step))
        for each in optimizers:
            if going:
                step_or_leave(each, leave)
        if not going:
            break
    if going:
        validation[going] = _on_images(model, study.images("validation"))[0]
        test[going] = _on_images(model, study.images("test"))[0]
    return Scores(validation, test, losses, curves, diverged)


@torch.no_grad()
def _on_images(model: ImageClassifier, images: LabelledImages) -> tuple[Tensor, Tensor]:
    """The share of images whose label has the largest logit, and the mean loss in nats.

    Both (E,) float64 on the CPU.
    """
    right, loss = torch.zeros(2, model.members, dtype=torch.float64, device=images.labels.device)
    for pixels, labels in zip(*(part.split(IMAGES_AT_ONCE) for part in images), strict=True):
        logits = model(pixels.expand(model.members, -1, -1))
        right += (logits.argmax(-1) == labels).sum(-1)
        chosen = labels.expand(model.members, -1)[..., None]
        loss -= logits.log_softmax(-1).gather(-1, chosen)[..., 0].double().sum(-1)
    return (right / len(images.labels)).cpu(), (loss / len(images.labels)).cpu()


@dataclass(frozen=True, eq=False)
class ImageCurve:
    """A contestant tuned to the end.

    Attributes:
        rates: (K,) ascending, all that were tried.
        validation, test: (K, S) accuracies of S seeds, NaN where one diverged.
        training_loss: (steps, S) at the best rate.
    """

    contestant: Contestant
    rates: Array
    validation: Array
    test: Array
    training_loss: Array

    @property
    def best(self) -> int:
        """The place of the rate with the highest mean accuracy on the validation images.

        A rate at which a member diverged is worse than any other.
        """
        return place_of_best(-self.validation)

    @property
    def at_edge(self) -> bool:
        """Whether that is the first or the last of those that were tried."""
        return self.best in (0, len(self.rates) - 1)

    @property
    def accuracy(self) -> Array:
        """(S,) on the test images, at the best rate."""
        return np.asarray(self.test[self.best])


def tune_classifiers(
    study: ImageStudy,
    contestant: Contestant,
    protocol: Protocol,
    seeds: Sequence[int],
    *,
    store: Path | str | None = None,
    progress: Callable[[float], object] | None = None,
) -> ImageCurve:
    """Tune a contestant's rate on the validation images; all seeds of a rate are one ensemble.

    Args:
        store: a folder in which finished rates are kept, and found again.
        progress: called after every rate, with the share of the work that is done as far as it
            can be foreseen.

    Raises:
        OSError: a store that cannot be written, before anything is trained.
        CheckpointError: a damaged file in the store, named.
        ValueError: no seeds or one twice; with a store, a contestant whose ``make`` is no class or
            function of a file.
        What ``train_classifiers`` raises.
    """
    seeds = distinct(seeds)
    folder = writable_folder(store)
    tuning, found = Tuning(protocol), dict[float, Scores]()
    while rates := tuning.next_rates():
        for rate in rates:
            found[rate] = _kept(study, contestant, rate, seeds, folder)
            if progress is not None:
                ahead = len(rates) - rates.index(rate) - 1
                if not tuning.refined and len(rates) == len(protocol.rates):
                    ahead += 2 * protocol.refinements
                progress(len(found) / (len(found) + ahead))
        tuning.add(rates, np.stack([-found[rate].validation.numpy() for rate in rates]))
    scores = [found[rate] for rate in tuning.rates.tolist()]
    return ImageCurve(
        contestant,
        tuning.rates,
        np.stack([each.validation.numpy() for each in scores]),
        np.stack([each.test.numpy() for each in scores]),
        scores[tuning.best].training_loss.numpy(),
    )


def _kept(
    study: ImageStudy, contestant: Contestant, rate: float, seeds: Sequence[int], store: Path | None
) -> Scores:
    if store is None:
        return train_classifiers(study, contestant, [rate] * len(seeds), seeds)
    made_by: dict[str, Any] = {
        "study": study.described(),
        **contestant.described(),
        "rate": rate,
        "seeds": list(seeds),
        "code": fingerprint(),
    }
    file = store / f"{name_of(made_by)}.images"
    if file.is_file():
        state = read_checkpoint(file, made_by, torch.device("cpu"))
        left = {member: Departure(**kept) for member, kept in state["diverged"].items()}
        return Scores(**{**state, "diverged": left})
    scores = train_classifiers(study, contestant, [rate] * len(seeds), seeds)
    plain = {member: vars(departure) for member, departure in scores.diverged.items()}
    write_checkpoint(file, made_by, {**vars(scores), "diverged": plain})
    return scores
