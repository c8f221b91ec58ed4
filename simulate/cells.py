"""The cells of a sweep: what is trained as one ensemble, and how it is kept on disk.

A cell is a line (a contestant on an architecture) at some rates, with all seeds at each of them.
What came of it hangs on the cell, the recipe and the code alone, so it is kept under a name made
of these, and no change of any of them goes on with old numbers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from geometry.errors import require_between, require_positive_int
from simulate.checkpoint import read_checkpoint, write_checkpoint
from simulate.fingerprint import file_digest, fingerprint, name_of
from simulate.schedules import linear_decay
from simulate.tasks.architecture import Architecture
from simulate.tasks.corpus import Corpus
from simulate.training import EnsembleTraining

ON_A_CPU = 16


@dataclass(frozen=True)
class Contestant:
    """An optimiser of the layers, as a sweep compares it.

    Attributes:
        name: what it is called in results.
        make: from [(B, A), ...] of a low-rank model or [W, ...] of a dense one, and ``lr`` (E,),
            to an optimiser; a class or a function of a module, for it travels between processes.
        options: further arguments of ``make``.
        draws: whether the optimiser draws at random: ``make`` then takes ``seed`` (E,) too, the
            members' seeds.

    Raises:
        ValueError: a ``make`` that cannot be called, such as a name; options that are no mapping,
            or have the rate or the seed that ``make`` is given anyway.
    """

    name: str
    make: Callable[..., Optimizer]
    options: Mapping[str, Any] = field(default_factory=dict)
    draws: bool = False

    def __post_init__(self) -> None:
        if not callable(self.make):
            raise ValueError(
                f"make of {self.name!r}: a class or a function of parameters and lr is expected, "
                f"got {self.make!r}"
            )
        given = ("lr", "seed") if self.draws else ("lr",)
        if not isinstance(self.options, Mapping) or any(name in self.options for name in given):
            raise ValueError(
                f"options of {self.name!r}: a mapping is expected, without {' and '.join(given)}, "
                f"which make is given beside them; got {self.options!r}"
            )

    def optimizer(self, parameters: list[Any], rates: Tensor, seeds: Sequence[int]) -> Optimizer:
        """The optimiser of an ensemble, whose members have rates and seeds (E,).

        Raises:
            ValueError: what ``make`` raises as it or as a TypeError, such as for an option that it
                does not have, with the name and the options of the contestant.
        """
        drawing = {"seed": torch.tensor(seeds, device=rates.device)} if self.draws else {}
        try:
            return self.make(parameters, lr=rates, **drawing, **self.options)
        except (TypeError, ValueError) as error:
            given = f"with {dict(self.options)}" if self.options else "without options"
            raise ValueError(f"{self.name!r} {given} makes no optimiser: {error}") from error

    def described(self) -> dict[str, Any]:
        """All but the name, as plain values: what results hang on.

        Raises:
            ValueError: a ``make`` that is no class or function of a file.
        """
        try:
            file = file_digest(self.make)
        except ValueError as error:
            raise ValueError(f"results of {self.name!r} cannot be kept: {error}") from error
        return {
            "contestant": f"{self.make.__module__}.{self.make.__qualname__}",
            "file": file,
            "options": {name: repr(value) for name, value in sorted(self.options.items())},
            "draws": self.draws,
        }


@dataclass(frozen=True, eq=False)
class Recipe:
    """What all contestants of a sweep share: text, batches and schedule.

    Attributes:
        corpus: to train and to validate on.
        batch_size: windows of a member in a step.
        warmup: share of the steps in which rates rise along a line; then they fall to 0 along one.
        evaluation_tokens: of the validation part, at most.
        dtype, device: of the models; a torch.device becomes its name.
        members_at_once: of a cell, at most, in one ensemble; None for 16 on a CPU, whose caches
            hold the activations of no more, and for all elsewhere. No loss hangs on it but by the
            rounding of batched products.

    Raises:
        ValueError: no corpus or dtype, sizes below one, a warmup outside of [0, 1].
    """

    corpus: Corpus
    batch_size: int
    warmup: float = 0.1
    evaluation_tokens: int = 32_768
    dtype: torch.dtype = torch.float32
    device: str = "cpu"
    members_at_once: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.corpus, Corpus):
            raise ValueError(
                f"corpus: a Corpus is expected, as text_corpus(path) reads one, got {self.corpus!r}"
            )
        if not isinstance(self.dtype, torch.dtype):
            raise ValueError(f"dtype: a torch.dtype is expected, got {self.dtype!r}")
        object.__setattr__(self, "device", str(self.device))
        for name in ("batch_size", "evaluation_tokens"):
            require_positive_int(name, getattr(self, name))
        if self.members_at_once is not None:
            require_positive_int("members_at_once", self.members_at_once)
        require_between("warmup", self.warmup, 0.0, 1.0)

    @property
    def on_a_cpu(self) -> bool:
        """Whether the models are on a CPU, which every machine has."""
        return torch.device(self.device).type == "cpu"


@dataclass(frozen=True)
class Line:
    """A contestant on an architecture for a number of steps: what a rate is tuned for."""

    contestant: Contestant
    architecture: Architecture
    steps: int

    def __post_init__(self) -> None:
        require_positive_int("steps", self.steps)


@dataclass(frozen=True)
class Cell:
    """A line at K rates, with each of S seeds: E = K S members of one ensemble."""

    line: Line
    rates: tuple[float, ...]
    seeds: tuple[int, ...]

    def __str__(self) -> str:
        """The contestant, the sizes that are not Architecture's own, rates, number of seeds."""
        sizes = self.line.architecture
        told = ", ".join(
            f"{each.name} {getattr(sizes, each.name)}"
            for each in dataclasses.fields(sizes)
            if getattr(sizes, each.name) != each.default
        )
        rates = ", ".join(f"{rate:g}" for rate in self.rates)
        return f"{self.line.contestant.name!r} ({told}) at {rates} with {len(self.seeds)} seeds"

    @property
    def members(self) -> list[tuple[float, int]]:
        """(rate, seed), the seeds of the first rate first."""
        return [(rate, seed) for rate in self.rates for seed in self.seeds]

    def cost(self, recipe: Recipe) -> float:
        """Floating-point operations of the training, roughly: what progress is counted in."""
        tokens = self.line.steps * recipe.batch_size * self.line.architecture.length
        return 3.0 * len(self.members) * tokens * self.line.architecture.forward_flops


