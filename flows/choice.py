"""Which method and which kernel an integration uses, and why it may not."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch

from flows.compiled import KernelUnavailable, why_unavailable
from flows.coordinates import Coordinates, ReducedCoordinates
from flows.fields import Field
from flows.tableaux import TABLEAUX
from geometry.names import unknown_name

AUTO, EXPLICIT, IMPLICIT = "auto", "dormand_prince", "radau"
METHODS = (AUTO, IMPLICIT, *TABLEAUX)

Kernel = Literal["auto", "compiled", "plain"]
KERNELS = ("auto", "compiled", "plain")


def choose_method(method: str, field: Field, coordinates: Coordinates, step: float | None) -> str:
    """The method by its own name; "auto" remains only where explicit steps may have a successor.

    Raises:
        ValueError: for an unknown name, a method without an error estimate and no step, a field
            that jumps and no step, and where the implicit method does not apply.
    """
    if method not in METHODS:
        raise unknown_name("method", method, METHODS)
    if step is not None:
        if method == IMPLICIT:
            raise ValueError(f"step: method {IMPLICIT!r} chooses its own; given {step:g}")
        return EXPLICIT if method == AUTO else method
    if not field.continuous:
        raise ValueError(
            f"{field.name}: the field jumps, so no adaptive method applies; "
            "give method='euler' and a step, or a positive beta"
        )
    unfit = _unfit_for_implicit(field, coordinates)
    if method == AUTO:
        return EXPLICIT if unfit else AUTO
    if method == IMPLICIT:
        if unfit:
            raise ValueError(f"method {IMPLICIT!r} does not apply: {unfit}")
        return method
    if TABLEAUX[method].error is None:
        raise ValueError(f"method {method!r} has no error estimate: it needs a fixed step=...")
    return method


def choose_kernel(kernel: Kernel, field: Field, coordinates: Coordinates, lanes: int) -> Field:
    """The field, told whether to use the compiled kernel.

    "auto" uses it wherever it applies and numba is installed, "plain" never.

    Raises:
        ValueError: for an unknown name, and "compiled" where it does not apply.
        KernelUnavailable: for "compiled" without numba.
    """
    if kernel not in KERNELS:
        raise unknown_name("kernel", kernel, KERNELS)
    if kernel == "plain":
        return replace(field, compiled=False)
    unfit = _unfit_for_kernel(field, coordinates)
    if kernel == "auto":
        return _compiled(field, lanes) if not unfit and why_unavailable() is None else field
    if unfit:
        raise ValueError(f"kernel 'compiled' does not apply: {unfit}")
    reason = why_unavailable()
    if reason is not None:
        raise KernelUnavailable(reason)
    return _compiled(field, lanes)


def _compiled(field: Field, lanes: int) -> Field:
    assert field.scales is not None
    return replace(field, compiled=True, scales=field.scales.expand(lanes).contiguous())


def _unfit_for_implicit(field: Field, coordinates: Coordinates) -> str | None:
    if field.smoothing is None:
        return f"it is for smoothed spectral flows; given {field.name}"
    if not isinstance(coordinates, ReducedCoordinates):
        return "it works in the exact reduction (reduce=True)"
    if field.problem.l2 > 0:
        return f"its Jacobian leaves out the coupled regulariser; given l2 = {field.problem.l2:g}"
    if field.problem.dtype != torch.float64:
        return f"it needs float64; given {field.problem.dtype}"
    return None


def _unfit_for_kernel(field: Field, coordinates: Coordinates) -> str | None:
    problem = field.problem
    if field.smoothing is None:
        return f"it is for smoothed spectral flows; given {field.name}"
    if not isinstance(coordinates, ReducedCoordinates):
        return "it works in the exact reduction (reduce=True)"
    if problem.dtype != torch.float64 or problem.device.type != "cpu":
        return f"it is for float64 on the CPU; given {problem.dtype} on {problem.device}"
    return None
