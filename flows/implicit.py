"""Implicit steps for stiff spectral flows: Radau IIA collocation with a structured Jacobian.

Every lane iterates on the stages of a step of its own, and lanes whose iteration has ended begin
their next step while the others go on. The plain path makes one correction in every lane at a call,
the compiled one several in a row.

A predicted stage is off by more than beta in the directions of modes that have converged, and there
the velocity saturates. What a Newton step with the frozen metric (:mod:`flows.frozen_metric`) makes
of that is right, but only with the metric of that very stage. A correction therefore gives each
stage its own, and solves A^-1 D / h - J D = R by sweeps: with A = L U, L stands in for A, so that
the stages are solved one after the other, each with a real shift, and what L leaves out goes to the
right-hand side of the next sweep. That is nilpotent where the flow is not stiff and vanishes where
it is; in between a sweep leaves .14 of it, and costs no singular value decomposition.

Steps end at the requested times, for the end of a step is accurate to order 2s - 1 where the
collocation polynomial within is to order s, and well before a mode arrives: s / |ds/dt| is how long
that takes, and a step across it would fail. Arrivals are located on the polynomial.

References: Hairer, Wanner, Solving Ordinary Differential Equations II, IV.8; van der Houwen, de
Swart 1997, Triangularly implicit iteration methods for ODE-IVP solvers, SIAM J. Sci. Comput. 18.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from flows.attempt import Attempts
from flows.compiled import CompiledIteration
from flows.coordinates import ReducedCoordinates
from flows.explicit import ExplicitStepper
from flows.fields import Field
from flows.frozen_metric import FrozenMetric
from flows.radau import Radau
from flows.rules import RULES, STAGES
from flows.spectrum import Spectrum
from flows.tolerance import Tolerance
from flows.underway import UNKNOWN, Underway

# Corrections in a row, before anybody looks at what they led to.
SPAN = 48


class ImplicitStepper:
    """Lanes from ``start`` (L, 2 d, r) to the last of ``times``.

    Args:
        tolerance: what the ends of the steps have to meet.
        after: the explicit steps that came before, of the same lanes; None for a start at 0.
        inside: whether states will be asked for at other times than those.
    """

    def __init__(
        self,
        field: Field,
        coordinates: ReducedCoordinates,
        start: Tensor,
        tolerance: Tolerance,
        times: Tensor,
        after: ExplicitStepper | None = None,
        inside: bool = True,
    ) -> None:
        self.field, self.coordinates, self.tolerance = field, coordinates, tolerance
        self.times, self.shape, self.inside = times, start.shape[1:], inside
        self.end = float(times[-1])
        self.method = Radau.on(STAGES, start)
        count, y = start.shape[0], start.flatten(1)
        self.now = now = Underway.at_rest(y, *self._at_start(y), STAGES)
        now.slack = tolerance.slack(_beta(self.field).expand(count)).contiguous()
        now.evaluations += 1
        if after is not None:
            now.t, now.planned = after.t.clone(), after.h.clone()
            now.evaluations += after.evaluations
        else:
            now.planned = self._first_step()
        now.last_h = now.planned.clone()
        self._prepare()
        self._begin(torch.arange(count, device=start.device))

    @property
    def t(self) -> Tensor:
        return self.now.t

    @property
    def y(self) -> Tensor:
        return self.now.y

    @property
    def f(self) -> Tensor:
        return self.now.f

    def advance(self, most: int) -> Attempts | None:
        if self.field.compiled:
            return self._march(most)
        now, ratio = self.now, self._correct()
        remainder = (1 / now.slack).clamp_max(RULES.remainder)
        small = now.size <= remainder * (1 / ratio - 1).clamp(0.1, 10.0)
        now.rises = now.rises + (ratio > 1)
        # What grew once does not shrink as it did last.
        settled = small & (ratio < 0.9) & (now.rises == 0) | (now.size <= 0.1 * remainder)
        hopeless = (now.correction >= RULES.corrections) | (now.rises >= 2)
        over = settled | hopeless | ~torch.isfinite(now.size)
        if not bool(over.any()):
            return None
        lanes = over.nonzero().squeeze(-1)
        return self._conclude(lanes, settled[lanes])

    def stiff(self, left: Callable[[], Tensor]) -> bool:
        return False

    def stuck(self) -> Tensor:
        now = self.now
        return (now.planned < 1e-14 * now.t.clamp_min(1e-6 * self.end)) & (now.t < self.end)

    def select(self, stay: Tensor) -> None:
        self.coordinates, self.field = self.coordinates.select(stay), self.field.select(stay)
        self.now = self.now.select(stay)
        self._prepare()

    def _march(self, most: int) -> Attempts | None:
        """SPAN corrections of every lane in one call, and the steps that came to an end."""
        now = self.now
        # Nobody asks for states within the first step where only ends are wanted.
        begin = now.y.clone() if self.inside else now.y
        assert self._iteration is not None
        ended = self._iteration.go(now.tensors(), most)
        if ended is None:
            return None
        states = ended.states

        def within(number: Tensor, index: Tensor, theta: Tensor) -> Tensor:
            if not self.inside:
                assert bool((theta == 1.0).all()), "steps end at the requested times"
                return states[number, index]
            before = states[number - 1, index].where(number[:, None] > 0, begin[index])
            Z = ended.increments[number, :, index]
            inside = before + torch.einsum("es,esn->en", self.method.basis_at(theta), Z)
            return states[number, index].where(theta[:, None] == 1.0, inside)

        # A lane with fewer steps than another has none to show for the rest; its last state is.
        rows = torch.arange(len(states), device=states.device)[:, None]
        absent = rows >= ended.made
        states[-1] = now.y
        return Attempts(
            lanes=torch.arange(len(now.t), device=states.device),
            good=ended.good & ~absent,
            start=torch.where(absent, self.end, ended.start),
            step=ended.step,
            end=torch.where(absent, self.end, ended.end),
            states=states,
            evaluations=torch.where(absent, now.evaluations, ended.evaluations),
            within=within,
        )

    def _prepare(self) -> None:
        """What the lanes of the batch are corrected by: the kernel, or the field and the
        coordinates of all stages of all lanes, stage by stage."""
        self._iteration: CompiledIteration | None = None
        self._stacked: tuple[Field, ReducedCoordinates] | None = None
        if self.field.compiled:
            self._iteration = self.field.compiled_iteration(
                self.coordinates, self.method, self.tolerance, self.times, SPAN, self.inside
            )
        else:
            count = len(self.coordinates.target)
            lanes = torch.arange(count, device=self.y.device).repeat(STAGES)
            self._stacked = self.field.select(lanes), self.coordinates.select(lanes)

    def _correct(self) -> Tensor:
        """One correction in every lane, and how its size compares to the last, (L,)."""
        now, step = self.now, self._proposed()
        now.Z = now.Z + step
        scale = now.slack * self.tolerance.overall(now.y)
        size = step.abs().amax((0, 2)) / scale
        # The first correction of a step shrinks like those of the last step.
        seen, expected = now.correction > 0, now.contraction.clamp(RULES.quickest, UNKNOWN)
        ratio = torch.where(seen, size / now.size, expected)
        now.contraction = torch.where(seen, ratio, now.contraction)
        now.size, now.correction = size, now.correction + 1
        now.evaluations = now.evaluations + STAGES
        return ratio

    def _proposed(self) -> Tensor:
        """What is to be added to the stages; the metric of the last one is noted."""
        method, now, count = self.method, self.now, len(self.now.t)
        stages = now.y + now.Z
        assert self._stacked is not None
        field, coordinates = self._stacked
        spectrum = field.spectrum(coordinates, stages.flatten(0, 1).unflatten(1, self.shape))
        velocity = spectrum.velocity.reshape(stages.shape)
        if self.field.weight_decay:
            velocity = velocity - self.field.weight_decay * stages
        residual = _mix(method.inverse, now.Z).div_(-now.h[:, None]).add_(velocity)
        shifts = method.lower_inverse[:, :, None] / now.h
        left_out = method.inverse - method.lower_inverse
        metrics: list[FrozenMetric] = []
        proposed = torch.zeros_like(residual)
        for _ in range(RULES.sweeps):
            given = residual - _mix(left_out, proposed) / now.h[:, None]
            for stage in range(STAGES):
                for before in range(stage):
                    shift = shifts[stage, before, :, None]
                    given[stage].addcmul_(proposed[before], shift, value=-1)
                own = self._pair(given[stage])
                if len(metrics) == stage:
                    here = slice(stage * count, (stage + 1) * count)
                    parts = Spectrum(*(part[here] for part in spectrum))
                    pair, beta = self._pair(stages[stage]), _beta(self.field)
                    metrics.append(FrozenMetric.at(pair, parts, beta, shifts[stage, stage], own))
                proposed[stage] = metrics[stage].solve(shifts[stage, stage], own).flatten(1)
        self._end = metrics[-1], _in_order(spectrum.singular_values[-count:])
        return proposed

    def _conclude(self, lanes: Tensor, settled: Tensor) -> Attempts:
        """Judge the steps whose iteration is over, and begin the next."""
        method, now = self.method, self.now
        start, y, h, Z = now.t[lanes], now.y[lanes], now.h[lanes], now.Z[:, lanes]
        y1, end = y + Z[-1], now.target[lanes]
        error = self._error(lanes, y, h, Z)
        good = settled & (error <= 1.0)
        rejections, last_h = now.rejections[lanes], now.last_h[lanes]
        power, least = 1 / RULES.order, error.clamp_min(1e-8)
        factor = RULES.safety * least**-power
        # Gustafsson's prediction follows how the error changed with the last step.
        trend = factor * (h / last_h) * (now.last_error[lanes] / least) ** power
        up = torch.where(now.has_last[lanes], torch.minimum(factor, trend), factor)
        up = torch.where(rejections > 0, up.clamp_max(1.0), up).clamp(0.2, RULES.fastest)
        # Where an arrival begins, the error falls by far less than the order promises.
        down = factor.clamp_max(0.9).where(rejections == 0, factor.clamp_max(0.5))
        down = down.clamp_min(RULES.slowest)
        new = h * torch.where(good, up, torch.where(settled, down, RULES.after_failure))
        # A step that a requested time cut short says nothing against the one that was planned.
        cut = good & (h < now.planned[lanes]) & (up >= 1.0)
        now.planned[lanes] = torch.where(cut, torch.maximum(new, now.planned[lanes]), new)
        accepted = lanes[good]
        now.last_h[accepted], now.last_Z[:, accepted] = h[good], Z[:, good]
        now.last_error[accepted] = error[good].clamp_min(1e-2)
        now.has_last[accepted] = True
        now.rejections[lanes] = torch.where(good, 0, rejections + 1)
        now.contraction[lanes] = torch.where(good, now.contraction[lanes], UNKNOWN)
        if len(accepted):
            now.y[accepted], now.t[accepted] = y1[good], end[good]
            # The end of the step is its last stage: what the last correction found there is good
            # to the remainder, and so is the slope of the collocation polynomial.
            slope = torch.einsum("s,sln->ln", method.inverse[-1], Z) / h[:, None]
            now.f[accepted] = slope[good]
            metric, singular_values = self._end
            now.arrival[accepted] = self._until_arrival(accepted, singular_values, h[good])
            now.singular_values[accepted] = singular_values[accepted]
            now.filter.put(accepted, metric.select(accepted))
        self._begin(lanes)

        def within(_: Tensor, index: Tensor, theta: Tensor) -> Tensor:
            inside = y[index] + torch.einsum("es,sen->en", method.basis_at(theta), Z[:, index])
            return torch.where(theta[:, None] == 1.0, y1[index], inside)

        return Attempts(
            lanes=lanes,
            good=good[None],
            start=start[None],
            step=h[None],
            end=torch.where(good, end, start)[None],
            states=torch.where(good[:, None], y1, y)[None],
            evaluations=now.evaluations[lanes][None],
            within=within,
        )

    def _error(self, lanes: Tensor, y: Tensor, h: Tensor, Z: Tensor) -> Tensor:
        """The embedded estimate, filtered by (1 - h J / real)^-1: stiff parts do not count.

        J is the start's and then the end's, and the larger error counts: a mode that arrives within
        the step is stiff at its end, one that departs at its start, and its own error would be
        filtered away.
        """
        method, now = self.method, self.now
        raw = h[:, None] * method.start_weight * now.f[lanes]
        raw = raw + torch.einsum("s,sln->ln", method.error, Z)
        shift = method.real / h
        given, ends = self._pair(raw * shift[:, None]), (now.filter, self._end[0])
        filtered = [end.select(lanes).solve(shift, given) for end in ends]
        largest = torch.stack(filtered).abs().amax((0, 2, 3, 4))
        error = largest / (now.slack[lanes] * self.tolerance.overall(y))
        return torch.where(torch.isfinite(error), error, torch.inf)

    def _begin(self, lanes: Tensor) -> None:
        """Set the next step of ``lanes`` and predict its stages."""
        now = self.now
        t = now.t[lanes]
        planned = torch.minimum(now.planned[lanes], RULES.approach * now.arrival[lanes])
        now.planned[lanes] = planned
        upcoming = torch.searchsorted(self.times, t, right=True)
        requested = self.times[upcoming.clamp_max(len(self.times) - 1)]
        left = requested - t
        cut = planned >= left * (1 - 1e-10)
        h = torch.where(cut, left, planned).clamp_min(torch.finfo(t.dtype).tiny)
        now.h[lanes], now.target[lanes] = h, torch.where(cut, requested, t + h)
        now.Z[:, lanes] = self._predicted(lanes, h)
        now.correction[lanes], now.rises[lanes] = 0, 0

    def _predicted(self, lanes: Tensor, h: Tensor) -> Tensor:
        """Increments of the stages of the next step, (S, P, N), by what the last one was.

        The collocation polynomial goes on where it bends alike at its end and across the step.
        Where it does not, as after an arrival, only the velocity is sure: each component has the
        lesser of the two curvatures.
        """
        now = self.now
        last, ratio = now.last_Z[:, lanes], h / now.last_h[lanes]
        slope = now.last_h[lanes, None] * now.f[lanes]
        at_end = torch.einsum("s,sln->ln", self.method.bend, last)
        whole = slope - last[-1]
        twist = at_end - whole
        largest = torch.maximum(at_end.abs(), whole.abs()).amax(1)
        smooth = (ratio * twist.abs().amax(1) <= RULES.smooth * largest) & now.has_last[lanes]
        bend = at_end.where(smooth[:, None], _lesser(at_end, whole))
        twist = twist.where(smooth[:, None], 0.0)
        x = (self.method.nodes[:, None] * ratio)[:, :, None]
        return x * (slope + x * (bend + x * twist))

    def _first_step(self) -> Tensor:
        """The state may change by a hundredth of its size, or of the tolerance's root."""
        now = self.now
        speed = now.f.abs().amax(-1).clamp_min(1e-300)
        room = torch.maximum(0.01 * now.y.abs().amax(-1), (now.slack * self.tolerance.rtol).sqrt())
        return (room / speed).clamp_max(self.end)

    def _pair(self, states: Tensor) -> Tensor:
        return states.unflatten(-1, (2, -1, self.shape[-1]))

    def _at_start(self, y: Tensor) -> tuple[Tensor, Tensor, FrozenMetric]:
        """Velocity, singular values and metric of modes arrived at the first state.

        By the plain path: for one state a lane, kernels of their own would take seconds to compile.
        """
        field = self.field
        spectrum = field.spectrum(self.coordinates, y.unflatten(1, self.shape))
        pair = self._pair(y)
        shifts, none = torch.ones_like(y[:, 0]), torch.zeros_like(pair)
        metric = FrozenMetric.at(pair, spectrum, _beta(field), shifts, none)
        velocity = spectrum.velocity.reshape(y.shape)
        ordered = _in_order(spectrum.singular_values)
        return velocity - field.weight_decay * y, ordered, metric

    def _until_arrival(self, lanes: Tensor, singular_values: Tensor, h: Tensor) -> Tensor:
        """(P,): the flow time until a singular value of a gradient is ``close`` beta beyond zero.

        ``singular_values`` (L, 2 r) ascend; the rate is that of the step that ended, h (P,) long.
        """
        beta = _beta(self.field)
        close = RULES.close * (beta if beta.ndim == 0 else beta[lanes, None])
        now = singular_values[lanes]
        rate = (self.now.singular_values[lanes] - now) / h[:, None]
        return torch.where(rate > 0, (now + close) / rate, torch.inf).amin(1)


def _mix(matrix: Tensor, stages: Tensor) -> Tensor:
    """sum_j matrix_ij stages_j of stages (s, L, N)."""
    return (matrix @ stages.flatten(1)).view(stages.shape)


def _lesser(a: Tensor, b: Tensor) -> Tensor:
    """Of two numbers of the same sign the one nearer to zero, else zero."""
    return torch.where(a.abs() < b.abs(), a, b).where(a * b > 0, 0.0)


def _in_order(singular_values: Tensor) -> Tensor:
    """Those of both gradients (L, 2, r) together, ascending, (L, 2 r)."""
    return singular_values.flatten(1).sort(1).values


def _beta(field: Field) -> Tensor:
    assert field.scales is not None
    return field.scales
