"""The statements of papers, each with its check and its controls. ``REGISTRY`` holds them all."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from claims.registry import Registry

    REGISTRY: Registry


def __getattr__(name: str) -> Registry:
    """Assemble ``REGISTRY`` when it is first asked for: reading results needs no paper's module."""
    if name != "REGISTRY":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from claims import (
        lora_muon,
        low_rank_orthogonalization,
        riemannlora,
        uniform_spectral_growth,
    )
    from claims.registry import Registry

    registry = Registry(
        [
            *uniform_spectral_growth.CLAIMS,
            *lora_muon.CLAIMS,
            *low_rank_orthogonalization.CLAIMS,
            *riemannlora.CLAIMS,
        ]
    )
    globals()["REGISTRY"] = registry
    return registry
