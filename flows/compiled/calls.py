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

from flows.march import March, StepControl
from flows.radau import Radau
from flows.runge_kutta import STABILITY_SHARE, Method
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


class CompiledMarcher:
    """What ``PlainMarcher`` is, for the square-root smoothing.

    A lane's result depends on no other lane and on no position, to the bit.

    Args:
        y: (L, 2, d, r), states like those to come. most: how many attempts there may be in a row.
        target: (L, d, d). beta: (L,). l2, decay: coupled and decoupled regularisation.

    Raises:
        ValueError: another dtype, device, layout or shape; beta out of range.
        KernelUnavailable: numba cannot be imported.
    """

    def __init__(
        self,
        method: Method,
        control: StepControl,
        tolerance: Tolerance,
        y: Tensor,
        target: Tensor,
        beta: Tensor,
        l2: float,
        decay: float,
        most: int,
    ) -> None:
        lanes, _, d, r = _lanes("states", y)
        self._kernel = _kernel("march")
        self._shape, tableau = tuple(y.shape), method.tableau
        self._method = tableau.rows, tableau.error
        self._control = (
            control.end,
            -1.0 / control.order,
            control.safety,
            control.slowest,
            control.fastest,
            STABILITY_SHARE * tableau.stability,
            tolerance.rtol,
            tolerance.atol,
        )
        self._target = _array("target", target, (lanes, d, d))
        self._beta, self._regularisers = _scales(beta, lanes), (float(l2), float(decay))
        self._width = self._kernel.WIDTH
        blocks = -(-lanes // self._width)
        # Claimed once, for fresh pages cost time.
        self._stages = np.empty((most, blocks, tableau.stages + 1, 2 * d * r, self._width))

    def go(self, count: int, t: Tensor, planned: Tensor, y: Tensor, f: Tensor) -> March:
        """``count`` attempts from y (L, N) at times t (L,), where y' = f."""
        lanes, size = self._shape[0], self._stages.shape[3]
        states, velocity = np.empty((count, *self._shape)), np.empty(self._shape)
        good, passed = np.empty((count, lanes), np.bool_), np.empty((2, count, lanes))
        onward = np.empty(lanes)
        is_in_range = self._kernel.fill_march(
            _array("states", y, (lanes, size)).reshape(self._shape),
            _array("velocities", f, (lanes, size)).reshape(self._shape),
            _array("times", t, (lanes,)),
            _array("steps", planned, (lanes,)),
            self._target,
            self._beta,
            *self._regularisers,
            *self._method,
            self._control,
            self._stages,
            states,
            velocity,
            good,
            passed,
            onward,
        )
        _require_in_range(is_in_range, torch.from_numpy(self._beta))
        step, times = torch.from_numpy(passed)
        return March(
            torch.from_numpy(good),
            step,
            times,
            torch.from_numpy(states).flatten(2),
            torch.from_numpy(velocity).flatten(1),
            torch.from_numpy(onward),
        )

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


def compiled_correction(
    y: Tensor,
    Z: Tensor,
    h: Tensor,
    target: Tensor,
    beta: Tensor,
    field: tuple[float, float, str],
    method: Radau,
    fast: float,
) -> tuple[Tensor, Tensor, Factorisation]:
    """One correction of the stages of implicit steps; see ``ImplicitStepper``.

    A lane's result depends on no other lane and on no position, to the bit. A lane that is not
    finite is NaN; the others do not notice.

    Args:
        y: (L, 2, d, r), states before the steps. Z: (S, L, 2, d, r), increments of the stages.
        h: (L,). target: (L, d, d). beta: (L,).
        field: coefficients of the coupled and of the decoupled regulariser, and the smoothing.
        fast: a mode may be slow where its metric exceeds ``fast`` beta.

    All tensors are float64, CPU, contiguous.

    Returns:
        What is to be added to Z (S, L, 2, d, r); and of the last stage the singular values of the
        gradients (L, 2, r) and the parts of ``FrozenMetric.at``.

    Raises:
        ValueError: another dtype, device, layout or shape.
        KernelUnavailable: numba cannot be imported.
    """
    lanes, _, d, r = _lanes("states", y)
    l2, decay, smoothing = field
    proposed = np.empty((method.stages, *y.shape))
    filled = _empty((lanes, 2), (r,), (d, r), (r, r), (r, r), (r,), (d, r))
    is_in_range = _kernel("correction").fill_correction(
        _array("states", y, tuple(y.shape)),
        _array("increments", Z, proposed.shape),
        _array("steps", h, (lanes,)),
        _array("target", target, (lanes, d, d)),
        _scales(beta, lanes),
        float(l2),
        float(decay),
        smoothing == "tanh",
        float(fast),
        method.inverse.numpy(),
        method.lower.numpy(),
        method.lower_inverse.numpy(),
        proposed,
        *filled,
    )
    _require_in_range(is_in_range, beta)
    values, slow, basis, dual, rates, states = map(torch.from_numpy, filled)
    return torch.from_numpy(proposed), values, (slow, basis, dual, rates, states)


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
