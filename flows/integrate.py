"""The public face of the integrators."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext

import torch
from torch import Tensor

from flows.adaptive import AdaptiveRun, Control
from flows.arrivals import Levels
from flows.attempt import Stepper
from flows.choice import AUTO, EXPLICIT, IMPLICIT, Kernel, choose_kernel, choose_method
from flows.compiled import lanes_by_threads
from flows.convergence import Convergence
from flows.coordinates import Coordinates, ReducedCoordinates
from flows.explicit import ExplicitStepper
from flows.fields import Field
from flows.fixed_step import run_fixed
from flows.implicit import ImplicitStepper
from flows.problem import MatrixFactorization
from flows.recording import Record
from flows.runge_kutta import Method
from flows.starts import Factors
from flows.tableaux import TABLEAUX
from flows.tolerance import Tolerance
from flows.trajectory import Trajectory
from geometry.errors import require_finite, require_number, require_positive, require_positive_int

DEFAULT_RTOL = 1e-9


def integrate(
    field: Field,
    start: Factors,
    times: Tensor | Sequence[float],
    *,
    method: str = AUTO,
    kernel: Kernel = "auto",
    rtol: float | None = None,
    atol: float | None = None,
    step: float | None = None,
    reduce: bool = True,
    coordinates: Coordinates | None = None,
    arrivals: Sequence[float] = (0.9,),
    stop_when_converged: bool = True,
    max_steps: int = 100_000,
    progress: Callable[[float], None] | None = None,
) -> Trajectory:
    """Integrate a field from ``start`` at t = 0, recording the states at ``times``.

    Args:
        start: B (..., m, r) and A (..., r, n) with the same leading batch dimensions; every batch
            entry is a lane with its own step, error control and stop.
        times: ascending, none negative, the last positive; (T,).
        method: "dormand_prince" (explicit) and "radau" (implicit; smoothed spectral flows in the
            exact reduction, float64, no l2) are adaptive; "auto" begins with the first and goes on
            with the second, where it applies, once stability holds up most lanes. With a fixed
            ``step`` any explicit name in ``flows.tableaux.TABLEAUX`` will do, "auto" is the first,
            and "euler" makes the field its optimiser.
        kernel: "plain", "compiled" (numba, the extra ``fast``; smoothed spectral flows in the exact
            reduction, float64 on the CPU), or "auto": the second wherever it can be had. They agree
            to round-off; ``trajectory.work.kernel`` says which ran.
        rtol, atol: of each component's local error, in the coordinates of the integration. By
            default rtol is 1e-9, or 32 eps of the dtype where that is more, and atol rtol / 100.
            "radau" meets rtol at the requested times; arrivals, located between them, are good to
            about .1 rtol^(2/3).
        step: a fixed step for all lanes, without tolerances; ``times`` are then multiples of it.
        reduce: integrate in the exact reduction; False integrates the factors themselves.
        coordinates: coordinates to use instead of either.
        arrivals: fractions whose arrival times are located on the way.
        stop_when_converged: a lane stops, and its state holds from then on, once its gradient is
            below what the tolerances resolve and its loss below every saddle's (adaptive methods
            without decoupled weight decay, which moves the rest point).
        max_steps: attempted steps a lane before an adaptive integration gives up.
        progress: called with the share of the way behind the slowest lane, 0..1.

    Raises:
        ValueError: for input of the wrong shape, dtype, order or sign, and unknown names.
        IntegrationError: for a state or field that is not finite, and for too many steps; it
            carries time, lane and the last good factors.

    Returns:
        The trajectory, in the dtype and on the device of the problem.
    """
    if not isinstance(field, Field):
        raise ValueError(
            "field: a field of a problem, such as spectral_flow(problem, beta), is expected; "
            f"given {type(field).__name__}"
        )
    if step is not None:
        require_number("step", step)
    given = [name for name, value in (("rtol", rtol), ("atol", atol)) if value is not None]
    if step is not None and given:
        raise ValueError(
            f"step: no tolerance is expected beside a fixed step, which controls no error; "
            f"given step = {step:g} and {' and '.join(given)}"
        )
    problem = field.problem
    grid = _checked_times(times, problem)
    B, A, batch = problem.lanes(start)
    if field.scales is not None and field.scales.shape not in ((), (B.shape[0],)):
        raise ValueError(
            f"beta: one number, or one a lane ({B.shape[0]},), is expected; "
            f"given shape {tuple(field.scales.shape)}"
        )
    if coordinates is None:
        coordinates = problem.coordinates(B, A, reduce=reduce)
    asked = method
    method = choose_method(method, field, coordinates, step)
    running = choose_kernel(kernel, field, coordinates, B.shape[0])
    state = coordinates.restrict(B, A)
    fractions = _checked_fractions(arrivals)
    require_positive_int("max_steps", max_steps)
    levels = Levels(state.new_tensor(fractions)[:, None] * problem.singular_values)
    record = Record(state, grid, *levels.values.shape)
    if step is None:
        tolerance = Tolerance(*_tolerances(rtol, atol, problem.dtype))

        def implicit(
            after: Stepper | None, coordinates: Coordinates, lanes: Tensor | None
        ) -> Stepper:
            assert isinstance(coordinates, ReducedCoordinates)
            assert after is None or isinstance(after, ExplicitStepper)
            begin = state if after is None else after.y.unflatten(1, state.shape[1:])
            moving = running if lanes is None else running.select(lanes)
            inside = len(fractions) > 0
            return ImplicitStepper(moving, coordinates, begin, tolerance, grid, after, inside)

        stepper: Stepper
        if method == IMPLICIT:
            stepper = implicit(None, coordinates, None)
        else:
            scheme = Method.on(TABLEAUX[EXPLICIT if method == AUTO else method], state)
            end, needed = float(grid[-1]), None if fractions else grid
            stepper = ExplicitStepper(running, coordinates, state, scheme, tolerance, end, needed)
        stops = stop_when_converged and field.weight_decay == 0
        stop = Convergence.of(problem, tolerance.rtol + tolerance.atol) if stops else None
        control = Control(stop, max_steps, progress, implicit if method == AUTO else None)
        run = AdaptiveRun(stepper, coordinates, levels, control, record, state.shape[1:])
        with lanes_by_threads() if running.compiled else nullcontext():
            run.to_end()
        if method == AUTO:
            method = IMPLICIT if isinstance(run.stepper, ImplicitStepper) else EXPLICIT
    else:
        require_positive("step", step)
        scheme = Method.on(TABLEAUX[method], state)
        run_fixed(running, coordinates, state, scheme, levels, step, record, progress)

    def again(fraction: float) -> Trajectory:
        return integrate(
            field,
            start,
            grid,
            method=asked,
            kernel=kernel,
            rtol=rtol,
            atol=atol,
            step=step,
            coordinates=coordinates,
            arrivals=(fraction,),
            stop_when_converged=stop_when_converged,
            max_steps=max_steps,
        )

    work = record.work(method, "compiled" if running.compiled else "plain")
    located = {f: record.arrivals[:, i] for i, f in enumerate(fractions)}
    return Trajectory(problem, coordinates, batch, grid, record.states, field, work, located, again)


def _checked_fractions(arrivals: Sequence[float]) -> list[float]:
    if isinstance(arrivals, str) or not isinstance(arrivals, Iterable):
        raise ValueError(
            f"arrivals: fractions in a row, such as (0.9,), are expected; given {arrivals!r}"
        )
    fractions = list(arrivals)
    for fraction in fractions:
        require_positive("arrivals", fraction)
    return [float(fraction) for fraction in fractions]


def _tolerances(rtol: float | None, atol: float | None, dtype: torch.dtype) -> tuple[float, float]:
    eps = torch.finfo(dtype).eps
    relative = max(DEFAULT_RTOL, 32 * eps) if rtol is None else rtol
    require_positive("rtol", relative)
    absolute = relative / 100 if atol is None else atol
    require_positive("atol", absolute)
    if relative < 8 * eps:
        raise ValueError(
            f"rtol: at least {8 * eps:.1e}, 8 eps, is expected in {dtype}; given {relative:g}"
        )
    return float(relative), float(absolute)


def _checked_times(times: Tensor | Sequence[float], problem: MatrixFactorization) -> Tensor:
    try:
        grid = torch.as_tensor(times, dtype=problem.dtype, device=problem.device)
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(
            f"times: numbers in a row are expected; given {type(times).__name__}"
        ) from None
    grid = grid.detach().contiguous()
    if grid.ndim != 1 or len(grid) == 0:
        raise ValueError(f"times: numbers in a row are expected; given shape {tuple(grid.shape)}")
    require_finite("times", grid)
    falls = (grid.diff() <= 0).nonzero()
    if len(falls):
        i = int(falls[0])
        raise ValueError(
            f"times: ascending numbers are expected; given {float(grid[i]):g} before "
            f"{float(grid[i + 1]):g} at position {i}"
        )
    if float(grid[0]) < 0 or float(grid[-1]) <= 0:
        raise ValueError(
            "times: none negative and the last positive is expected; "
            f"given {float(grid[0]):g} to {float(grid[-1]):g}"
        )
    return grid
