"""Whether a parameter group still holds what it held when it was found sound."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from torch import Tensor

# What cannot be written to without a trace.
_FIXED = (Tensor, int, float, str, tuple, type(None))


class Contents:
    """What a group held: its options, and shapes and dtypes of its parameters.

    To check an option that is a tensor, one value a member, takes several calls and makes a device
    be waited for; to see that it has not been written to since takes none.
    """

    def __init__(self, group: Mapping[str, Any]) -> None:
        self._parameters = [(p, p.shape, p.dtype) for p in group["params"]]
        self._options = {
            name: (value, version_of(value)) if isinstance(value, _FIXED) else (deepcopy(value), 0)
            for name, value in group.items()
            if name != "params"
        }

    def are_those_of(self, group: Mapping[str, Any]) -> bool:
        """Whether the group is as it was. Values of tensors are not compared: one written to has
        changed, and so has every tensor of inference mode, which does not say.
        """
        parameters = group["params"]
        if len(group) != len(self._options) + 1 or len(parameters) != len(self._parameters):
            return False
        for p, (q, shape, dtype) in zip(parameters, self._parameters, strict=True):
            if p is not q or p.shape != shape or p.dtype != dtype:
                return False
        return all(
            name in group and _same(group[name], *seen) for name, seen in self._options.items()
        )


def _same(value: object, seen: object, version: int) -> bool:
    if isinstance(value, Tensor):
        return value is seen and version == version_of(value) >= 0
    # True is 1, and no seed.
    return type(value) is type(seen) and bool(value == seen)


def version_of(value: object) -> int:
    """How often a tensor was written to, -1 where that is not known; 0 of anything else."""
    if not isinstance(value, Tensor):
        return 0
    return -1 if value.is_inference() else value._version
