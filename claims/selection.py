"""Which claims are meant: by id, by pattern, by paper."""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from fnmatch import fnmatchcase

from claims.registry import Claim, Place, Registry, Setting
from geometry.names import unknown_name


def load_registry(module: str) -> Registry:
    """The ``REGISTRY`` of the module called ``module``."""
    registry = importlib.import_module(module).REGISTRY
    if not isinstance(registry, Registry):
        raise TypeError(f"{module}.REGISTRY is a {type(registry).__name__}, not a Registry")
    return registry


def select(
    registry: Registry, only: Sequence[str] = (), paper: str | None = None
) -> tuple[Claim, ...]:
    """The claims that match any of ``only`` (ids, or patterns with * and ?) and ``paper``.

    Raises ValueError for a name or a pattern that matches nothing, with the nearest name.
    """
    chosen = tuple(registry)
    if paper is not None:
        if paper not in registry.papers:
            raise unknown_name("paper", paper, registry.papers)
        chosen = tuple(claim for claim in chosen if claim.paper == paper)
    for pattern in only:
        if not any(fnmatchcase(claim.id, pattern) for claim in chosen):
            raise unknown_name("claim", pattern, [claim.id for claim in chosen])
    if not only:
        return chosen
    return tuple(c for c in chosen if any(fnmatchcase(c.id, pattern) for pattern in only))


def require_judgeable(claims: Sequence[Claim], tier: str, seed: int, place: Place) -> None:
    """Raises ValueError where all of them would be skipped, with the reasons."""
    reasons = Counter(_skipped(claim, claim.setting(tier, seed, place=place)) for claim in claims)
    if None not in reasons:
        told = "; ".join(f"{count} skipped, {reason}" for reason, count in reasons.items())
        raise ValueError(f"nothing that is asked for can be judged: {told}")


def _skipped(claim: Claim, setting: Setting) -> str | None:
    # What is raised is told when the claim runs, as of any other.
    with suppress(Exception):
        return claim.skipped(setting)
    return None
