"""One line of a study: what one contestant did in one setting."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.contestant import Kind


@dataclass(frozen=True)
class Row:
    """What one contestant did in one setting.

    Attributes:
        error: the largest entry of any product's error, over all seeds and times of the grid.
        doubt: by how much the reference may be off.
        bound: what error and doubt together must not exceed.
        seconds: best of the repeats, all seeds; None where it came to no full run.
            compile_seconds come on top, once.
        evaluations: right-hand sides, mean over seeds.
        memory: bytes at the peak beyond what was held before; None where it was not measured.
        remark: why it broke or was stopped.
    """

    setting: str
    contestant: str
    kind: Kind
    method: str
    version: str | None
    seeds: int
    rtol: float
    error: float
    doubt: float
    bound: float
    seconds: float | None
    compile_seconds: float = 0.0
    evaluations: float | None = None
    memory: int | None = None
    reference: str = ""
    remark: str = ""

    @property
    def counts(self) -> bool:
        """Whether it was timed and is right: only then is its time worth anything."""
        return self.seconds is not None and self.error + self.doubt <= self.bound
