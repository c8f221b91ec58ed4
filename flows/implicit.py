"""Implicit steps for stiff spectral flows: Radau IIA collocation with a structured Jacobian.

Every lane iterates on the stages of a step of its own; a call makes one correction in every lane of
the batch, and lanes whose iteration has ended begin their next step while the others go on.

A predicted stage is off by more than beta in the directions of modes that have converged, and there
the velocity saturates. What a Newton step with the frozen metric (:mod:`flows.frozen_metric`) makes
of that is right, but only with the metric of that very stage. A correction therefore gives each
stage its own and couples them by the lower triangle of A = L U in place of A: the stages are solved
one after the other, each with a real shift, and what the triangle leaves out is nilpotent where the
flow is not stiff and vanishes where it is. Anderson's method accelerates. Where that led astray the
lane tries again without.

Steps end at the requested times, for the end of a step is accurate to order 2s - 1 where the
collocation polynomial within is to order s, and well before a mode arrives: s / |ds/dt| is how long
that takes, and a step across it would fail. Arrivals are located on the polynomial.

References: Hairer, Wanner, Solving Ordinary Differential Equations II, IV.8; van der Houwen, de
Swart 1997, Triangularly implicit iteration methods for ODE-IVP solvers, SIAM J. Sci. Comput. 18.
"""

from __future__ import annotations

import torch
from torch import Tensor

from flows.anderson import Anderson
from flows.attempt import Attempts
from flows.coordinates import ReducedCoordinates
from flows.explicit import ExplicitStepper
from flows.fields import Field
from flows.frozen_metric import FAST, FrozenMetric
from flows.radau import Radau
from flows.tolerance import Tolerance

STAGES, CORRECTIONS = 3, 12
# The iteration may leave this share of what the estimate may be, and what was asked for at most.
REMAINDER = 0.1
SAFETY, SLOWEST, FASTEST = 0.8, 0.1, 8.0
# What a step whose iteration failed is cut to.
AFTER_FAILURE = 0.3
# A step covers at most this share of the way to the next arrival, until the mode is closer to it
# than CLOSE beta.
APPROACH, CLOSE = 0.5, 10.0

# What a stepper keeps of every lane, lanes first.
LANEWISE = (
    *("t", "y", "f", "_count", "singular_values", "arrival", "planned", "slack", "failed"),
    *(
        "rejections",
        "last_h",
        "last_error",
        "has_last",
        "h",
        "target",
        "correction",
        "rises",
        "size",
    ),
)


