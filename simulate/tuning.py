"""The protocol by which every contestant's learning rate is tuned: one for all.

All begin with the same geometric grid. While a contestant's best rate is at an edge of what it
has tried, its grid goes on there, a step at a time, and no further than ``extensions`` steps. Once
the best lies inside, the two middles between it and its neighbours are tried, ``refinements``
times. So contestants have tried other rates in the end, chosen alike.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geometry.errors import require_nonnegative_int

Array = NDArray[np.float64]


def distinct(seeds: Iterable[int]) -> tuple[int, ...]:
    """The seeds, which intervals take for independent draws.

    Raises:
        ValueError: none, or one twice. TypeError: one that is no whole number.
    """
    numbers = tuple(map(operator.index, seeds))
    if not numbers or len(set(numbers)) < len(numbers):
        raise ValueError(f"seeds: different ones are expected, got {numbers or 'none'}")
    return numbers


@dataclass(frozen=True)
class Protocol:
    """How rates are tried.

    Attributes:
        rates: the grid that all begin with: three or more, positive, ascending, geometric; any
            sequence of numbers becomes a tuple.
        extensions: steps that a grid may go on for, at each of its ends.
        refinements: times that a best rate's neighbourhood is halved.

    Raises:
        ValueError: other rates, counts that are negative or not whole.
    """

    rates: tuple[float, ...]
    extensions: int = 3
    refinements: int = 1

    def __post_init__(self) -> None:
        grid = np.asarray(self.rates, dtype=float)
        if grid.ndim != 1 or len(grid) < 3 or not (np.isfinite(grid) & (grid > 0)).all():
            raise ValueError(f"rates: three or more positive ones are expected, got {self.rates}")
        steps = np.diff(np.log(grid))
        # .01, .03, .1 is written for half-decades: a step may be a fifth off.
        if not (steps > 0).all() or steps.max() > 1.2 * steps.mean():
            raise ValueError(f"rates: an ascending geometric grid is expected, got {self.rates}")
        for name in ("extensions", "refinements"):
            require_nonnegative_int(name, getattr(self, name))
        object.__setattr__(self, "rates", tuple(grid.tolist()))

    @property
    def ratio(self) -> float:
        """Of a rate of the grid to the one before, on average."""
        return float((self.rates[-1] / self.rates[0]) ** (1 / (len(self.rates) - 1)))


class Tuning:
    """What one contestant has tried so far, and what it is to try next.

    Attributes:
        rates: (K,) ascending.
        losses: (K, S) of S seeds, NaN where a run diverged.
        refined: how often the best rate's neighbourhood was halved.
    """

    def __init__(self, protocol: Protocol) -> None:
        self.protocol, self.refined = protocol, 0
        self.rates, self.losses = np.empty(0), np.empty((0, 0))

    def add(self, rates: tuple[float, ...], losses: Array) -> None:
        """Take in the losses (len(rates), S) at the rates that ``next_rates`` named."""
        if len(self.rates) and rates[0] > self.rates[0] and rates[-1] < self.rates[-1]:
            self.refined += 1
        everything = np.concatenate([self.rates, rates])
        order = everything.argsort()
        table = np.concatenate([self.losses, losses]) if len(self.rates) else losses
        self.rates, self.losses = everything[order], table[order]

    @property
    def best(self) -> int:
        """Where in ``rates`` the mean loss is least; a diverged run is worse than any other."""
        return place_of_best(self.losses)

    @property
    def at_edge(self) -> bool:
        """Whether the best rate is the first or the last that was tried."""
        return bool(len(self.rates)) and self.best in (0, len(self.rates) - 1)

    def next_rates(self) -> tuple[float, ...]:
        """What to try next; nothing where the protocol has come to its end."""
        grid, ratio = self.protocol.rates, self.protocol.ratio
        if not len(self.rates):
            return grid
        best, tried = self.best, self.rates
        if best == 0:
            beyond = int((tried < grid[0]).sum())
            return self._extension(beyond, grid[0] / ratio ** (beyond + 1))
        if best == len(tried) - 1:
            beyond = int((tried > grid[-1]).sum())
            return self._extension(beyond, grid[-1] * ratio ** (beyond + 1))
        if self.refined == self.protocol.refinements:
            return ()
        around = tried[best - 1 : best + 2]
        left, right = np.sqrt(around[:-1] * around[1:])
        return _rounded(left), _rounded(right)

    def _extension(self, beyond: int, rate: float) -> tuple[float, ...]:
        return (_rounded(rate),) if beyond < self.protocol.extensions else ()


def place_of_best(losses: Array) -> int:
    """The row of (K, S) with the least mean; NaN is worse than any loss."""
    return int(np.where(np.isfinite(losses), losses, np.inf).mean(1).argmin())


def _rounded(rate: float) -> float:
    """To six digits, as rates are written."""
    return float(f"{rate:.6g}")
