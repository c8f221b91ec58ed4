"""The LoRA pairs of a PEFT model, found by the names of its parameters."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from torch import nn

from geometry.gauge import Pair, require_pair
from geometry.names import unknown_name

# By a part of the names of their parameters, adapters that are no W + scale B A of a matrix W.
OTHER_KINDS: Mapping[str, str] = MappingProxyType(
    {
        "lora_magnitude_vector": "DoRA, whose W is scaled row by row to norms that are trained too",
        "lora_embedding_A": "LoRA of an embedding, which is a table and no linear layer",
    }
)


def lora_pairs(model: nn.Module, adapter: str | None = None) -> list[Pair]:
    """[(B, A), ...]: ``lora_B.<adapter>.weight`` and ``lora_A.<adapter>.weight`` of every module.

    PEFT is not needed: any model whose parameters are named so will do. What else is trained, such
    as ``modules_to_save`` and the biases of ``lora_bias``, is in no pair and left to another
    optimiser.

    Args:
        adapter: of which the pairs are wanted; None where the model has one.

    Raises:
        ValueError: no pairs, several adapters and none named, an unknown adapter, one factor
            without the other, or shapes that do not multiply; an adapter with modules that have no
            such pairs, DoRA's, embeddings and convolutions: the first of them is named.
    """
    found: dict[str, dict[str, dict[str, nn.Parameter]]] = {}
    others: dict[str, tuple[str, str]] = {}
    for name, parameter in model.named_parameters():
        for side in ("A", "B"):
            module, mark, rest = _split(name, f"lora_{side}")
            if mark and rest.endswith(".weight"):
                own = found.setdefault(rest.removesuffix(".weight"), {})
                own.setdefault(module, {})[side] = parameter
        for part, kind in OTHER_KINDS.items():
            module, mark, rest = _split(name, part)
            if mark:
                others.setdefault(rest.removesuffix(".weight"), (module, kind))
    known = sorted({*found, *others})
    if not known:
        raise ValueError(
            "LoRA pairs are expected, parameters named <module>.lora_A.<adapter>.weight and "
            f"lora_B; given {type(model).__name__}, which has none"
        )
    if adapter is None:
        if len(known) > 1:
            raise ValueError(f"adapter: one of {known} is expected; given none")
        adapter = known[0]
    if adapter not in known:
        raise unknown_name("adapter", adapter, known)
    if adapter in others:
        module, kind = others[adapter]
        raise _no_pair(module, adapter, kind)
    pairs: list[Pair] = []
    for module, factors in found[adapter].items():
        missing = {"A", "B"} - set(factors)
        if missing:
            raise ValueError(f"{module}: lora_{missing.pop()} of adapter {adapter!r} is missing")
        B, A = factors["B"], factors["A"]
        if B.ndim != 2 or A.ndim != 2:
            shapes = f"lora_B {tuple(B.shape)} and lora_A {tuple(A.shape)}"
            raise _no_pair(module, adapter, f"{shapes}, as convolutions have them")
        require_pair(B, A, (f"{module}.lora_B", f"{module}.lora_A"))
        pairs.append((B, A))
    return pairs


def _split(name: str, part: str) -> tuple[str, str, str]:
    """Module, mark and the rest of ``<module>.<part>.<rest>``; no mark where it is none."""
    module, mark, rest = name.rpartition(f".{part}.")
    if not mark and name.startswith(f"{part}."):
        return "", part, name.removeprefix(f"{part}.")
    return module, mark, rest


def _no_pair(module: str, adapter: str, given: str) -> ValueError:
    return ValueError(
        f"{module}: matrices B (m, r) and A (r, n) of a linear layer are expected of adapter "
        f"{adapter!r}; given {given}. Leave the module out, or to an adapter of its own"
    )
