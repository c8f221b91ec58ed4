"""The kernels in terms of tensors: what it is given is checked, nothing is copied or converted.

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

from flows.runge_kutta import Method, Trial
from flows.spectrum import Spectrum
from flows.tolerance import Tolerance
from geometry.names import unknown_name
from geometry.smoothing import SMOOTHINGS

Array = NDArray[np.float64]
# slow, basis, dual, rates and states, as FrozenMetric has them.
Factorisation = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


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
    lanes, _, d, _ = _lanes("states", states)
    if smoothing != "sqrt":
        return compiled_spectrum(states, target, beta, l2, smoothing).velocity
    velocity = np.empty(states.shape)
    kernel = _kernel("velocity")
    arrays = _array("states", states, states.shape), _array("target", target, (lanes, d, d))
    _require_in_range(
        kernel.fill_velocity(*arrays, _scales(beta, lanes), float(l2), velocity), beta
    )
    return torch.from_numpy(velocity)


class CompiledTrials:
    """What ``PlainTrials`` are, for the square-root smoothing.

    A lane's result depends on no other lane and on no position, to the bit.

    Args:
        y: (L, 2, d, r), states of the shape that is to be expected.
        target: (L, d, d). beta: (L,). l2, decay: coupled and decoupled regularisation.
        most: how many attempts' stages are kept.

    Raises:
        ValueError: another dtype, device, layout or shape; beta out of range.
        KernelUnavailable: numba cannot be imported.
    """

    def __init__(
        self,
        method: Method,
        y: Tensor,
        tolerance: Tolerance,
        target: Tensor,
        beta: Tensor,
        l2: float,
        decay: float,
        most: int,
    ) -> None:
        lanes, _, d, r = _lanes("states", y)
        self._kernel = _kernel("step")
        self._shape, self._method, self._tolerance = tuple(y.shape), method, tolerance
        self._target = _array("target", target, (lanes, d, d))
        self._beta, self._l2, self._decay = _scales(beta, lanes), l2, decay
        self._width = self._kernel.WIDTH
        blocks, count = -(-lanes // self._width), method.tableau.stages + 1
        # Claimed once, for fresh pages cost time.
        self._stages = np.empty((most, blocks, count, 2 * d * r, self._width))

    def attempt(self, number: int, y: Tensor, f: Tensor, h: Tensor) -> Trial:
        """A step from y (L, N), where y' = f, with the steps h (L,)."""
        tableau, tolerance = self._method.tableau, self._tolerance
        lanes = self._shape[0]
        flat = (lanes, self._stages.shape[3])
        ends, measured = np.empty((2, *self._shape)), np.empty((3, lanes))
        is_in_range = self._kernel.fill_step(
            _array("states", y, flat).reshape(self._shape),
            _array("velocities", f, flat).reshape(self._shape),
            _array("steps", h, (lanes,)),
            self._target,
            self._beta,
            self._l2,
            self._decay,
            tableau.rows,
            tableau.error,
            tolerance.rtol,
            tolerance.atol,
            self._stages[number],
            ends,
            measured,
        )
        _require_in_range(is_in_range, torch.from_numpy(self._beta))
        end, velocity = torch.from_numpy(ends).flatten(2)
        error, apart, change = torch.from_numpy(measured)
        return Trial(end, velocity, error, self._method.stable_step(apart, change))

    def stages(self, number: Tensor, index: Tensor) -> Tensor:
        """The stages of attempts ``number`` (E,) of lanes ``index`` (E,), (S + 1, E, N)."""
        block, lane = index // self._width, index % self._width
        kept = torch.from_numpy(self._stages)
        return kept[number, block, :, :, lane].transpose(0, 1)


def compiled_spectrum(
    states: Tensor, target: Tensor, beta: float | Tensor, l2: float = 0.0, smoothing: str = "sqrt"
) -> Spectrum:
    """The velocity as :func:`compiled_velocity` has it, and what it is made of.

    The velocities agree to round-off: this one is made by the singular vectors, that one without.
    Arguments and errors are the same. Lanes that are NaN are so in every output.
    """
    if smoothing not in SMOOTHINGS:
        raise unknown_name("smoothing", smoothing, SMOOTHINGS)
    lanes, _, d, r = _lanes("states", states)
    filled = _empty((lanes, 2), (d, r), (d, r), (r, r), (r,), (r,))
    arrays = _array("states", states, states.shape), _array("target", target, (lanes, d, d))
    is_tanh, scales = smoothing == "tanh", _scales(beta, lanes)
    _require_in_range(
        _kernel("spectrum").fill_spectrum(*arrays, scales, float(l2), is_tanh, *filled), beta
    )
    return Spectrum(*map(torch.from_numpy, filled))


