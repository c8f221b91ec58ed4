"""The kernel in terms of tensors: what it is given is checked, nothing is copied or converted.

float32, CUDA and non-contiguous tensors are refused rather than converted: who wants the compiled
path wants its speed, and the plain path takes everything.
"""

from __future__ import annotations

import importlib
from functools import cache
from types import ModuleType

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from flows.spectrum import Spectrum
from geometry.names import unknown_name
from geometry.smoothing import SMOOTHINGS

Array = NDArray[np.float64]

# Smaller scales underflow once they are squared twice.
SMALLEST_BETA = 1e-60


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


def compiled_velocity(
    states: Tensor, target: Tensor, beta: float | Tensor, l2: float = 0.0, smoothing: str = "sqrt"
) -> Tensor:
    """-T_beta(G) for the gradients of 1/2 ||b a - y||^2 + l2/2 (||b||^2 + ||a||^2).

    A lane's result depends on no other lane and on no position, to the bit. The error is about
    u ||G|| / beta, that of the SVD route. A lane whose gradient is not finite, or is beyond 1e70,
    is NaN; the others do not notice.

    Args:
        states: (L, 2, d, r), b above a^T; float64, CPU, contiguous.
        target: (L, d, d), y; float64, CPU, contiguous.
        beta: smoothing scale from 1e-60 up, one number or one a lane (L,), float64 on the CPU.
        l2: coefficient of the coupled regulariser.
        smoothing: "sqrt" or "tanh", as in :data:`geometry.smoothing.SMOOTHINGS`.

    Returns:
        (L, 2, d, r), float64.

    Raises:
        ValueError: another dtype, device, layout or shape; beta out of range; unknown smoothing.
        KernelUnavailable: numba cannot be imported.

    The first call in a process loads the kernel, the first on a machine compiles it.
    """
    _check(states, target, smoothing)
    lanes, _, d, r = states.shape
    velocity = torch.empty_like(states)
    _kernel().fill_velocity(
        states.detach().numpy(),
        target.detach().numpy(),
        _scales(beta, lanes),
        float(l2),
        smoothing == "tanh",
        velocity.numpy(),
        np.empty((0, 2, d, r)),
        np.empty((0, 2, r, r)),
        np.empty((0, 2, r)),
    )
    return velocity


def compiled_spectrum(
    states: Tensor, target: Tensor, beta: float | Tensor, l2: float = 0.0, smoothing: str = "sqrt"
) -> Spectrum:
    """:func:`compiled_velocity`, to the bit, and the gradients and spectra that it is made of.

    Arguments and errors are the same. Lanes that are NaN are so in every output.
    """
    _check(states, target, smoothing)
    lanes, _, _, r = states.shape
    scales = _scales(beta, lanes)
    velocity, gradient = torch.empty_like(states), torch.empty_like(states)
    vectors, values = states.new_empty(lanes, 2, r, r), states.new_empty(lanes, 2, r)
    _kernel().fill_velocity(
        states.detach().numpy(),
        target.detach().numpy(),
        scales,
        float(l2),
        smoothing == "tanh",
        *(part.numpy() for part in (velocity, gradient, vectors, values)),
    )
    inverse = SMOOTHINGS[smoothing].on_gram_eigenvalues(
        values.square(), torch.from_numpy(scales)[:, None, None]
    )
    return Spectrum(velocity, gradient, vectors, values, inverse.reciprocal())


@cache
def _kernel() -> ModuleType:
    reason = why_unavailable()
    if reason is not None:
        raise KernelUnavailable(reason)
    # Here and not above: this import is what needs numba.
    return importlib.import_module("flows.compiled.kernel")


def _check(states: Tensor, target: Tensor, smoothing: str) -> None:
    if smoothing not in SMOOTHINGS:
        raise unknown_name("smoothing", smoothing, SMOOTHINGS)
    for name, tensor in (("states", states), ("target", target)):
        _require_double_on_cpu(name, tensor)
        if not tensor.is_contiguous():
            raise ValueError(
                f"{name}: a contiguous tensor is expected; given shape {tuple(tensor.shape)} "
                f"with strides {tensor.stride()}"
            )
    if states.ndim != 4 or states.shape[1] != 2 or 0 in states.shape[2:]:
        raise ValueError(f"states: shape (L, 2, d, r) is expected; given {tuple(states.shape)}")
    lanes, _, d, _ = states.shape
    if target.shape != (lanes, d, d):
        raise ValueError(
            f"target: shape {(lanes, d, d)} is expected for states {tuple(states.shape)}; "
            f"given {tuple(target.shape)}"
        )


def _require_double_on_cpu(name: str, tensor: Tensor) -> None:
    if tensor.dtype != torch.float64 or tensor.device.type != "cpu":
        raise ValueError(
            f"{name}: the compiled kernel is for float64 on the CPU; "
            f"given {tensor.dtype} on {tensor.device}"
        )


def _scales(beta: float | Tensor, lanes: int) -> Array:
    """beta as a contiguous array (lanes,)."""
    if isinstance(beta, Tensor):
        _require_double_on_cpu("beta", beta)
        beta = beta.detach()
    scales = np.asarray(beta, dtype=np.float64)
    if scales.ndim == 0:
        scales = np.full(lanes, scales)
    elif scales.shape != (lanes,):
        raise ValueError(
            f"beta: one number or one a lane {(lanes,)} is expected; given shape {scales.shape}"
        )
    if not ((scales >= SMALLEST_BETA) & (scales < np.inf)).all():
        raise ValueError(
            f"beta must be finite and >= {SMALLEST_BETA:g} in every lane, given {beta}"
        )
    return np.ascontiguousarray(scales)
