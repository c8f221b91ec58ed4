"""What Tensorion's direction costs beside one SVD: the LMO over all unfoldings of a kernel.

Contestants are given the same Gaussian kernel and take turns; the fastest call of each counts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import tensorly
import torch
from rich.table import Table
from torch import Tensor

from benchmarks.recording import record_rows
from benchmarks.report import counted
from geometry.polar import msign
from geometry.tensor import offline_unfolding, tensor_lmo
from geometry.unfolding import fold, unfold, unfoldings
from simulate.turns import times_in_turn

Shape = tuple[int, ...]

# Ours over the largest single SVD, of this shape in double precision, at most.
BAR_SHAPE: Shape = (64, 32, 3, 3)
BAR = 3.0
SVD, OURS = "SVD of the largest unfolding", "LMO over all unfoldings"
EVERY, OFFLINE, FLAT = "SVD of every unfolding", "polar factor, offline", "polar factor, flattened"
SHAPES: tuple[Shape, ...] = (BAR_SHAPE, (128, 64, 3, 3), (16, 16, 16))
DTYPES = {"float32": torch.float32, "float64": torch.float64}


@dataclass(frozen=True)
class TensorRow:
    """A contestant on one shape: seconds of a call, the best; CPU time where one thread works."""

    shape: Shape
    dtype: str
    contestant: str
    seconds: float


def tensors(
    shapes: Sequence[Shape], repeats: int, say: Callable[[str], None], threads: int = 1
) -> Iterator[TensorRow]:
    """Every contestant on every shape, in both dtypes."""
    # Short calls: the time of others on a core is left out where it can be told.
    clock = time.thread_time if threads == 1 else time.perf_counter
    for shape in shapes:
        for name, dtype in DTYPES.items():
            say(f"{' x '.join(map(str, shape))}, {name}")
            generator = torch.Generator().manual_seed(0)
            G = torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)
            calls = _calls(G, shape)
            for call in calls.values():
                call()
            taken = times_in_turn(calls, repeats, clock)
            for contestant in calls:
                yield TensorRow(shape, name, contestant, min(taken[contestant]))


def _calls(G: Tensor, shape: Shape) -> dict[str, Callable[[], object]]:
    matrices = [_tall(unfold(G, modes)) for modes in unfoldings(len(shape))]
    # The one that takes the most multiplications.
    largest = max(matrices, key=lambda X: X.shape[0] * X.shape[1] ** 2)
    svd = partial(torch.linalg.svd, full_matrices=False)
    return {
        SVD: partial(svd, largest),
        OURS: partial(tensor_lmo, G),
        EVERY: lambda: [svd(X) for X in matrices],
        OFFLINE: partial(_polar, G, offline_unfolding(shape)),
        FLAT: partial(_polar, G, (0,)),
    }


def _tall(X: Tensor) -> Tensor:
    """LAPACK is faster on tall matrices."""
    return X if X.shape[0] >= X.shape[1] else X.mT


def _polar(G: Tensor, modes: Sequence[int]) -> Tensor:
    return fold(msign(unfold(G, modes)), modes, G.shape)


def ratio(rows: Sequence[TensorRow]) -> float | None:
    """Ours over the single SVD where the bar stands; None if not run."""
    found = {
        row.contestant: row.seconds
        for row in rows
        if row.shape == BAR_SHAPE and row.dtype == "float64"
    }
    return found[OURS] / found[SVD] if OURS in found else None


def table(rows: Sequence[TensorRow], threads: int) -> Table:
    """Milliseconds, and how many times the single SVD's."""
    drawn = Table(title=f"one Gaussian kernel, {counted(threads)}")
    for heading in ("shape", "dtype", "contestant", "ms", "this / SVD"):
        drawn.add_column(heading, justify="right" if heading in ("ms", "this / SVD") else "left")
    single = {(row.shape, row.dtype): row.seconds for row in rows if row.contestant == SVD}
    for row in rows:
        drawn.add_row(
            " x ".join(map(str, row.shape)),
            row.dtype,
            row.contestant,
            f"{1e3 * row.seconds:.2f}",
            f"{row.seconds / single[row.shape, row.dtype]:.2f}",
            end_section=row.contestant == FLAT,
        )
    return drawn


def record(path: Path, rows: Sequence[TensorRow], threads: int) -> None:
    """Write everything as JSON, atomically."""
    bar = {"shape": list(BAR_SHAPE), "dtype": "float64", "at_most": BAR, "ratio": ratio(rows)}
    written = [{**asdict(row), "shape": list(row.shape)} for row in rows]
    record_rows(path, "tensors", written, threads, bar, tensorly=tensorly.__version__)
