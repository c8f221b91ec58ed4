"""What a run asks of its claims, and whoever runs them: a crew, on this machine or on a cluster."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from claims.registry import HERE, Claim, Place
from claims.results import Outcome


@dataclass(frozen=True)
class Asked:
    """What is asked of every claim of a run. It travels to the workers.

    Attributes:
        tier, seed: as for ``Claim.setting``.
        registry: the module in whose ``REGISTRY`` workers find claims by id: functions need not
            pickle.
        subject: the name of the optimiser under test, which every worker loads.
        place: where claims compute, and in what.
        store: the folder of what claims keep on their way.
    """

    tier: str
    seed: int
    registry: str = "claims"
    subject: str | None = None
    place: Place = HERE
    store: Path | None = None


# Of a claim that begins, None; of one on its way, the share that is done; at its end, what came.
News = tuple[Claim, Outcome | float | None]


class CrewLost(Exception):
    """Nobody is left to run the claims, for the reason given; those that have ended stand."""


class Crew(Protocol):
    """Runs claims.

    Attributes:
        jobs: how many it runs at once.
        gpus: the names of those that it computes on; none on the CPU.
        remarks: what there is to say of it before a run.
    """

    @property
    def jobs(self) -> int: ...

    @property
    def gpus(self) -> Sequence[str]: ...

    @property
    def remarks(self) -> Sequence[str]: ...

    def run(self, claims: Sequence[Claim], asked: Asked) -> Generator[News, None, None]:
        """Run claims, the first ones first, and tell how they go. What runs ends with it.

        Raises CrewLost.
        """
        ...
