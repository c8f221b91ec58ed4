"""What an orthogonalised matrix costs: whole, exactly, or within a sketch of its range; and peers.

Every contestant is given the same float32 matrix, whose singular values fall like 1/j, and those
of a size take turns; of the calls of each the fastest counts. What it keeps of the matrix stands
beside its time: <M, O> over ||M||_*, 1 for the polar factor.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import scipy
import torch
from rich.table import Table
from scipy.sparse.linalg import svds
from torch import Tensor

from benchmarks.recording import record_rows
from benchmarks.report import counted
from geometry.polar import msign, orthogonalize
from geometry.sketch import low_rank_msign
from simulate.turns import times_in_turn

# Full over ours, at this size and rank.
BAR = (1024, 64, 10.0)
METHOD, STEPS = "muon", 5
FULL, EXACT = "Newton-Schulz, five steps", "SVD"
OURS = "columns, five steps"

Call = Callable[[], Tensor]


def _sketched(sketch: str, iterations: int, orthogonalizer: str) -> Callable[[Tensor, int], Call]:
    def make(M: Tensor, rank: int) -> Call:
        return partial(
            low_rank_msign, M, rank, sketch, power_iterations=iterations,
            generator=torch.Generator().manual_seed(1), orthogonalizer=orthogonalizer,
            steps=None if orthogonalizer == "svd" else STEPS,
        )  # fmt: skip

    return make


def _svd_lowrank(iterations: int) -> Callable[[Tensor, int], Call]:
    def make(M: Tensor, rank: int) -> Call:
        def call() -> Tensor:
            U, _, V = torch.svd_lowrank(M, q=rank, niter=iterations)
            return U @ V.mT

        return call

    return make


def _propack(M: Tensor, rank: int) -> Call:
    def call() -> Tensor:
        U, _, Vh = svds(M.numpy(), k=rank, solver="propack")
        return torch.from_numpy(U @ Vh)

    return call


OWN: dict[str, Callable[[Tensor, int], Call]] = {
    OURS: _sketched("columns", 0, METHOD),
    "columns by norm, five steps": _sketched("weighted", 0, METHOD),
    "Gaussian, five steps": _sketched("gaussian", 0, METHOD),
    "Gaussian, h = 1, five steps": _sketched("gaussian", 1, METHOD),
    "Gaussian, SVD": _sketched("gaussian", 0, "svd"),
    "Gaussian, h = 1, SVD": _sketched("gaussian", 1, "svd"),
}
PEERS: dict[str, Callable[[Tensor, int], Call]] = {
    "torch.svd_lowrank, h = 0": _svd_lowrank(0),
    "torch.svd_lowrank, h = 1": _svd_lowrank(1),
    "scipy svds, PROPACK": _propack,
}


@dataclass(frozen=True)
class OrthogonalizerRow:
    """A contestant at one size and rank.

    Attributes:
        rank: None where there is no sketch.
        seconds: of a call, the best; CPU time where there is one thread.
        kept: <M, O> over ||M||_*.
    """

    size: int
    rank: int | None
    contestant: str
    seconds: float
    kept: float


def orthogonalizers(
    sizes: Sequence[int],
    ranks: Sequence[int],
    repeats: int,
    say: Callable[[str], None],
    threads: int = 1,
) -> Iterator[OrthogonalizerRow]:
    """Every contestant at every size and rank; full and exact have a fifth of the repeats."""
    # A short call may find the core free where a long one never does: the time of others is left
    # out where one thread does everything.
    clock = time.thread_time if threads == 1 else time.perf_counter
    torch.manual_seed(0)  # torch.svd_lowrank draws from nothing else
    for size in sizes:
        say(f"{size} x {size}: {FULL}; {EXACT}")
        s = 1 / torch.arange(1, size + 1, dtype=torch.float64)
        M = planted(s).float()
        whole: dict[str, Call] = {
            FULL: partial(orthogonalize, M, METHOD, STEPS),
            EXACT: partial(msign, M),
        }
        yield from _measured(whole, M, None, max(1, repeats // 5), clock)
        for rank in ranks:
            say(f"{size} x {size}, l = {rank}: {', '.join([*OWN, *PEERS])}")
            calls = {name: make(M, rank) for name, make in {**OWN, **PEERS}.items()}
            yield from _measured(calls, M, rank, repeats, clock)


def planted(s: Tensor, seed: int = 0) -> Tensor:
    """A square matrix with singular values s and Haar-distributed vectors."""
    generator = torch.Generator().manual_seed(seed)
    U, V = (
        torch.linalg.qr(torch.randn(len(s), len(s), generator=generator, dtype=s.dtype)).Q
        for _ in range(2)
    )
    return (U * s) @ V.mT


def _measured(
    calls: dict[str, Call], M: Tensor, rank: int | None, repeats: int, clock: Callable[[], float]
) -> Iterator[OrthogonalizerRow]:
    nuclear = (1 / torch.arange(1, len(M) + 1, dtype=torch.float64)).sum()
    results = {name: call().double() for name, call in calls.items()}
    taken = times_in_turn(calls, repeats, clock)
    for name, result in results.items():
        kept = float((M.double() * result).sum() / nuclear)
        yield OrthogonalizerRow(len(M), rank, name, min(taken[name]), kept)


def ratio(rows: Sequence[OrthogonalizerRow]) -> float | None:
    """How many times as long full takes as ours at the bar's size and rank; None if not run."""
    size, rank, _ = BAR
    found = {(row.contestant, row.rank): row.seconds for row in rows if row.size == size}
    if (OURS, rank) not in found:
        return None
    return found[FULL, None] / found[OURS, rank]


def table(rows: Sequence[OrthogonalizerRow], threads: int) -> Table:
    """Milliseconds, how many times as fast as full of that size, and what is kept."""
    drawn = Table(title=f"one matrix, s_j = 1 / j, float32, {counted(threads)}")
    for heading in ("m = n", "l", "contestant", "ms", "full / this", "kept"):
        drawn.add_column(heading, justify="left" if heading == "contestant" else "right")
    full = {row.size: row.seconds for row in rows if row.contestant == FULL}
    for row in rows:
        drawn.add_row(
            str(row.size),
            "" if row.rank is None else str(row.rank),
            row.contestant,
            f"{1e3 * row.seconds:.2f}",
            f"{full[row.size] / row.seconds:.1f}",
            f"{row.kept:.3f}",
            end_section=row.contestant in (EXACT, list(PEERS)[-1]),
        )
    return drawn


def record(path: Path, rows: Sequence[OrthogonalizerRow], threads: int) -> None:
    """Write everything as JSON, atomically."""
    bar = {"size": BAR[0], "rank": BAR[1], "at_least": BAR[2], "ratio": ratio(rows)}
    versions = {"scipy": scipy.__version__}
    record_rows(path, "orthogonalizers", [asdict(row) for row in rows], threads, bar, **versions)
