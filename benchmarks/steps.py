"""What a step of an optimiser of low-rank products costs beside one of the dense matrix.

Every contestant moves one 2-D product: a pair of factors, or the m x m matrix itself. Those of a
size and rank take turns; of the steps of each the fastest counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from rich.table import Table
from torch import nn
from torch.optim import Optimizer

from benchmarks.recording import record_rows
from benchmarks.report import counted
from simulate.optimizers import (
    FactorMuon,
    LoRAMuon,
    LoRARite,
    LoRARiteCore,
    Muon,
    Riemannion,
    RiemannLoRA,
    Spectron,
)
from simulate.step_costs import Trace, numbers_kept, with_gradient
from simulate.turns import times_in_turn

# Steps of those judged against the dense one, at this size and rank.
BAR = (4096, 16, 20.0)
DENSE = "Muon, dense, five Newton-Schulz steps"
OURS = "LoRA-Muon"
JUDGED = (OURS, "RiemannLoRA", "Riemannion")

Make = Callable[[list[tuple[nn.Parameter, nn.Parameter]]], Optimizer]


def _flat(pairs: list[tuple[nn.Parameter, nn.Parameter]]) -> list[nn.Parameter]:
    return [factor for pair in pairs for factor in pair]


FACTORED: dict[str, Make] = {
    OURS: LoRAMuon,
    "LoRA-Muon, the paper's matrix products": lambda pairs: LoRAMuon(
        pairs, orthogonalizer="lora_muon", root="newton_schulz"
    ),
    "LoRA-RITE's core, QR": LoRARiteCore,
    "LoRA-RITE": LoRARite,
    "RiemannLoRA": RiemannLoRA,
    "Riemannion": Riemannion,
    "Spectron": Spectron,
    "Muon on each factor, five Newton-Schulz steps": lambda pairs: FactorMuon(
        pairs, orthogonalizer="muon"
    ),
    "AdamW on the factors": lambda pairs: torch.optim.AdamW(_flat(pairs)),
}


@dataclass(frozen=True)
class StepRow:
    """A contestant at one size and rank.

    Attributes:
        seconds: of a step, the best. largest: entries of the largest tensor that a step made;
            largest_bytes: of the one that takes the most memory.
        kept: numbers of the optimiser's state.
    """

    size: int
    rank: int | None
    contestant: str
    seconds: float
    largest: int
    largest_bytes: int
    kept: int


def steps(
    sizes: Sequence[int], ranks: Sequence[int], repeats: int, say: Callable[[str], None]
) -> Iterator[StepRow]:
    """Every contestant at every size and rank, in float32."""
    for size in sizes:
        say(f"{size} x {size}: {DENSE}")
        dense = Muon([with_gradient(size, size)], orthogonalizer="muon", ns_steps=5)
        yield from _measured({DENSE: dense}, size, None, max(1, repeats // 5))
        del dense
        for rank in ranks:
            say(f"{size} x {size}, r = {rank}: {', '.join(FACTORED)}")
            optimizers = {
                name: make([(with_gradient(size, rank), with_gradient(rank, size, seed=1))])
                for name, make in FACTORED.items()
            }
            yield from _measured(optimizers, size, rank, repeats)


def _measured(
    optimizers: Mapping[str, Optimizer], size: int, rank: int | None, repeats: int
) -> Iterator[StepRow]:
    looked_at = {}
    for name, optimizer in optimizers.items():
        # The first makes the state, and is looked at; no other is.
        with Trace() as looked_at[name]:
            optimizer.step()
    taken = times_in_turn({name: optimizer.step for name, optimizer in optimizers.items()}, repeats)
    for name, optimizer in optimizers.items():
        seconds, seen = min(taken[name]), looked_at[name]
        yield StepRow(
            size, rank, name, seconds, seen.largest, seen.largest_bytes, numbers_kept(optimizer)
        )


def ratios(rows: Sequence[StepRow]) -> dict[str, float]:
    """How many times as long the dense step takes as each of those judged, where both were run."""
    size, rank, _ = BAR
    dense = [row.seconds for row in rows if (row.size, row.contestant) == (size, DENSE)]
    return {
        row.contestant: dense[0] / row.seconds
        for row in rows
        if dense and (row.size, row.rank) == (size, rank) and row.contestant in JUDGED
    }


def table(rows: Sequence[StepRow], threads: int) -> Table:
    """Milliseconds, memory, and how many times as fast as the dense step of that size."""
    drawn = Table(title=f"one step of one product, float32, {counted(threads)}")
    for heading in (
        "m = n",
        "r",
        "contestant",
        "ms",
        "dense / this",
        "largest / m^2",
        "bytes / 4 m^2",
        "kept / m^2",
    ):
        drawn.add_column(heading, justify="left" if heading == "contestant" else "right")
    dense = {row.size: row.seconds for row in rows if row.contestant == DENSE}
    for row in rows:
        drawn.add_row(
            str(row.size),
            "" if row.rank is None else str(row.rank),
            row.contestant,
            f"{1e3 * row.seconds:.2f}",
            f"{dense[row.size] / row.seconds:.1f}",
            f"{row.largest / row.size**2:.4f}",
            f"{row.largest_bytes / row.size**2 / 4:.4f}",
            f"{row.kept / row.size**2:.4f}",
            end_section=row.contestant == list(FACTORED)[-1],
        )
    return drawn


def record(path: Path, rows: Sequence[StepRow], threads: int) -> None:
    """Write everything as JSON, atomically."""
    bar = {"size": BAR[0], "rank": BAR[1], "at_least": BAR[2], "ratios": ratios(rows)}
    record_rows(path, "steps", [asdict(row) for row in rows], threads, bar)
