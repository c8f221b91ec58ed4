"""Moving problems, fields and trajectories between devices, whole."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

from flows.coordinates import AmbientCoordinates
from flows.problem import MatrixFactorization

T = TypeVar("T")


def moved(whole: T, device: torch.device | str) -> T:
    """The same with all its tensors on the device: of data classes, tuples and dicts, to any depth.

    What holds no tensors is what it was.
    """
    return cast(T, _moved(whole, device))


def _moved(part: Any, device: torch.device | str) -> Any:
    if isinstance(part, Tensor | MatrixFactorization):
        return part.to(device=device)
    if isinstance(part, AmbientCoordinates):
        return AmbientCoordinates(_moved(part.problem, device))
    if is_dataclass(part) and not isinstance(part, type):
        parts = {each.name: _moved(getattr(part, each.name), device) for each in fields(part)}
        return replace(part, **parts)
    if type(part) is tuple:
        return tuple(_moved(each, device) for each in part)
    if isinstance(part, dict):
        return {name: _moved(each, device) for name, each in part.items()}
    return part
