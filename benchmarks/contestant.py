"""What a contestant of the flow benchmark declares."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.case import Array, FlowCase

Factors = tuple[Array, Array]


@dataclass(frozen=True)
class Prepared:
    """A run that is ready to be timed.

    Attributes:
        run: integrates and returns B (S, T, m, r) and A (S, T, r, n) as NumPy arrays.
        compile_seconds: what making it ready took, where there is a compiler.
    """

    run: Callable[[], Factors]
    compile_seconds: float = 0.0


@dataclass(frozen=True)
class Contestant:
    """A way to integrate the flows of all seeds.

    Attributes:
        package: what has to be installed.
        method: the integrator, and what it is given.
        prepare: (case, seeds, rtol) to a run; imports the package only then.
    """

    name: str
    package: str
    method: str
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
