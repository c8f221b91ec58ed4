"""Sweeps over learning rates: every line tuned alike, cell by cell, over processes, resumable.

A line is a contestant on an architecture; ``lines`` makes them from grids. All its rates of one
round of the protocol and all seeds at each are one cell, one batched ensemble. Cells are mapped
over an executor; lines go on by themselves, and a cell that is finished is on disk at once.
"""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    CancelledError,
    Executor,
    Future,
    wait,
)
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from geometry.names import unknown_name
from simulate.atomic import writable_folder
from simulate.best_rate import Array, BestRate, best_rate
from simulate.cells import (
    Cell,
    CellResult,
    Contestant,
    Line,
    Recipe,
    keep_cell,
    kept_cell,
    require_trainable,
    run_cell,
)
from simulate.tasks.architecture import Architecture
from simulate.tuning import Protocol, Tuning, distinct, place_of_best

NAMED_AT_MOST = 8


@dataclass(frozen=True, eq=False)
class Curve:
    """The losses of a line by rate, tuned to the end.

    Attributes:
        rates: (K,) ascending, all that were tried.
        losses: (K, S) validation losses in nats of S seeds, NaN where a run diverged.
        diverged_at: (K, S) steps at which runs diverged, -1 where they did not.
        seconds: spent on the line.
    """

    line: Line
    rates: Array
    losses: Array
    diverged_at: np.ndarray[Any, np.dtype[np.int64]]
    seconds: float

    def best(self, **options: Any) -> BestRate:
        """The best rate with its interval; options as for ``best_rate``."""
        return best_rate(self.rates, self.losses, **options)

    @property
    def at_edge(self) -> bool:
        """Whether the best rate is still the first or last of those that were tried."""
        return place_of_best(self.losses) in (0, len(self.rates) - 1)

    @property
    def least(self) -> Array:
        """(S,) losses at the rate whose mean loss is least."""
        return np.asarray(self.losses[place_of_best(self.losses)])


@dataclass
class SweepProgress:
    """How far a sweep is.

    Attributes:
        cells: finished, those that were kept on disk too.
        operations: floating-point operations behind it. expected: in all, as foreseen now: a round
            more for every line that may refine, none for those that may extend.
        seconds: since the sweep began. left: as the finished work foretells, None before it can.
    """

    cells: int = 0
    operations: float = 0.0
    expected: float = 0.0
    seconds: float = 0.0
    # Kept cells cost nothing, and foretell nothing.
    worked: float = 0.0

    @property
    def left(self) -> float | None:
        """Seconds, by the pace up to now."""
        if not self.worked:
            return None
        return self.seconds * max(self.expected - self.operations, 0.0) / self.worked


def lines(
    contestants: Iterable[Contestant], base: Architecture, steps: int, **axes: Sequence[Any]
) -> list[Line]:
    """Every contestant on every architecture of a grid.

    Args:
        contestants: whose rates are to be tuned.
        base: the architecture that the axes vary.
        steps: of every run.
        axes: values by name of a size of ``Architecture``: ``rank``, ``width``, ``depth``,
            ``factor_rescaling``, ...; the last varies fastest.

    Raises:
        ValueError: an axis that is no size of an architecture or no sequence, values that are
            none.
    """
    sizes = [field.name for field in fields(Architecture)]
    for name, values in axes.items():
        if name not in sizes:
            raise unknown_name("axis", name, sizes)
        if isinstance(values, str) or not isinstance(values, Iterable):
            raise ValueError(f"{name}: a sequence of values is expected, got {values!r}")
    grid = [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]
    return [
        Line(contestant, replace(base, **its), steps) for contestant in contestants for its in grid
    ]


