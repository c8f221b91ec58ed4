"""Flows on the device that a run asks for, and what came of them on the CPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from claims.registry import Setting
from flows import Field, Trajectory, integrate
from flows.moving import moved
from geometry.gauge import Pair


def integrate_there(
    setting: Setting, field: Field, start: Pair, times: Tensor | Sequence[float], **options: Any
) -> Trajectory:
    """:func:`flows.integrate` on the setting's device.

    Field, start and coordinates may be anywhere. The trajectory comes back on the CPU, with its
    field, its problem and its coordinates, so that a claim measures it beside closed forms as it
    would have.

    Args:
        options: of ``integrate``.
    """
    field, start, options = moved((field, start, options), setting.device)
    return integrate(field, start, times, **options).to("cpu")
