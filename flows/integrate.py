"""The public face of the integrators."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from flows.adaptive import AdaptiveRun, Control, Convergence
from flows.arrivals import Levels
from flows.coordinates import AmbientCoordinates, Coordinates, ReducedCoordinates
from flows.fields import Field
from flows.fixed_step import run_fixed
from flows.problem import MatrixFactorization
from flows.recording import Record
from flows.runge_kutta import Method
from flows.starts import Factors
from flows.tableaux import TABLEAUX
from flows.trajectory import Trajectory
from geometry.errors import require_finite, require_matrices, require_positive
from geometry.names import unknown_name

DEFAULT_RTOL = 1e-9


def integrate(
    field: Field,
    start: Factors,
    times: Tensor | Sequence[float],
    *,
    method: str = "dormand_prince",
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
        method: a name in ``flows.tableaux.TABLEAUX``. "dormand_prince" is adaptive; with a fixed
            ``step`` any will do, and "euler" makes the field its optimiser.
        rtol, atol: of each component's local error, in the coordinates of the integration. By
            default rtol is 1e-9, or 32 eps of the dtype where that is more, and atol rtol / 100.
        step: a fixed step for all lanes; ``times`` are then multiples of it.
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
    problem = field.problem
    if method not in TABLEAUX:
        raise unknown_name("method", method, TABLEAUX)
    tableau = TABLEAUX[method]
    grid = _checked_times(times, problem)
    B, A, batch = _checked_start(problem, start)
    if field.scales is not None and field.scales.shape != (B.shape[0],):
        raise ValueError(
            f"beta: one number, or one a lane ({B.shape[0]},), is expected; "
            f"given shape {tuple(field.scales.shape)}"
        )
    if step is None and tableau.error is None:
        raise ValueError(f"method {method!r} has no error estimate: it needs a fixed step=...")
    if step is None and not field.continuous:
        raise ValueError(
            f"{field.name}: the field jumps, so no adaptive method applies; "
            "give method='euler' and a step, or a positive beta"
        )
    if coordinates is None:
        if reduce:
            coordinates = ReducedCoordinates.of(problem, B, A)
        else:
            coordinates = AmbientCoordinates(problem)
    state = coordinates.restrict(B, A)
    for fraction in arrivals:
        require_positive("arrivals", fraction)
    levels = Levels(state.new_tensor(list(arrivals))[:, None] * problem.singular_values)
    record = Record(state, grid, *levels.values.shape)
    scheme = Method.on(tableau, state)
    if step is None:
        relative, absolute = _tolerances(rtol, atol, problem.dtype)
        stops = stop_when_converged and field.weight_decay == 0
        control = Control(
            rtol=relative,
            atol=absolute,
            stop=Convergence.of(problem, relative + absolute) if stops else None,
            max_steps=max_steps,
            progress=progress,
        )
        AdaptiveRun(field, coordinates, state, scheme, levels, control, record).to_end()
    else:
        require_positive("step", step)
        run_fixed(field, coordinates, state, scheme, levels, step, record, progress)

    def again(fraction: float) -> Trajectory:
        return integrate(
            field,
            start,
            grid[-1:],
            method=method,
            rtol=rtol,
            atol=atol,
            step=step,
            coordinates=coordinates,
            arrivals=(fraction,),
            stop_when_converged=stop_when_converged,
            max_steps=max_steps,
        )

    located = {float(f): record.arrivals[:, i] for i, f in enumerate(arrivals)}
    return Trajectory(field, coordinates, batch, grid, record.states, record.work(), located, again)


def _tolerances(rtol: float | None, atol: float | None, dtype: torch.dtype) -> tuple[float, float]:
    eps = torch.finfo(dtype).eps
    relative = max(DEFAULT_RTOL, 32 * eps) if rtol is None else rtol
    absolute = relative / 100 if atol is None else atol
    require_positive("rtol", relative)
    require_positive("atol", absolute)
    if relative < 8 * eps:
        raise ValueError(
            f"rtol: at least {8 * eps:.1e}, 8 eps, is expected in {dtype}; given {relative:g}"
        )
    return relative, absolute


def _checked_times(times: Tensor | Sequence[float], problem: MatrixFactorization) -> Tensor:
    grid = torch.as_tensor(times, dtype=problem.dtype, device=problem.device).contiguous()
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


def _checked_start(
    problem: MatrixFactorization, start: Factors
) -> tuple[Tensor, Tensor, torch.Size]:
    """The factors with their batch dimensions flattened to lanes, and the batch shape."""
    B, A = start
    (m, n), r = problem.shape, problem.rank
    for name, factor, shape in (("B", B, (m, r)), ("A", A, (r, n))):
        require_matrices(name, factor)
        if factor.shape[-2:] != shape:
            raise ValueError(
                f"{name}: shape (..., {shape[0]}, {shape[1]}) is expected for a {m} x {n} target "
                f"and rank {r}; given {tuple(factor.shape)}"
            )
        if (factor.dtype, factor.device) != (problem.dtype, problem.device):
            raise ValueError(
                f"{name}: the problem's {problem.dtype} on {problem.device} is expected; "
                f"given {factor.dtype} on {factor.device}"
            )
        require_finite(name, factor)
    if B.shape[:-2] != A.shape[:-2]:
        raise ValueError(
            f"B and A: the same leading batch dimensions are expected; "
            f"given {tuple(B.shape[:-2])} and {tuple(A.shape[:-2])}"
        )
    return B.reshape(-1, m, r), A.reshape(-1, r, n), B.shape[:-2]
