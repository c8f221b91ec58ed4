"""How a verdict follows from a claim and its evidence: here and nowhere else."""

from __future__ import annotations

from collections.abc import Mapping

from claims.registry import Claim, Evidence, Verdict


def judge(
    claim: Claim, evidence: Evidence, controls: Mapping[str, Evidence]
) -> tuple[Verdict, str]:
    """The verdict on ``claim``, and the sentence that says why.

    HOLDS: the check meets its bounds and every control misses at least one of them.
    FAILS: the check misses a bound, or shows a counterexample to a claim that is not declared
    refuted. VACUOUS: a control meets all of its bounds.
    REFUTED: as HOLDS, for a claim declared refuted that shows its counterexample.

    Raises ValueError where a control is missing, measures by another criterion than the check, or
    measured NaN beside a check that meets its bounds: a control has to fail by its numbers, not by
    breaking.
    """
    if set(controls) != set(claim.controls):
        raise ValueError(
            f"claim {claim.id!r} declares the controls {sorted(claim.controls)}; "
            f"evidence was given for {sorted(controls)}"
        )
    criteria = {measurement.criterion for measurement in evidence.measurements}
    for name, control in controls.items():
        strange = [m.criterion for m in control.measurements if m.criterion not in criteria]
        if strange:
            raise ValueError(
                f"claim {claim.id!r}: the control {name!r} measures by criteria the check does "
                f"not have: {strange}"
            )
    missed = [measurement.name for measurement in evidence.measurements if not measurement.holds]
    if missed:
        told = f"the check misses its bound on: {'; '.join(missed)}"
        if claim.expected is Verdict.REFUTED:
            told += " (of a claim that is declared refuted, bounds are what a counterexample meets)"
        return Verdict.FAILS, told
    empty = [
        f"{name}: {m.name}" for name, c in controls.items() for m in c.measurements if m.broken
    ]
    if empty:
        raise ValueError(f"claim {claim.id!r}: a NaN is no failed control: {'; '.join(empty)}")
    passing = [name for name, control in controls.items() if control.holds]
    if passing:
        return Verdict.VACUOUS, f"a control meets the same bounds: {', '.join(passing)}"
    if claim.expected is Verdict.REFUTED:
        if evidence.counterexample is None:
            return Verdict.FAILS, "declared refuted, but the check shows no counterexample"
        return Verdict.REFUTED, evidence.counterexample
    if evidence.counterexample is not None:
        told = (
            f"not declared refuted, but the check shows a counterexample: {evidence.counterexample}"
        )
        return Verdict.FAILS, told
    return Verdict.HOLDS, "every bound is met, and no control meets them"
