"""Optimisers train tensors and convolutional networks, each at its best rate and beside it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from claims.measuring.intervals import Array
from claims.measuring.tuned import Tuned, tuned
from claims.registry import Setting
from simulate.cells import Contestant
from simulate.classification import ImageStudy, train_classifiers
from simulate.tasks import ConvolutionalClassifier, Digits, TensorCompletion, TensorRegression
from simulate.tasks.tensor_models import Entries, Tucker
from simulate.tensor_training import TensorTask, train_tensors
from simulate.tuning import Protocol

# From a contestant and R rates to held-out losses (R, S, T), the T recorded steps.
Train = Callable[[Contestant, tuple[float, ...]], Array]
# What a rate is changed by to see what that costs.
OFF = 10**0.5


@dataclass(frozen=True)
class Arena:
    """A task on which contestants meet: same starts, same batches.

    Attributes:
        train: held-out losses of a contestant at some rates.
        steps: (T,) at which they are recorded, the first 0, the last the run's length.
        rates: of the grid that all begin with.
    """

    train: Train
    steps: Array
    rates: tuple[float, ...]


@dataclass(frozen=True)
class Ran:
    """A contestant in an arena.

    Attributes:
        tuned: its rates, losses (R, S) at the end and curves (R, S, T).
        off: (2, S) losses at the end at the best rate over root 10 and times root 10.
    """

    tuned: Tuned
    off: Array

    @property
    def curves(self) -> Array:
        """(S, T) at the best rate."""
        return self.tuned.seen

    @property
    def sensitivity(self) -> Array:
        """(S,) log of the loss half a decade off over that at the best rate, mean of both sides."""
        return np.asarray(np.log(self.off / self.tuned.losses).mean(0))


def run_in(arena: Arena, contestants: Mapping[str, Contestant]) -> dict[str, Ran]:
    """All contestants, tuned by one protocol, and then at rates half a decade to both sides."""
    protocol, ran = Protocol(arena.rates), {}
    for name, contestant in contestants.items():

        def losses_and_curves(
            rates: tuple[float, ...], contestant: Contestant
        ) -> tuple[Array, Array]:
            curves = arena.train(contestant, rates)
            return curves[..., -1], curves

        found = tuned(protocol, partial(losses_and_curves, contestant=contestant))
        off = arena.train(contestant, (found.rate / OFF, found.rate * OFF))[..., -1]
        if not np.isfinite(off).all():
            raise ArithmeticError(
                f"{name}: runs half a decade beside the best rate, {found.rate:g}, are expected to "
                f"last; {np.isnan(off).sum()} of {off.size} diverged"
            )
        ran[name] = Ran(found, off)
    return ran


def regression(setting: Setting, shape: tuple[int, ...], ranks: tuple[int, ...]) -> Arena:
    """Twice as many samples as entries, conditioned as 1 to 100, noise .1, batches of 64."""
    task = TensorRegression(
        shape,
        ranks,
        setting.seeds(setting["seeds"]),
        samples=2 * int(np.prod(shape)),
        noise=0.1,
        condition=100.0,
        batch_size=64,
        dtype=setting.dtype(torch.float64),
        device=setting.device,
    )
    return _of_tensors(setting, task, Entries(), (0.003, 0.01, 0.03, 0.1))


def completion(
    setting: Setting, shape: tuple[int, ...], ranks: tuple[int, ...], trained: tuple[int, ...]
) -> Arena:
    """A fifth of the entries, noise .05; a core and factors of greater ranks are trained."""
    task = TensorCompletion(
        shape,
        ranks,
        setting.seeds(setting["seeds"]),
        share=0.2,
        noise=0.05,
        dtype=setting.dtype(torch.float64),
        device=setting.device,
    )
    return _of_tensors(setting, task, Tucker(trained), (0.03, 0.1, 0.3, 1.0))


def digits(setting: Setting, widths: tuple[int, ...]) -> Arena:
    """A convolutional network on scikit-learn's digits: mean loss of the validation images."""
    steps, seeds = _recorded(setting), setting.seeds(setting["seeds"])
    study = ImageStudy(
        Digits(), train=997, validation=400, test=400, widths=widths, steps=setting["steps"],
        batch_size=32, network=ConvolutionalClassifier, recorded=tuple(steps.tolist()),
        dtype=setting.dtype(torch.float32), device=setting.device,
    )  # fmt: skip

    def train(contestant: Contestant, rates: tuple[float, ...]) -> Array:
        each = [rate for rate in rates for _ in seeds]
        scores = train_classifiers(study, contestant, each, [*seeds] * len(rates))
        return scores.validation_loss.numpy().T.reshape(len(rates), len(seeds), -1)

    return Arena(train, steps, (0.003, 0.01, 0.03, 0.1))


def _of_tensors(
    setting: Setting, task: TensorTask, model: Entries | Tucker, rates: tuple[float, ...]
) -> Arena:
    steps = _recorded(setting)

    def train(contestant: Contestant, tried: tuple[float, ...]) -> Array:
        errors = train_tensors(
            task, contestant, tried, steps=setting["steps"], recorded=steps.tolist(), model=model
        )
        return errors.held_out.numpy()

    return Arena(train, steps, rates)


def _recorded(setting: Setting) -> Array:
    return np.unique(np.linspace(0, setting["steps"], setting["recorded"]).round().astype(int))
