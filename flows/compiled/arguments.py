"""What the kernels are given: tensors are checked, nothing is copied or converted.

float32, CUDA and non-contiguous tensors are refused rather than converted: who wants the compiled
path wants its speed, and the plain path takes everything. Values are not looked through here: that
costs as much as the kernel does for few lanes.
"""

from __future__ import annotations

import importlib
from functools import cache
from types import ModuleType

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[np.float64]


class KernelUnavailable(RuntimeError):
    """The compiled kernel was asked for and cannot be had; the message says why."""


def why_unavailable() -> str | None:
    """Why the kernel cannot be had on this machine, or None where it can.

    Imports numba on the first call, but compiles nothing.
    """
    try:
        importlib.import_module("numba")
    # numba refuses a numpy that is too new by an ImportError of its own.
    except ImportError as error:
        return f"the compiled kernel needs numba (pip install 'paper-checks[fast]'): {error}"
    return None


def available() -> bool:
    """Whether the kernel can be had; :func:`why_unavailable` says why not."""
    return why_unavailable() is None


@cache
def kernel_of(name: str) -> ModuleType:
    """The module of a kernel; raises KernelUnavailable without numba."""
    reason = why_unavailable()
    if reason is not None:
        raise KernelUnavailable(reason)
    # Here and not above: this import is what needs numba.
    return importlib.import_module(f"flows.compiled.{name}")


def require_in_range(is_in_range: bool, beta: float | Tensor) -> None:
    """Raise the error of scales that a kernel would not have."""
    if not is_in_range:
        smallest = kernel_of("velocity").SMALLEST_BETA
        raise ValueError(f"beta must be finite and >= {smallest:g} in every lane, given {beta}")


def lanes_of(name: str, tensor: Tensor) -> tuple[int, ...]:
    """The shape (L, 2, d, r)."""
    shape = tuple(tensor.shape)
    if len(shape) != 4 or shape[1] != 2 or 0 in shape[2:]:
        raise ValueError(f"{name}: shape (L, 2, d, r) is expected; given {shape}")
    return shape


def empty(batch: tuple[int, int], *shapes: tuple[int, ...]) -> list[Array]:
    """Arrays to be filled, of the shapes given behind ``batch``."""
    return [np.empty(batch + shape) for shape in shapes]


def array_of(
    name: str, tensor: Tensor, shape: tuple[int, ...], dtype: torch.dtype = torch.float64
) -> Array:
    """The tensor's own memory."""
    if tensor.dtype is not dtype or not tensor.is_cpu:
        kind = str(dtype).removeprefix("torch.")
        raise ValueError(
            f"{name}: the compiled kernel is for {kind} on the CPU; "
            f"given {tensor.dtype} on {tensor.device}"
        )
    array: Array = tensor.detach().numpy()
    # An array's shape and flags are had in a fraction of a tensor's.
    if array.shape != shape:
        raise ValueError(f"{name}: shape {tuple(shape)} is expected; given {array.shape}")
    if not array.flags.c_contiguous:
        raise ValueError(
            f"{name}: a contiguous tensor is expected; given shape {array.shape} "
            f"with strides {tensor.stride()}"
        )
    return array


def scales_of(beta: float | Tensor, lanes: int) -> Array:
    """beta as a contiguous array (lanes,)."""
    if not isinstance(beta, Tensor):
        return np.full(lanes, beta, dtype=np.float64)
    if beta.ndim == 1 and beta.shape != (lanes,):
        raise ValueError(
            f"beta: one number or one a lane {(lanes,)} is expected; "
            f"given shape {tuple(beta.shape)}"
        )
    scales = array_of("beta", beta.contiguous(), beta.shape if beta.ndim == 0 else (lanes,))
    return scales if scales.ndim else np.full(lanes, scales)
