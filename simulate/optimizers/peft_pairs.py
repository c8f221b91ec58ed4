"""The LoRA pairs of a PEFT model, found by the names of its parameters."""

from __future__ import annotations

from torch import nn

from geometry.gauge import Pair, require_pair
from geometry.names import unknown_name


def lora_pairs(model: nn.Module, adapter: str | None = None) -> list[Pair]:
    """[(B, A), ...]: ``lora_B.<adapter>.weight`` and ``lora_A.<adapter>.weight`` of every module.

    PEFT is not needed: any model whose parameters are named so will do.

    Args:
        adapter: of which the pairs are wanted; None where the model has one.

    Raises:
        ValueError: no pairs, several adapters and none named, an unknown adapter, one factor
            without the other, or shapes that do not multiply.
    """
    found: dict[str, dict[str, dict[str, nn.Parameter]]] = {}
    for name, parameter in model.named_parameters():
        for side in ("A", "B"):
            module, mark, rest = name.rpartition(f".lora_{side}.")
            if not mark:
                module, mark, rest = "", *name.partition(f"lora_{side}.")[1:]
            if mark and rest.endswith(".weight"):
                own = found.setdefault(rest.removesuffix(".weight"), {})
                own.setdefault(module, {})[side] = parameter
    if not found:
        raise ValueError(
            "LoRA pairs are expected, parameters named <module>.lora_A.<adapter>.weight and "
            f"lora_B; given {type(model).__name__}, which has none"
        )
    if adapter is None:
        if len(found) > 1:
            raise ValueError(f"adapter: one of {sorted(found)} is expected; given none")
        adapter = next(iter(found))
    if adapter not in found:
        raise unknown_name("adapter", adapter, found)
    pairs: list[Pair] = []
    for module, factors in found[adapter].items():
        missing = {"A", "B"} - set(factors)
        if missing:
            raise ValueError(f"{module}: lora_{missing.pop()} of adapter {adapter!r} is missing")
        B, A = factors["B"], factors["A"]
        require_pair(B, A, (f"{module}.lora_B", f"{module}.lora_A"))
        pairs.append((B, A))
    return pairs
