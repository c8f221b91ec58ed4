"""The kernels of explicit and of implicit steps in a row in terms of tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from flows.compiled.arguments import array_of, kernel_of, lanes_of, require_in_range, scales_of
from flows.compiled.sharing import shared
from flows.march import March, StepControl
from flows.radau import Radau
from flows.rules import RULES
from flows.runge_kutta import STABILITY_SHARE, Method
from flows.tolerance import Tolerance


class CompiledMarcher:
    """What ``PlainMarcher`` is, for the square-root smoothing.

    A lane's result depends on no other lane and on no position, to the bit.

    Args:
        y: (L, 2, d, r), states like those to come. most: how many attempts there may be in a row.
        target: (L, d, d). beta: (L,). l2, decay: coupled and decoupled regularisation.
        needed: (T,), the ascending flow times within whose attempts stages are asked for; None
            where they may be asked for of any.

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
        needed: Tensor | None = None,
    ) -> None:
        lanes, _, d, r = lanes_of("states", y)
        self._kernel = kernel_of("march")
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
        self._target = array_of("target", target, (lanes, d, d))
        self._beta, self._regularisers = scales_of(beta, lanes), (float(l2), float(decay))
        self._width = self._kernel.WIDTH
        times = y.new_empty(0) if needed is None else needed
        self._needed = array_of("needed", times, tuple(times.shape)), needed is None
        # Claimed once, for fresh pages cost time; what is not kept claims none.
        self._kept = np.empty((most, lanes, tableau.stages + 1, 2 * d * r))

    def go(self, count: int, t: Tensor, planned: Tensor, y: Tensor, f: Tensor) -> March:
        """``count`` attempts from y (L, N) at times t (L,), where y' = f."""
        lanes, size = self._shape[0], self._kept.shape[3]
        states, velocity = np.empty((count, *self._shape)), np.empty(self._shape)
        good, passed = np.empty((count, lanes), np.bool_), np.empty((2, count, lanes))
        onward = np.empty(lanes)
        is_in_range = shared(
            self._kernel.fill_march,
            lanes,
            self._width,
            array_of("states", y, (lanes, size)).reshape(self._shape),
            array_of("velocities", f, (lanes, size)).reshape(self._shape),
            array_of("times", t, (lanes,)),
            array_of("steps", planned, (lanes,)),
            self._target,
            self._beta,
            *self._regularisers,
            *self._method,
            self._control,
            *self._needed,
            self._kept,
            states,
            velocity,
            good,
            passed,
            onward,
        )
        require_in_range(is_in_range, torch.from_numpy(self._beta))
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
        return torch.from_numpy(self._kept)[number, index].transpose(0, 1)


class Ended(NamedTuple):
    """What became of up to M implicit steps of every lane.

    Attributes:
        made: (L,), how many steps a lane has to show; what follows them in a column is undefined.
        good: (M, L) booleans, whether each step was accepted.
        start, step, end: (M, L), flow times. evaluations: (M, L), of the lane so far.
        states: (M, L, N), after it. increments: (M, S, L, N), its stages; (0, S, L, N) where nobody
            asks for them.
    """

    made: Tensor
    good: Tensor
    start: Tensor
    step: Tensor
    end: Tensor
    evaluations: Tensor
    states: Tensor
    increments: Tensor


class CompiledIteration:
    """Corrections of implicit steps in a row: what ``ImplicitStepper`` does without the kernel.

    A lane's result depends on no other lane and on no position, to the bit.

    Args:
        lanes, shape: L, d and r of states (L, 2 d r).
        field: target (L, d, d), beta (L,), coefficients of the coupled and of the decoupled
            regulariser, and the smoothing.
        times: that steps have to end at, ascending.
        corrections: of every lane, at a time.
        inside: whether stages will be asked for; where steps end is enough for the times.

    Raises:
        ValueError: another dtype, device, layout or shape; beta out of range.
        KernelUnavailable: numba cannot be imported.
    """

    def __init__(
        self,
        lanes: int,
        shape: tuple[int, int],
        field: tuple[Tensor, Tensor, float, float, str],
        method: Radau,
        tolerance: Tolerance,
        times: Tensor,
        corrections: int,
        inside: bool,
    ) -> None:
        self._kernel, control = kernel_of("collocation"), kernel_of("step_control")
        self._control = control
        target, self._beta, l2, decay, smoothing = field
        self._lanes, self._shape, self._stages = lanes, shape, method.stages
        pair = (2, *shape)
        # No lane ends more steps than it makes corrections. Claimed once, for fresh pages cost
        # time.
        self._ended = control.Ended(
            np.empty(lanes, np.int64),
            np.empty((corrections, lanes), np.bool_),
            *np.empty((3, corrections, lanes)),
            np.empty((corrections, lanes), np.int64),
            np.empty((corrections, lanes, *pair)),
            np.empty((corrections if inside else 0, method.stages, lanes, *pair)),
        )
        self._problem = (
            array_of("target", target, (lanes, shape[0], shape[0])),
            scales_of(self._beta, lanes),
            self._kernel.FlowOf(float(l2), float(decay), smoothing == "tanh"),
            self._kernel.Collocation(
                *(
                    array_of(name, getattr(method, name), tuple(getattr(method, name).shape))
                    for name in ("inverse", "lower_inverse", "nodes", "error", "bend")
                ),
                method.real,
                method.start_weight,
            ),
            RULES,
            (tolerance.rtol, tolerance.atol),
            array_of("times", times, tuple(times.shape)),
            corrections,
        )

    def go(self, now: Mapping[str, Tensor], most: int) -> Ended | None:
        """The steps that came to an end, at most ``most`` of a lane, or None where none did.

        Args:
            now: the tensors of ``flows.underway.Underway`` by their names; changed in place.

        What is returned holds until the next call.
        """
        underway = _arrays_of(now, self._stages, self._lanes, *self._shape)
        is_in_range = shared(
            self._kernel.fill_steps,
            self._lanes,
            self._kernel.WIDTH,
            self._control.Underway(**underway),
            self._ended,
            *self._problem,
            most,
        )
        require_in_range(is_in_range, self._beta)
        rows = int(self._ended.made.max())
        if not rows:
            return None
        found = self._control.Ended(*map(torch.from_numpy, self._ended))
        return Ended(
            found.made,
            found.good[:rows],
            found.start[:rows],
            found.step[:rows],
            found.end[:rows],
            found.evaluations[:rows],
            found.states[:rows].flatten(2),
            found.increments[:rows].flatten(3),
        )


def _arrays_of(
    now: Mapping[str, Tensor], stages: int, lanes: int, d: int, r: int
) -> dict[str, NDArray[Any]]:
    """The tensors' own memory, pairs of factors unfolded."""
    states = {
        **dict.fromkeys(("y", "f"), (lanes, 2 * d * r)),
        **dict.fromkeys(("Z", "last_Z"), (stages, lanes, 2 * d * r)),
    }
    shapes = {
        "singular_values": (lanes, 2 * r),
        **dict.fromkeys(("left", "states"), (lanes, 2, d, r)),
        **dict.fromkeys(("vectors", "grams", "weights", "basis", "dual"), (lanes, 2, r, r)),
        "rates": (lanes, 2, r),
    }
    kinds = {
        "has_last": torch.bool,
        **dict.fromkeys(("rejections", "correction", "rises", "evaluations"), torch.long),
    }
    found = {}
    for name, tensor in now.items():
        shape = (states | shapes).get(name, (lanes,))
        own = array_of(name, tensor, shape, kinds.get(name, torch.float64))
        found[name] = own.reshape(*shape[:-1], 2, d, r) if name in states else own
    return found