def compiled_factorisation(
    pair: Tensor, spectrum: Spectrum, beta: float | Tensor, reach: Tensor, fast: float
) -> Factorisation:
    """The parts of ``FrozenMetric.at``: (slow, basis, dual, rates, states).

    The columns of basis and dual, the rates and the columns of states come in an order and with
    signs of their own, which no solve depends on. A lane's result depends on no other lane and on
    no position, to the bit. A lane with an input that is not finite or a metric that is not
    positive is NaN in every part; the others do not notice.

    Args:
        pair: (L, 2, d, r), B above A^T. spectrum: of the gradients there; its velocity is not read.
        beta: smoothing scale, one number or one a lane (L,). reach: (L,), the flow time that a step
            may cover. fast: a mode may be slow where its metric exceeds ``fast`` beta.

    All tensors are float64, CPU, contiguous.

    Returns:
        slow (L, 2, d, r), basis (L, 2, r, r), dual (L, 2, r, r), rates (L, 2, r) and states
        (L, 2, d, r).

    Raises:
        ValueError: another dtype, device, layout or shape.
        KernelUnavailable: numba cannot be imported.
    """
    lanes, _, d, r = _lanes("pair", pair)
    filled = _empty((lanes, 2), (d, r), (r, r), (r, r), (r,), (d, r))
    _kernel("metric").fill_factorisation(
        _array("pair", pair, (lanes, 2, d, r)),
        _array("gradient", spectrum.gradient, (lanes, 2, d, r)),
        _array("vectors", spectrum.vectors, (lanes, 2, r, r)),
        _array("singular_values", spectrum.singular_values, (lanes, 2, r)),
        _array("metric", spectrum.metric, (lanes, 2, r)),
        _scales(beta, lanes),
        _array("reach", reach, (lanes,)),
        float(fast),
        *filled,
    )
    slow, basis, dual, rates, states = map(torch.from_numpy, filled)
    return slow, basis, dual, rates, states


def compiled_solution(parts: Factorisation, shifts: Tensor, residual: Tensor) -> Tensor:
    """(z - J_W)^-1 R for one real shift a lane: ``FrozenMetric.solve``.

    A lane's result depends on no other lane and on no position, to the bit. A lane that is not
    finite is NaN; the others do not notice.

    Args:
        parts: from :func:`compiled_factorisation`. shifts: (L,), z. residual: (L, 2, d, r), R.

    All tensors are float64, CPU, contiguous.

    Returns:
        (L, 2, d, r), float64.

    Raises:
        ValueError: another dtype, device, layout or shape.
        KernelUnavailable: numba cannot be imported.
    """
    lanes, _, d, r = _lanes("residual", residual)
    slow, basis, dual, rates, states = parts
    solution = np.empty(residual.shape)
    _kernel("metric").fill_solution(
        _array("slow", slow, (lanes, 2, d, r)),
        _array("basis", basis, (lanes, 2, r, r)),
        _array("dual", dual, (lanes, 2, r, r)),
        _array("rates", rates, (lanes, 2, r)),
        _array("states", states, (lanes, 2, d, r)),
        _array("shifts", shifts, (lanes,)),
        _array("residual", residual, (lanes, 2, d, r)),
        solution,
    )
    return torch.from_numpy(solution)


@cache
def _kernel(name: str) -> ModuleType:
    reason = why_unavailable()
    if reason is not None:
        raise KernelUnavailable(reason)
    # Here and not above: this import is what needs numba.
    return importlib.import_module(f"flows.compiled.{name}")


def _require_in_range(is_in_range: bool, beta: float | Tensor) -> None:
    if not is_in_range:
        smallest = _kernel("velocity").SMALLEST_BETA
        raise ValueError(f"beta must be finite and >= {smallest:g} in every lane, given {beta}")


def _lanes(name: str, tensor: Tensor) -> tuple[int, ...]:
    """The shape (L, 2, d, r)."""
    shape = tuple(tensor.shape)
    if len(shape) != 4 or shape[1] != 2 or 0 in shape[2:]:
        raise ValueError(f"{name}: shape (L, 2, d, r) is expected; given {shape}")
    return shape


def _empty(batch: tuple[int, int], *shapes: tuple[int, ...]) -> list[Array]:
    return [np.empty(batch + shape) for shape in shapes]


def _array(name: str, tensor: Tensor, shape: tuple[int, ...]) -> Array:
    """The tensor's own memory."""
    if tensor.dtype is not torch.float64 or not tensor.is_cpu:
        raise ValueError(
            f"{name}: the compiled kernel is for float64 on the CPU; "
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


def _scales(beta: float | Tensor, lanes: int) -> Array:
    """beta as a contiguous array (lanes,)."""
    if not isinstance(beta, Tensor):
        return np.full(lanes, beta, dtype=np.float64)
    if beta.ndim == 1 and beta.shape != (lanes,):
        raise ValueError(
            f"beta: one number or one a lane {(lanes,)} is expected; "
            f"given shape {tuple(beta.shape)}"
        )
    scales = _array("beta", beta.contiguous(), beta.shape if beta.ndim == 0 else (lanes,))
    return scales if scales.ndim else np.full(lanes, scales)