@dataclass(frozen=True)
class CellResult:
    """What came of a cell.

    Attributes:
        losses: (K, S) float64, validation losses in nats after the last step; NaN where a run
            diverged.
        diverged_at: (K, S) int64, the step at which it did; -1 where it did not.
        seconds: spent.
    """

    losses: Tensor
    diverged_at: Tensor
    seconds: float


def run_cell(cell: Cell, recipe: Recipe) -> CellResult:
    """Train the members of a cell, in ensembles of as many as the recipe has at once."""
    steps = cell.line.steps
    losses, diverged_at, seconds = [], [], 0.0
    for members in _ensembles(cell, recipe):
        record = training_of(cell.line, members, recipe).run(steps, validate_at=[steps])
        # Where every member diverged no step was the last.
        nothing = torch.full((len(members),), torch.nan, dtype=torch.float64)
        losses.append(record.validation.get(steps, nothing))
        left = torch.full((len(members),), -1, dtype=torch.int64)
        for member, divergence in record.diverged.items():
            left[member] = divergence.step
        diverged_at.append(left)
        seconds += record.seconds
    shape = len(cell.rates), len(cell.seeds)
    return CellResult(
        torch.cat(losses).reshape(shape), torch.cat(diverged_at).reshape(shape), seconds
    )


def require_trainable(cell: Cell, recipe: Recipe) -> None:
    """Find out whether the training of a cell can be made, before any cell is trained.

    Raises:
        ValueError: it cannot, such as for an option that the contestant's optimiser refuses.
    """
    first = _ensembles(cell, recipe)[0]
    try:
        training_of(cell.line, first[:1], recipe)
    except ValueError:
        # One member costs little; but an option may have a value for each member.
        training_of(cell.line, first, recipe)


def _ensembles(cell: Cell, recipe: Recipe) -> list[list[tuple[float, int]]]:
    """The members of a cell, those together that are trained at once."""
    members, at_once = cell.members, recipe.members_at_once
    if at_once is None:
        at_once = ON_A_CPU if recipe.on_a_cpu else len(members)
    # Parts as equal as may be, so that none is left with one member.
    parts = -(-len(members) // at_once)
    bounds = [len(members) * part // parts for part in range(parts + 1)]
    return [members[begin:end] for begin, end in pairwise(bounds)]


def training_of(
    line: Line, members: Sequence[tuple[float, int]], recipe: Recipe
) -> EnsembleTraining:
    """The training of members (rate, seed) of a line as one ensemble, before its first step."""
    seeds = [seed for _, seed in members]
    return EnsembleTraining(
        recipe.corpus,
        line.architecture,
        members,
        partial(line.contestant.optimizer, seeds=seeds),
        batch_size=recipe.batch_size,
        schedule=linear_decay(line.steps, min(round(recipe.warmup * line.steps), line.steps - 1)),
        evaluation_tokens=recipe.evaluation_tokens,
        dtype=recipe.dtype,
        device=recipe.device,
    )


def cell_made_by(cell: Cell, recipe: Recipe) -> dict[str, Any]:
    """Everything that the numbers of a cell hang on, as plain values."""
    corpus = recipe.corpus
    return {
        **cell.line.contestant.described(),
        "architecture": dataclasses.asdict(cell.line.architecture),
        "steps": cell.line.steps,
        "rates": list(cell.rates),
        "seeds": list(cell.seeds),
        "vocabulary": corpus.vocabulary,
        "texts": list(corpus.digests),
        "batch_size": recipe.batch_size,
        "warmup": recipe.warmup,
        "evaluation_tokens": recipe.evaluation_tokens,
        "dtype": str(recipe.dtype),
        "device": recipe.device,
        "code": fingerprint(),
    }


def keep_cell(cell: Cell, recipe: Recipe, result: CellResult, store: Path) -> None:
    """Write the result of a cell into a folder, whole or not at all."""
    made_by = cell_made_by(cell, recipe)
    write_checkpoint(_file(made_by, store), made_by, vars(result))


def kept_cell(cell: Cell, recipe: Recipe, store: Path) -> CellResult | None:
    """The result that is kept in a folder, None where there is none.

    Raises:
        CheckpointError: a damaged file, named; remove it to run the cell again.
    """
    made_by = cell_made_by(cell, recipe)
    file = _file(made_by, store)
    if not file.is_file():
        return None
    return CellResult(**read_checkpoint(file, made_by, torch.device("cpu")))


def _file(made_by: Mapping[str, Any], store: Path) -> Path:
    return store / f"{name_of(made_by)}.cell"
