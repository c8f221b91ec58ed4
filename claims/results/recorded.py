"""What is known of a run: an outcome when a claim has run, and what is recorded of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from claims.registry import Claim, Evidence, Measurement, Verdict
from claims.results.evidence_file import Arrays, read_arrays
from geometry.names import unknown_name

# The texts that a claim declares and its record repeats.
DECLARED = ("id", "paper", "title", "statement", "reference", "source", "setup", "criterion")


@dataclass(frozen=True)
class Outcome:
    """What came of running a claim. ``evidence`` is None where none could be taken."""

    claim: Claim
    verdict: Verdict
    reason: str
    evidence: Evidence | None
    controls: Mapping[str, Evidence]
    seconds: float
    traceback: str | None


@dataclass(frozen=True)
class RecordedControl:
    """What a control measured."""

    measurements: tuple[Measurement, ...]
    remarks: tuple[str, ...]

    @property
    def holds(self) -> bool:
        return all(measurement.holds for measurement in self.measurements)


@dataclass(frozen=True)
class Recorded:
    """A claim with its verdict and measurements, as it stands in the results."""

    id: str
    paper: str
    title: str
    statement: str
    reference: str
    source: str
    setup: str
    criterion: str
    reason: str
    expected: Verdict
    verdict: Verdict
    remarks: tuple[str, ...]
    counterexample: str | None
    measurements: tuple[Measurement, ...]
    controls: Mapping[str, RecordedControl]
    seconds: float
    traceback: str | None
    evidence: str | None
    folder: Path = field(repr=False)

    @property
    def as_expected(self) -> bool:
        """Whether the verdict is the declared one; a skipped claim contradicts nothing."""
        return self.verdict in (self.expected, Verdict.SKIPPED)

    @property
    def worst(self) -> Measurement | None:
        """The measurement with the least room to its bound."""
        return min(self.measurements, key=lambda measurement: measurement.margin, default=None)

    def arrays(self, prefix: str = "check") -> Arrays:
        """The arrays under ``prefix``: "check", "control/<name>", or "" for all with their keys.

        They are read on every call. Raises ResultsError where the file is damaged.
        """
        if self.evidence is None:
            return {}
        arrays = read_arrays(self.folder / self.evidence)
        if not prefix:
            return arrays
        start = f"{prefix}/"
        return {key[len(start) :]: array for key, array in arrays.items() if key.startswith(start)}


@dataclass(frozen=True)
class Earlier:
    """What a claim came to the last time that it ran: the header of that run, and the record."""

    run: Mapping[str, Any]
    claim: Recorded


@dataclass(frozen=True)
class Results:
    """A run: what it was run with, and its claims in the registry's order.

    ``earlier`` has what claims that this run skipped came to in the last run of another tier.
    """

    run: Mapping[str, Any]
    claims: tuple[Recorded, ...]
    earlier: Mapping[str, Earlier] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Recorded]:
        return iter(self.claims)

    def __len__(self) -> int:
        return len(self.claims)

    def __contains__(self, identifier: object) -> bool:
        return any(claim.id == identifier for claim in self.claims)

    def standing(self, identifier: str) -> Recorded:
        """The record that has the claim's evidence: an earlier one of a claim that was skipped."""
        earlier = self.earlier.get(identifier)
        return self[identifier] if earlier is None else earlier.claim

    def __getitem__(self, identifier: str) -> Recorded:
        for claim in self.claims:
            if claim.id == identifier:
                return claim
        raise unknown_name("recorded claim", identifier, [claim.id for claim in self.claims])


def recorded(outcome: Outcome, out: Path, evidence: str | None) -> Recorded:
    """``outcome`` as it will stand in the results of the folder ``out``, with a file of arrays."""
    claim, taken = outcome.claim, outcome.evidence
    return Recorded(
        **{name: getattr(claim, name) for name in DECLARED},
        reason=outcome.reason,
        expected=claim.expected,
        verdict=outcome.verdict,
        remarks=taken.remarks if taken else (),
        counterexample=taken.counterexample if taken else None,
        measurements=taken.measurements if taken else (),
        controls={
            name: RecordedControl(control.measurements, control.remarks)
            for name, control in outcome.controls.items()
        },
        seconds=outcome.seconds,
        traceback=outcome.traceback,
        evidence=evidence,
        folder=out,
    )