def sweep(
    lines: Sequence[Line],
    recipe: Recipe,
    protocol: Protocol,
    seeds: Iterable[int],
    *,
    executor: Executor | None = None,
    store: Path | str | None = None,
    progress: Callable[[SweepProgress], object] | None = None,
) -> list[Curve]:
    """Tune the rate of every line by one protocol.

    Args:
        lines: what to tune; each once.
        recipe: text, batches and schedule, the same for all.
        seeds: one run at every rate of every line for each.
        executor: where cells run; by default here, one after another. ``local_processes`` makes
            one of this machine's cores, Dask's ``Client.get_executor()`` one of a cluster.
        store: a folder in which finished cells are kept, and found again by a sweep that goes on.
        progress: called when a cell is done.

    Returns:
        Curves in the order of the lines.

    Raises:
        ValueError: no lines or seeds, or a seed twice; with a store, a contestant whose ``make``
            is no class or function of a file. Before any cell begins, a line whose training cannot
            be made, such as for an option that its optimiser refuses; of a device elsewhere than
            on this machine that is told by its first cell.
        OSError: a store that cannot be written, before anything is trained.
        CheckpointError: a damaged file in the store, named.
        BrokenExecutor: a process of the executor died, with the cells that were under way.
        What a cell raises; cells finished before it are in the store.
    """
    if not lines:
        raise ValueError("lines: at least one is expected, got none")
    numbers = distinct(seeds)
    folder = writable_folder(store)
    work = _InTurn(recipe) if executor is None else _Mapped(recipe, executor, folder)
    return _Sweep(lines, recipe, protocol, numbers, folder, progress).run(work)


Finished = tuple[int, Cell, CellResult]


class _InTurn:
    """Cells that run here, one after another."""

    device_is_here = True

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe
        self._waiting: deque[tuple[int, Cell]] = deque()

    def add(self, number: int, cell: Cell) -> None:
        self._waiting.append((number, cell))

    def finished(self) -> Iterator[Finished]:
        """Cells as they are done, until none is left; more may be added meanwhile."""
        while self._waiting:
            number, cell = self._waiting.popleft()
            yield number, cell, run_cell(cell, self._recipe)


class _Mapped:
    """Cells that run on an executor."""

    def __init__(self, recipe: Recipe, executor: Executor, store: Path | None) -> None:
        self._recipe, self._executor, self._store = recipe, executor, store
        self._running: dict[Future[CellResult], tuple[int, Cell]] = {}
        self._failed: Exception | None = None
        # A GPU of the processes may be none of this machine's.
        self.device_is_here = recipe.on_a_cpu

    def add(self, number: int, cell: Cell) -> None:
        if self._failed is not None:
            return  # the sweep is about to end
        try:
            future = self._executor.submit(run_cell, cell, self._recipe)
        except Exception as error:
            # A broken executor; others of its cells may be done.
            self._fail(error)
            return
        self._running[future] = number, cell

    def finished(self) -> Iterator[Finished]:
        """As above. Of cells that failed one is raised, once those that ran beside it are done."""
        try:
            while self._running:
                for future in wait(self._running, return_when=FIRST_COMPLETED).done:
                    result = self._result(future)
                    number, cell = self._running.pop(future)
                    if result is not None:
                        yield number, cell, result
        finally:
            self._cancel()
        if self._failed is not None:
            raise self._failed

    def _result(self, future: Future[CellResult]) -> CellResult | None:
        """None of a cell that failed, or was called off because another did."""
        try:
            return future.result()
        except CancelledError:
            return None
        except Exception as error:
            self._fail(error)
            return None

    def _fail(self, error: Exception) -> None:
        if isinstance(error, BrokenExecutor):
            # It fails all of its cells, and may hang where one is cancelled meanwhile.
            self._failed = self._failed or self._broken(error)
            return
        self._failed = self._failed or error
        self._cancel()

    def _broken(self, error: BrokenExecutor) -> BrokenExecutor:
        """What is raised for an executor that lost a process: the cells, and what can be done."""
        unfinished = [
            cell
            for future, (_, cell) in self._running.items()
            if not future.done() or future.exception() is not None
        ]
        # Cells begin in the order in which they were handed over.
        under_way = unfinished[: getattr(self._executor, "_max_workers", len(unfinished))]
        named = [str(cell) for cell in under_way[:NAMED_AT_MOST]]
        if len(under_way) > NAMED_AT_MOST:
            named.append(f"{len(under_way) - NAMED_AT_MOST} others")
        kept = "no cell is kept, for no store= was given"
        if self._store is not None:
            kept = (
                f"finished cells are in {str(self._store)!r}, and the same call goes on from there"
            )
        told = BrokenExecutor(
            f"a process that trains cells died; under way: {'; '.join(named) or 'none'}; {kept}. "
            "Where memory ran out, fewer processes or a smaller batch_size or members_at_once take "
            'less. A script makes processes below if __name__ == "__main__", or none begins'
        )
        told.__cause__ = error
        return told

    def _cancel(self) -> None:
        for future in self._running:
            future.cancel()


