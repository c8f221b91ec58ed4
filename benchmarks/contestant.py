"""What a contestant of the flow benchmark declares."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from benchmarks.case import Factors, FlowCase

Kind = Literal["ours", "ours, plain", "peer", "peer, reduced"]


@dataclass(frozen=True)
class Answer:
    """What a run found, and what it took.

    Attributes:
        factors: B (S, T, m, r) and A (S, T, r, n).
        evaluations: right-hand sides, mean over seeds.
    """

    factors: Factors
    evaluations: float


@dataclass(frozen=True)
class Prepared:
    """A run that is ready to be timed.

    Attributes:
        run: integrates, whole from the starts to the lifted factors.
        compile_seconds: what making it ready took, where there is a compiler.
    """

    run: Callable[[], Answer]
    compile_seconds: float = 0.0


@dataclass(frozen=True)
class Contestant:
    """A way to integrate the flows of all seeds.

    Attributes:
        package: what has to be installed.
        method: the integrator, and what it is given.
        kind: whose it is, and for a peer whether it is given our reduction.
        prepare: (case, seeds, rtol) to a run; imports the package only then.
    """

    name: str
    package: str
    method: str
    kind: Kind
    prepare: Callable[[FlowCase, Sequence[int], float], Prepared]

    @property
    def installed(self) -> bool:
        return importlib.util.find_spec(self.package) is not None

    @property
    def version(self) -> str | None:
        try:
            return importlib.metadata.version(self.package)
        except importlib.metadata.PackageNotFoundError:
            return None


def missing(contestants: Sequence[Contestant]) -> list[str]:
    """The names of those whose package is not installed."""
    return [contestant.name for contestant in contestants if not contestant.installed]
