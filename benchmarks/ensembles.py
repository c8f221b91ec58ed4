"""What batching is worth: training E members as one model beside training them one by one.

Contestants are layers and their optimiser. Of the steps of an ensemble and of a member alone, which
take turns, the fastest counts; members that train alone take E times what one of them takes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

from rich.table import Table
from torch import Tensor
from torch.optim import Optimizer

from benchmarks.recording import record_rows
from benchmarks.report import counted
from simulate.optimizers import LoRAMuon, MemberAdamW, Muon
from simulate.tasks import Architecture, Corpus, synthetic_corpus
from simulate.training import EnsembleTraining, MakeOptimizer

# Tokens a second of an ensemble over those of its members alone, at this width.
BAR = (64, 3.0)
RANK, DEPTH, HEADS = 8, 2, 4


def _lora_muon(**numerics: str) -> MakeOptimizer:
    return lambda pairs, rates: LoRAMuon(pairs, lr=0.1 * rates, **numerics)  # type: ignore[arg-type]


def _adamw(layers: list[Any], rates: Tensor) -> Optimizer:
    flat = [x for layer in layers for x in (layer if isinstance(layer, tuple) else (layer,))]
    return MemberAdamW(flat, lr=1e-2 * rates)


def _muon(matrices: list[Any], rates: Tensor) -> Optimizer:
    return Muon(matrices, lr=1e-2 * rates, orthogonalizer="muon")


# Whether layers are low-rank, and what steps them.
CONTESTANTS: dict[str, tuple[bool, MakeOptimizer]] = {
    "rank 8, LoRA-Muon": (True, _lora_muon()),
    "rank 8, LoRA-Muon by matrix products": (
        True, _lora_muon(orthogonalizer="lora_muon", root="newton_schulz")
    ),
    "rank 8, AdamW": (True, _adamw),
    "dense, Muon, five steps": (False, _muon),
    "dense, AdamW": (False, _adamw),
}  # fmt: skip


@dataclass(frozen=True)
class EnsembleRow:
    """A contestant at one width and batch size.

    Attributes:
        batch: windows of a member in a step.
        alone, together: tokens a second of one member, and of all in one ensemble.
        optimizer_alone, optimizer_together: milliseconds of the layers' optimiser, a member and
            step.
    """

    width: int
    batch: int
    contestant: str
    members: int
    alone: float
    together: float
    optimizer_alone: float
    optimizer_together: float

    @property
    def ratio(self) -> float:
        return self.together / self.alone


class _Run:
    """A training whose steps are timed one by one, and its layers' optimiser within them."""

    def __init__(
        self, corpus: Corpus, width: int, batch: int, contestant: str, members: int
    ) -> None:
        low_rank, make = CONTESTANTS[contestant]
        self._optimizing: list[float] = []
        self._steps: list[float] = []
        self._began = 0.0

        def hooked(layers: list[Any], rates: Tensor) -> Optimizer:
            optimizer = make(layers, rates)
            optimizer.register_step_pre_hook(self._begin)
            optimizer.register_step_post_hook(self._end)
            return optimizer

        architecture = Architecture(
            len(corpus.vocabulary),
            length=width,
            width=width,
            depth=DEPTH,
            heads=HEADS,
            rank=RANK if low_rank else None,
        )
        everybody = [(1.0, seed) for seed in range(members)]
        self.training = EnsembleTraining(corpus, architecture, everybody, hooked, batch_size=batch)
        self.members, self.tokens = members, members * batch * width
        # The first makes the state.
        self.step()
        self._steps.clear()
        self._optimizing.clear()

    def step(self) -> None:
        began = time.perf_counter()
        self.training.run(self.training.step + 1)
        self._steps.append(time.perf_counter() - began)
        if self.training.record.diverged:
            raise RuntimeError(f"members diverged: {sorted(self.training.record.diverged)}")

    @property
    def tokens_a_second(self) -> float:
        return self.tokens / min(self._steps)

    @property
    def optimizer_milliseconds(self) -> float:
        return 1e3 * min(self._optimizing) / self.members

    def _begin(self, *_: Any) -> None:
        self._began = time.perf_counter()

    def _end(self, *_: Any) -> None:
        self._optimizing.append(time.perf_counter() - self._began)


def ensembles(
    widths: Sequence[int],
    batches: Sequence[int],
    members: int,
    repeats: int,
    say: Callable[[str], None],
) -> Iterator[EnsembleRow]:
    """Every contestant at every width and batch size, in float32; windows as long as it is wide."""
    corpus = synthetic_corpus(seed=0, train=100_000, validation=10_000)
    for width, batch in product(widths, batches):
        for contestant in CONTESTANTS:
            say(f"width {width}, batch {batch}: {contestant}, {members} members and one alone")
            alone, together = (
                _Run(corpus, width, batch, contestant, count) for count in (1, members)
            )
            for _ in range(repeats):
                together.step()
                # As many steps of a member as there are members, up to a dozen.
                for _ in range(min(members, 12)):
                    alone.step()
            yield EnsembleRow(
                width,
                batch,
                contestant,
                members,
                alone.tokens_a_second,
                together.tokens_a_second,
                alone.optimizer_milliseconds,
                together.optimizer_milliseconds,
            )


def judged(rows: Sequence[EnsembleRow]) -> list[EnsembleRow]:
    """The rows at the bar's width."""
    return [row for row in rows if row.width == BAR[0]]


def missed(rows: Sequence[EnsembleRow]) -> list[EnsembleRow]:
    """The rows at the bar's width whose ensembles are not as many times as fast."""
    return [row for row in judged(rows) if row.ratio < BAR[1]]


def table(rows: Sequence[EnsembleRow], threads: int) -> Table:
    """Tokens a second and milliseconds of the layers' optimiser, alone and together."""
    drawn = Table(title=f"tokens a second, float32, {counted(threads)}")
    words = ("layers and their optimiser",)
    for heading in (
        "width", "batch", *words, "members", "alone", "together", "ratio", "optimiser alone, ms",
        "together, ms a member",
    ):  # fmt: skip
        drawn.add_column(heading, justify="left" if heading in words else "right")
    for row in rows:
        drawn.add_row(
            str(row.width),
            str(row.batch),
            row.contestant,
            str(row.members),
            f"{row.alone:,.0f}",
            f"{row.together:,.0f}",
            f"{row.ratio:.2f}",
            f"{row.optimizer_alone:.2f}",
            f"{row.optimizer_together:.2f}",
            end_section=row.contestant == list(CONTESTANTS)[-1],
        )
    return drawn


def record(path: Path, rows: Sequence[EnsembleRow], threads: int) -> None:
    """Write everything as JSON, atomically."""
    bar = {
        "width": BAR[0],
        "at_least": BAR[1],
        "missed": [[row.batch, row.contestant] for row in missed(rows)],
    }
    found = [{**asdict(row), "ratio": row.ratio} for row in rows]
    record_rows(path, "ensembles", found, threads, bar)
