"""The command line in this process: what tests of it share."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from pathlib import Path

from typer.testing import CliRunner, Result

import paper_checks
from claims.registry import Claim
from claims.running.crew import Asked, News
from claims.running.one import run_claim

ROOT = Path(__file__).parent.parent
FAKES = "tests.claims.fakes"


class InProcess:
    """A crew that runs claims in this process: workers have tests of their own."""

    jobs, gpus, remarks = 1, (), ()

    def __init__(self) -> None:
        self.ran: list[str] = []

    def run(self, claims: Sequence[Claim], asked: Asked) -> Generator[News, None, None]:
        for claim in claims:
            self.ran.append(claim.id)
            yield claim, None
            yield claim, run_claim(claim, asked.tier, asked.seed, place=asked.place)


def call(*arguments: object) -> Result:
    return CliRunner().invoke(paper_checks.app, [str(argument) for argument in arguments])


def refuse(said: str, *arguments: object) -> None:
    result = call(*arguments)
    assert result.exit_code == 2, result.output
    assert said in " ".join(result.output.split()), result.output