class ImplicitStepper:
    """Lanes from ``start`` (L, 2 d, r) to the last of ``times``.

    Args:
        tolerance: what the ends of the steps have to meet.
        after: the explicit steps that came before, of the same lanes; None for a start at 0.
    """

    def __init__(
        self,
        field: Field,
        coordinates: ReducedCoordinates,
        start: Tensor,
        tolerance: Tolerance,
        times: Tensor,
        after: ExplicitStepper | None = None,
    ) -> None:
        self.field, self.coordinates, self.tolerance = field, coordinates, tolerance
        self.times, self.shape = times, start.shape[1:]
        self.end = float(times[-1])
        self.method = Radau.on(STAGES, start)
        count, size = start.shape[0], start[0].numel()
        self.t, self.y = start.new_zeros(count), start.flatten(1)
        never = torch.zeros(count, dtype=torch.bool, device=start.device)
        self._count = never + 1
        self.slack = tolerance.slack(_beta(self.field).expand(count))
        self.f, self.filter, self.singular_values = self._at_start()
        self.arrival = torch.full_like(self.t, torch.inf)
        if after is not None:
            self.t, self._count = after.t, self._count + after.evaluations
        self.planned = self._first_step() if after is None else after.h
        # The last accepted step and its increments, which the next are predicted from.
        self.last_h, self.last_error = self.planned.clone(), torch.ones_like(self.t)
        self.last_Z, self.has_last = start.new_zeros(STAGES, count, size), never
        self.rejections, self.failed = never + 0, never.clone()
        # The step under way: its length, the time it ends at, its stages and how they settle.
        self.h, self.target, self.Z = self.planned.clone(), self.t.clone(), self.last_Z.clone()
        self.correction, self.rises, self.size = never + 0, never + 0, torch.zeros_like(self.t)
        self._stacked = self._all_stages()
        self.history = Anderson(self.Z)
        self._begin(torch.arange(count, device=start.device))

    def advance(self, most: int) -> Attempts | None:
        ratio = self._correct()
        remainder = (1 / self.slack).clamp_max(REMAINDER)
        small = self.size <= remainder * (1 / ratio - 1).clamp(0.1, 10.0)
        settled = small & (ratio < 0.9) | (self.size <= 0.1 * remainder)
        self.rises = self.rises + (ratio > 1)
        hopeless = (self.correction >= CORRECTIONS) | (self.rises >= 2)
        over = settled | hopeless | ~torch.isfinite(self.size)
        if not bool(over.any()):
            return None
        lanes = over.nonzero().squeeze(-1)
        return self._conclude(lanes, settled[lanes])

    def stiff(self) -> bool:
        return False

    def stuck(self) -> Tensor:
        return (self.planned < 1e-14 * self.t.clamp_min(1e-6 * self.end)) & (self.t < self.end)

    def select(self, stay: Tensor) -> None:
        self.coordinates, self.field = self.coordinates.select(stay), self.field.select(stay)
        self.history.select(stay)
        self._stacked = self._all_stages()
        self.filter = self.filter.select(stay)
        for name in LANEWISE:
            setattr(self, name, getattr(self, name)[stay])
        self.last_Z, self.Z = self.last_Z[:, stay], self.Z[:, stay]

    def _all_stages(self) -> tuple[Field, ReducedCoordinates]:
        """The field and the coordinates of all stages of all lanes, stage by stage."""
        lanes = torch.arange(len(self.coordinates.lanes), device=self.y.device).repeat(STAGES)
        return self.field.select(lanes), self.coordinates.select(lanes)

    def _correct(self) -> Tensor:
        """One correction in every lane, and how its size compares to the last, (L,)."""
        proposed = self._proposed_compiled() if self.field.compiled else self._proposed()
        accelerate = (self.correction > 0) & ~self.failed
        step = self.history.step(self.Z, proposed, accelerate)
        self.Z = self.Z + step
        scale = self.slack[:, None] * self.tolerance.scale(self.y, self.y)
        size = (step / scale).abs().amax((0, 2))
        # Nothing is known of the ratio after the first correction.
        ratio = torch.where(self.correction > 0, size / self.size, 0.95)
        self.size, self.correction = size, self.correction + 1
        self._count = self._count + STAGES
        return ratio

    def _proposed(self) -> Tensor:
        """What is to be added to the stages; the metric of the last one is noted."""
        method, count = self.method, len(self.t)
        stages = self.y + self.Z
        field, coordinates = self._stacked
        spectrum = field.spectrum(coordinates, stages.flatten(0, 1).unflatten(1, self.shape))
        velocity = spectrum.velocity.reshape(stages.shape)
        if self.field.weight_decay:
            velocity = velocity - self.field.weight_decay * stages
        reach = method.lower.diagonal()[:, None] * self.h
        metric = FrozenMetric.at(
            self._pair(stages).flatten(0, 1), spectrum, _beta(field), reach.flatten()
        )
        residual = _mix(method.inverse, self.Z).div_(-self.h[:, None]).add_(velocity)
        proposed = torch.empty_like(residual)
        shifts = method.lower_inverse[:, :, None] / self.h
        for stage in range(STAGES):
            for before in range(stage):
                shift = shifts[stage, before, :, None]
                residual[stage].addcmul_(proposed[before], shift, value=-1)
            own = metric.select(slice(stage * count, (stage + 1) * count))
            solved = own.solve(shifts[stage, stage], self._pair(residual[stage]))
            proposed[stage] = solved.flatten(1)
        self._end = own, _in_order(spectrum.singular_values[-count:])
        return proposed

    def _proposed_compiled(self) -> Tensor:
        """:meth:`_proposed` in one call."""
        proposed, values, parts = self.field.compiled_correction(
            self.coordinates, self._pair(self.y), self._pair(self.Z), self.h, self.method, FAST
        )
        self._end = FrozenMetric(*parts, compiled=True), _in_order(values)
        return proposed.flatten(2)

    def _conclude(self, lanes: Tensor, settled: Tensor) -> Attempts:
        """Judge the steps whose iteration is over, and begin the next."""
        method = self.method
        start, y, h, Z = self.t[lanes], self.y[lanes], self.h[lanes], self.Z[:, lanes]
        y1, end = y + Z[-1], self.target[lanes]
        error = self._error(lanes, y, y1, h, Z)
        good = settled & (error <= 1.0)
        rejections, last_h = self.rejections[lanes], self.last_h[lanes]
        order = STAGES + 1
        factor = SAFETY * error.clamp_min(1e-8) ** (-1 / order)
        # Gustafsson's prediction follows how the error changed with the last step.
        trend = (
            factor * (h / last_h) * (self.last_error[lanes] / error.clamp_min(1e-8)) ** (1 / order)
        )
        up = torch.where(self.has_last[lanes], torch.minimum(factor, trend), factor)
        up = torch.where(rejections > 0, up.clamp_max(1.0), up).clamp(0.2, FASTEST)
        # Where an arrival begins, the error falls by far less than the order promises.
        down = (
            factor.clamp_max(0.9).where(rejections == 0, factor.clamp_max(0.5)).clamp_min(SLOWEST)
        )
        new = h * torch.where(good, up, torch.where(settled, down, AFTER_FAILURE))
        # A step that a requested time cut short says nothing against the one that was planned.
        cut = good & (h < self.planned[lanes]) & (up >= 1.0)
        self.planned[lanes] = torch.where(cut, torch.maximum(new, self.planned[lanes]), new)
        accepted = lanes[good]
        self.last_h[accepted], self.last_Z[:, accepted] = h[good], Z[:, good]
        self.last_error[accepted] = error[good].clamp_min(1e-2)
        self.has_last[accepted] = True
        self.rejections[lanes] = torch.where(good, 0, rejections + 1)
        self.failed[lanes] = ~good & (~settled | self.failed[lanes])
        if len(accepted):
            self.y[accepted], self.t[accepted] = y1[good], end[good]
            # The end of the step is its last stage: what the last correction found there is good
            # to the remainder, and so is the slope of the collocation polynomial.
            slope = torch.einsum("s,sln->ln", method.inverse[-1], Z) / h[:, None]
            self.f[accepted] = slope[good]
            metric, singular_values = self._end
            self.arrival[accepted] = self._until_arrival(accepted, singular_values, h[good])
            self.singular_values[accepted] = singular_values[accepted]
            self.filter.put(accepted, metric.select(accepted))
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
            evaluations=self._count[lanes][None],
            within=within,
        )

    def _error(self, lanes: Tensor, y: Tensor, y1: Tensor, h: Tensor, Z: Tensor) -> Tensor:
        """The embedded estimate, filtered by (1 - h J / real)^-1: stiff parts do not count.

        J is the start's: a mode that arrives within the step is stiff at its later stages already,
        and would have its own error filtered away.
        """
        method = self.method
        raw = h[:, None] * method.start_weight * self.f[lanes]
        raw = raw + torch.einsum("s,sln->ln", method.error, Z)
        shift = method.real / h
        filtered = (
            self.filter.select(lanes).solve(shift, self._pair(raw * shift[:, None])).flatten(1)
        )
        error = (filtered / self.tolerance.scale(y, y1)).abs().amax(-1) / self.slack[lanes]
        return torch.where(torch.isfinite(error), error, torch.inf)

    def _begin(self, lanes: Tensor) -> None:
        """Set the next step of ``lanes`` and predict its stages."""
        t = self.t[lanes]
        planned = torch.minimum(self.planned[lanes], APPROACH * self.arrival[lanes])
        self.planned[lanes] = planned
        upcoming = torch.searchsorted(self.times, t, right=True)
        requested = self.times[upcoming.clamp_max(len(self.times) - 1)]
        left = requested - t
        cut = planned >= left * (1 - 1e-10)
        h = torch.where(cut, left, planned).clamp_min(torch.finfo(t.dtype).tiny)
        self.h[lanes], self.target[lanes] = h, torch.where(cut, requested, t + h)
        theta = 1 + self.method.nodes * (h / self.last_h[lanes])[:, None]
        last = self.last_Z[:, lanes]
        onward = torch.einsum("lis,sln->iln", self.method.basis_at(theta), last) - last[-1]
        straight = self.method.nodes[:, None, None] * h[:, None] * self.f[lanes]
        # Extrapolated far beyond a step, the polynomial says nothing: no component moves much
        # faster than at speed 1 in a spectral flow.
        sane = self.has_last[lanes] & (onward.abs().amax((0, 2)) <= 10 * h)
        self.Z[:, lanes] = torch.where(sane[:, None], onward, straight)
        self.correction[lanes], self.rises[lanes] = 0, 0

    def _first_step(self) -> Tensor:
        """The state may change by a hundredth of its size, or of the tolerance's root."""
        speed = self.f.abs().amax(-1).clamp_min(1e-300)
        room = torch.maximum(
            0.01 * self.y.abs().amax(-1), (self.slack * self.tolerance.rtol).sqrt()
        )
        return (room / speed).clamp_max(self.end)

    def _pair(self, states: Tensor) -> Tensor:
        return states.unflatten(-1, (2, -1, self.shape[-1]))

    def _at_start(self) -> tuple[Tensor, FrozenMetric, Tensor]:
        """Velocity, metric of modes arrived and singular values at the first state."""
        y, field = self.y, self.field
        spectrum = field.spectrum(self.coordinates, y.unflatten(1, self.shape))
        reach = torch.zeros_like(y[:, 0])
        metric = FrozenMetric.at(self._pair(y), spectrum, _beta(field), reach, field.compiled)
        velocity = spectrum.velocity.reshape(y.shape)
        ordered = _in_order(spectrum.singular_values)
        return velocity - field.weight_decay * y, metric, ordered

    def _until_arrival(self, lanes: Tensor, singular_values: Tensor, h: Tensor) -> Tensor:
        """(P,): the flow time until the next singular value of a gradient reaches 0.

        ``singular_values`` (L, 2 r) ascend; the rate is that of the step that ended, h (P,) long.
        """
        beta = _beta(self.field)
        close = CLOSE * (beta if beta.ndim == 0 else beta[lanes, None])
        now = singular_values[lanes]
        rate = (self.singular_values[lanes] - now) / h[:, None]
        time = torch.where(rate > 0, now / rate, torch.inf)
        return torch.where(now > close, time, torch.inf).amin(1)


def _mix(matrix: Tensor, stages: Tensor) -> Tensor:
    """sum_j matrix_ij stages_j of stages (s, L, N)."""
    return (matrix @ stages.flatten(1)).view(stages.shape)


def _in_order(singular_values: Tensor) -> Tensor:
    """Those of both gradients (L, 2, r) together, ascending, (L, 2 r)."""
    return singular_values.flatten(1).sort(1).values


def _beta(field: Field) -> Tensor:
    assert field.scales is not None
    return field.scales