class _Sweep:
    def __init__(
        self,
        lines: Sequence[Line],
        recipe: Recipe,
        protocol: Protocol,
        seeds: tuple[int, ...],
        store: Path | None,
        progress: Callable[[SweepProgress], object] | None,
    ) -> None:
        self._lines, self._recipe, self._seeds = lines, recipe, seeds
        self._store, self._tell = store, progress or (lambda _: None)
        self._tunings = [Tuning(protocol) for _ in lines]
        self._left: list[dict[float, Any]] = [{} for _ in lines]
        self._spent = [0.0] * len(lines)
        self._state, self._begun = SweepProgress(), time.perf_counter()

    def run(self, work: _InTurn | _Mapped) -> list[Curve]:
        first = [(number, self._next_cell(number)) for number in self._dearest_first()]
        coming = [(number, cell) for number, cell in first if cell is not None]
        if work.device_is_here:
            for _, cell in coming:
                require_trainable(cell, self._recipe)
        for number, cell in coming:
            work.add(number, cell)
        for number, cell, result in work.finished():
            if self._store is not None:
                keep_cell(cell, self._recipe, result, self._store)
            self._state.worked += cell.cost(self._recipe)
            self._take(number, cell, result)
            if (following := self._next_cell(number)) is not None:
                work.add(number, following)
        return [self._curve(number) for number in range(len(self._lines))]

    def _dearest_first(self) -> list[int]:
        """Long cells begun last would leave processes idle at the end."""
        costs = [line.steps * line.architecture.forward_flops for line in self._lines]
        return sorted(range(len(self._lines)), key=lambda number: -costs[number])

    def _next_cell(self, number: int) -> Cell | None:
        """What a line is to run next, past what is kept; None at its end."""
        while rates := self._tunings[number].next_rates():
            cell = Cell(self._lines[number], rates, self._seeds)
            kept = kept_cell(cell, self._recipe, self._store) if self._store else None
            if kept is None:
                return cell
            self._take(number, cell, kept)
        return None

    def _take(self, number: int, cell: Cell, result: CellResult) -> None:
        self._tunings[number].add(cell.rates, result.losses.numpy())
        self._left[number].update(zip(cell.rates, result.diverged_at.numpy(), strict=True))
        self._spent[number] += result.seconds
        state = self._state
        state.cells += 1
        state.operations += cell.cost(self._recipe)
        state.expected = state.operations + sum(map(self._foreseen, range(len(self._lines))))
        state.seconds = time.perf_counter() - self._begun
        self._tell(state)

    def _foreseen(self, number: int) -> float:
        """What a line still costs where its next best rate lies inside of what it has tried."""
        tuning, line = self._tunings[number], self._lines[number]
        rates = len(tuning.next_rates())
        if rates and (tuning.at_edge or not len(tuning.rates)):
            rates += 2 * (tuning.protocol.refinements - tuning.refined)
        return Cell(line, (1.0,) * rates, self._seeds).cost(self._recipe)

    def _curve(self, number: int) -> Curve:
        tuning, left = self._tunings[number], self._left[number]
        return Curve(
            self._lines[number],
            tuning.rates,
            tuning.losses,
            np.stack([left[rate] for rate in tuning.rates.tolist()]),
            self._spent[number],
        )
