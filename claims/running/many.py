"""Running many claims, the longest first, by whichever crew there is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing

from claims.registry import Claim
from claims.results import Outcome
from claims.running.crew import Asked, Crew


def _ignore(*_: object) -> None:
    return None


def run_claims(
    claims: Sequence[Claim],
    asked: Asked,
    crew: Crew,
    on_outcome: Callable[[Outcome], object] = _ignore,
    *,
    on_start: Callable[[Claim], object] = _ignore,
    on_share: Callable[[Claim, float], object] = _ignore,
    expected_seconds: Mapping[str, float] | None = None,
) -> tuple[Outcome, ...]:
    """Run ``claims`` and return their outcomes in the order given.

    ``on_outcome`` is called with each outcome as it comes, in the calling process.
    ``on_share`` is told which share of a long claim is done.
    ``expected_seconds``, by id, has the longest claims started first; those it does not know
    are taken to be the longest. Without it goes what claims declare.

    Raises CrewLost where nobody is left to run the others.
    """
    costs = expected_seconds or {claim.id: claim.seconds for claim in claims}
    ordered = sorted(claims, key=lambda c: costs.get(c.id, float("inf")), reverse=True)
    outcomes: dict[str, Outcome] = {}
    with closing(crew.run(ordered, asked)) as news:
        for claim, what in news:
            if what is None:
                on_start(claim)
            elif isinstance(what, Outcome):
                outcomes[claim.id] = what
                on_outcome(what)
            else:
                on_share(claim, what)
    return tuple(outcomes[claim.id] for claim in claims)
