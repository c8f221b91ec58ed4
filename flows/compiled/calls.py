"""The kernels of velocities, spectra and metrics in terms of tensors."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from flows.compiled.arguments import (
    array_of,
    empty,
    kernel_of,
    lanes_of,
    require_in_range,
    scales_of,
)
from flows.rules import RULES
from flows.spectrum import Spectrum
from geometry.names import unknown_name
from geometry.smoothing import SMOOTHINGS

# The parts of a FrozenMetric, by its names and in its order.
Factorisation = tuple[Tensor, ...]


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
    lanes, _, d, _ = lanes_of("states", states)
    if smoothing != "sqrt":
        return compiled_spectrum(states, target, beta, l2, smoothing).velocity
    velocity = np.empty(states.shape)
    kernel = kernel_of("velocity")
    arrays = array_of("states", states, states.shape), array_of("target", target, (lanes, d, d))
    require_in_range(
        kernel.fill_velocity(*arrays, scales_of(beta, lanes), float(l2), velocity), beta
    )
    return torch.from_numpy(velocity)


def compiled_spectrum(
    states: Tensor, target: Tensor, beta: float | Tensor, l2: float = 0.0, smoothing: str = "sqrt"
) -> Spectrum:
    """The velocity as :func:`compiled_velocity` has it, and what it is made of.

    The velocities agree to round-off: this one is made by the singular vectors, that one without.
    Arguments and errors are the same. Lanes that are NaN are so in every output.
    """
    if smoothing not in SMOOTHINGS:
        raise unknown_name("smoothing", smoothing, SMOOTHINGS)
    lanes, _, d, r = lanes_of("states", states)
    filled = empty((lanes, 2), (d, r), (d, r), (r, r), (r,), (r,), (r,))
    arrays = array_of("states", states, states.shape), array_of("target", target, (lanes, d, d))
    is_tanh, scales = smoothing == "tanh", scales_of(beta, lanes)
    require_in_range(
        kernel_of("spectrum").fill_spectrum(*arrays, scales, float(l2), is_tanh, *filled), beta
    )
    return Spectrum(*map(torch.from_numpy, filled))


def compiled_factorisation(
    pair: Tensor, spectrum: Spectrum, beta: float | Tensor, shifts: Tensor, residual: Tensor
) -> Factorisation:
    """The parts of ``FrozenMetric.at``.

    Implicit steps have it within their own kernel; this is it by itself, to be measured.

    The columns of basis and dual, the rates and the columns of states come in an order and with
    signs of their own, which no solve depends on. A lane's result depends on no other lane and on
    no position, to the bit. A lane with an input that is not finite or a metric that is not
    positive is NaN in every part; the others do not notice.

    Args:
        pair: (L, 2, d, r), B above A^T. spectrum: of the gradients there; its velocity is not read.
        beta: smoothing scale, one number or one a lane (L,).
        shifts, residual: (L,) and (L, 2, d, r), of the system that says which modes arrive.

    All tensors are float64, CPU, contiguous.

    Returns:
        left (L, 2, d, r), vectors, grams, weights, basis and dual (L, 2, r, r), rates (L, 2, r) and
        states (L, 2, d, r).

    Raises:
        ValueError: another dtype, device, layout or shape.
        KernelUnavailable: numba cannot be imported.
    """
    lanes, _, d, r = lanes_of("pair", pair)
    kernel = kernel_of("metric")
    square, number = (r, r), (r,)
    shapes = (d, r), square, square, square, square, square, number, (d, r)
    filled = kernel.Metric(*empty((lanes, 2), *shapes))
    kernel.fill_factorisation(
        array_of("pair", pair, (lanes, 2, d, r)),
        array_of("gradient", spectrum.gradient, (lanes, 2, d, r)),
        array_of("vectors", spectrum.vectors, (lanes, 2, r, r)),
        array_of("singular_values", spectrum.singular_values, (lanes, 2, r)),
        array_of("metric", spectrum.metric, (lanes, 2, r)),
        array_of("slope", spectrum.slope, (lanes, 2, r)),
        scales_of(beta, lanes),
        (RULES.open, RULES.trusted, RULES.nearly),
        array_of("shifts", shifts, (lanes,)),
        array_of("residual", residual, (lanes, 2, d, r)),
        filled,
    )
    return tuple(map(torch.from_numpy, filled))


def compiled_solution(parts: Factorisation, shifts: Tensor, residual: Tensor) -> Tensor:
    """(z - J_W)^-1 R for one real shift a lane: ``FrozenMetric.solve``.

    Implicit steps solve within their own kernel; this is that solve by itself, to be measured.

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
    lanes, _, d, r = lanes_of("residual", residual)
    kernel = kernel_of("metric")
    shapes: dict[str, tuple[int, ...]]
    shapes = dict.fromkeys(kernel.Metric._fields, (lanes, 2, r, r))
    shapes.update(left=(lanes, 2, d, r), rates=(lanes, 2, r), states=(lanes, 2, d, r))
    given = zip(shapes.items(), parts, strict=True)
    solution = np.empty(residual.shape)
    kernel.fill_solution(
        kernel.Metric(*(array_of(name, part, shape) for (name, shape), part in given)),
        array_of("shifts", shifts, (lanes,)),
        array_of("residual", residual, (lanes, 2, d, r)),
        RULES.nearly,
        solution,
    )
    return torch.from_numpy(solution)
