"""Vector fields: what moves the factors, given their gradients.

A field is a problem, a direction (a spectral function of each gradient) and a decoupled weight
decay. The coupled regulariser belongs to the problem. The same field drives the flow (any adaptive
method of :func:`flows.integrate`) and the optimiser (``method="euler"``: GD, SpecGD, Muon without
momentum), one unit of flow time per 1/eta steps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from flows.compiled import CompiledIteration, CompiledMarcher, compiled_velocity
from flows.coordinates import AmbientCoordinates, Coordinates, ReducedCoordinates
from flows.march import Marcher, StepControl
from flows.problem import MatrixFactorization
from flows.radau import Radau
from flows.runge_kutta import Method
from flows.spectrum import Spectrum, spectrum_of
from flows.starts import Factors
from flows.tolerance import Tolerance
from geometry.errors import require_nonnegative
from geometry.names import unknown_name
from geometry.orthogonalizers import orthogonalizer_named
from geometry.polar import ROUTES, Route, msign, orthogonalize, smoothed_msign
from geometry.smoothing import SMOOTHINGS

GRAM_TOLERANCE = 1e-8
# Its square has to be a number.
LARGEST_BETA = 1e150


@dataclass(frozen=True)
class Field:
    """d(B, A)/dt = -direction(G_B, G_A) - weight_decay (B, A).

    Attributes:
        direction: maps gradients (..., p, r) to directions; orthogonally equivariant, or the exact
            reduction does not apply.
        scales: the direction's parameter, () for all lanes or one a lane (lanes,); None without.
        smoothing: the name of the smoothed polar factor that the direction is, with ``scales`` its
            beta; None for other directions.
        compiled: whether the optional compiled kernel computes it (reduced coordinates, float64
            on the CPU).
        continuous: False where the direction jumps (the exact polar factor), so that only a fixed
            step makes sense.
        name: for messages and evidence.
    """

    problem: MatrixFactorization
    direction: Callable[[Tensor, Tensor | None], Tensor]
    name: str
    scales: Tensor | None = None
    weight_decay: float = 0.0
    continuous: bool = True
    smoothing: str | None = None
    compiled: bool = False

    def __call__(self, B: Tensor, A: Tensor) -> Factors:
        """The velocity (dB/dt, dA/dt) at factors B (..., m, r) and A (..., r, n).

        Raises:
            ValueError: as :meth:`MatrixFactorization.require_factors`.
        """
        self.problem.require_factors(B, A)
        coordinates = AmbientCoordinates(self.problem)
        return coordinates.factors(self.velocity(coordinates, coordinates.restrict(B, A)))

    def velocity(self, coordinates: Coordinates, states: Tensor) -> Tensor:
        """The velocity of states (L, p + q, r) in any coordinates.

        NaN in lanes whose gradient is not finite, which the direction never sees: LAPACK would
        refuse the whole batch for one of them.
        """
        if self.compiled:
            pair, target = states.unflatten(-2, (2, -1)), self._target(coordinates)
            beta, smoothing = self._beta
            moved = compiled_velocity(pair.contiguous(), target, beta, self.problem.l2, smoothing)
            return self._decayed(moved.view(states.shape), states)
        gradient, sound, finite = self._finite_gradient(coordinates, states)
        moved = coordinates.join(
            tuple(self._direct(block) for block in coordinates.blocks(gradient))
        ).neg()
        if not sound:
            moved = torch.where(finite, moved, torch.nan)
        return self._decayed(moved, states)

    def spectrum(self, coordinates: Coordinates, states: Tensor) -> Spectrum:
        """The velocity of states (L, p + q, r) and what it is made of, in reduced coordinates.

        The velocity is without weight decay; NaN in lanes whose gradient is not finite.
        """
        beta, smoothing = self._beta
        gradient, sound, finite = self._finite_gradient(coordinates, states)
        (pair,) = coordinates.blocks(gradient)
        spectrum = spectrum_of(pair, beta if beta.ndim == 0 else beta[:, None], smoothing)
        if sound:
            return spectrum
        return spectrum._replace(
            velocity=torch.where(finite[..., None], spectrum.velocity, torch.nan)
        )

    @property
    def marches_compiled(self) -> bool:
        """Whether the compiled kernel takes whole explicit steps."""
        return self.compiled and self.smoothing == "sqrt"

    def compiled_marcher(
        self,
        coordinates: Coordinates,
        method: Method,
        control: StepControl,
        tolerance: Tolerance,
        y: Tensor,
        most: int,
        needed: Tensor | None,
    ) -> Marcher:
        """Explicit steps of states like y (L, 2, d, r) by the compiled kernel.

        Args:
            needed: flow times within whose attempts stages are asked for; None for any.
        """
        beta, _ = self._beta
        target, l2, decay = self._target(coordinates), self.problem.l2, self.weight_decay
        return CompiledMarcher(method, control, tolerance, y, target, beta, l2, decay, most, needed)

    def compiled_iteration(
        self,
        coordinates: Coordinates,
        method: Radau,
        tolerance: Tolerance,
        times: Tensor,
        corrections: int,
        inside: bool,
    ) -> CompiledIteration:
        """What makes corrections of implicit steps by the compiled kernel."""
        beta, smoothing = self._beta
        target, l2, decay = self._target(coordinates), self.problem.l2, self.weight_decay
        return CompiledIteration(
            len(target),
            (target.shape[-1], self.problem.rank),
            (target, beta, l2, decay, smoothing),
            method,
            tolerance,
            times,
            corrections,
            inside,
        )

    def select(self, lanes: Tensor) -> Field:
        """The field of some of the lanes."""
        if self.scales is None or self.scales.ndim == 0:
            return self
        return replace(self, scales=self.scales[lanes])

    @property
    def _beta(self) -> tuple[Tensor, str]:
        assert self.scales is not None, f"{self.name} has no spectrum"
        assert self.smoothing is not None, f"{self.name} has no spectrum"
        return self.scales, self.smoothing

    def _target(self, coordinates: Coordinates) -> Tensor:
        assert isinstance(coordinates, ReducedCoordinates)
        return coordinates.target

    def _finite_gradient(
        self, coordinates: Coordinates, states: Tensor
    ) -> tuple[Tensor, bool, Tensor]:
        """The gradient, 0 in lanes where it is not finite; whether there are none; (L, 1, 1)."""
        gradient = coordinates.gradient(states)
        finite = torch.isfinite(gradient.sum((-2, -1)))[..., None, None]
        sound = bool(finite.all())
        return gradient if sound else torch.where(finite, gradient, 0.0), sound, finite

    def _decayed(self, moved: Tensor, states: Tensor) -> Tensor:
        return moved.sub_(states, alpha=self.weight_decay) if self.weight_decay else moved

    def _direct(self, block: Tensor) -> Tensor:
        if self.scales is None or self.scales.ndim == 0:
            return self.direction(block, None)
        axes = (1,) * (block.ndim - 2 - self.scales.ndim)
        return self.direction(block, self.scales.reshape(*self.scales.shape, *axes))


def gradient_flow(problem: MatrixFactorization, *, weight_decay: float = 0.0) -> Field:
    """GF: dB/dt = -G_B, dA/dt = -G_A. Its Euler iterates are gradient descent.

    Args:
        weight_decay: decoupled decay; for the coupled regulariser give the problem an ``l2``.
    """
    require_nonnegative("weight_decay", weight_decay)
    return Field(problem, lambda G, _: G, "gradient flow", weight_decay=weight_decay)


def spectral_flow(
    problem: MatrixFactorization,
    beta: float | Tensor,
    *,
    smoothing: str = "sqrt",
    route: Route = "auto",
    weight_decay: float = 0.0,
) -> Field:
    """SpecGF: dB/dt = -T_beta(G_B), dA/dt = -T_beta(G_A). Its Euler iterates are SpecGD.

    Args:
        beta: smoothing scale, one number or one a lane (lanes,). 0 is the exact polar factor: a
            field that jumps, for ``method="euler"`` alone.
        smoothing: "sqrt", s / sqrt(s^2 + beta^2), or "tanh", tanh(s / beta).
        route: how T_beta is computed. The Gram route perturbs the velocity of a converged mode by
            about u (||G|| / beta)^2; "auto" takes it while that stays below 1e-8 for the largest
            gradient a balanced mode meets, 2 (sigma_1 / 3)^(3/2), and the SVD beyond.
        weight_decay: decoupled decay.

    Raises:
        ValueError: for a negative or non-finite beta, one beyond the problem's dtype, an unknown
            smoothing or route.

    Source: Kang et al. 2026, arXiv 2602.06385.
    """
    require_nonnegative("weight_decay", weight_decay)
    if smoothing not in SMOOTHINGS:
        raise unknown_name("smoothing", smoothing, SMOOTHINGS)
    if route not in ROUTES:
        raise unknown_name("route", route, ROUTES)
    scales = _scales(beta, problem)
    smallest = float(scales.min())
    if float(scales.max()) == 0.0:
        return Field(
            problem,
            lambda G, _: msign(G),
            "spectral descent, exact polar factor",
            weight_decay=weight_decay,
            continuous=False,
        )
    if smallest == 0.0:
        raise ValueError(f"beta: all zero or all positive is expected; given {scales.tolist()}")
    if route == "auto":
        peak = 2.0 * (max(problem.singular_values.tolist(), default=0.0) / 3.0) ** 1.5
        u, ratio = torch.finfo(problem.dtype).eps / 2, peak / smallest
        # Of more than that Python refuses to take the square.
        route = "gram" if ratio < 1e100 and u * ratio**2 <= GRAM_TOLERANCE else "svd"

    single = float(scales) if scales.ndim == 0 else 0.0

    def direction(G: Tensor, per_lane: Tensor | None) -> Tensor:
        # A number is not checked again, so no device is waited for.
        scale = single if per_lane is None else per_lane
        return smoothed_msign(G, scale, smoothing=smoothing, route=route)

    return Field(
        problem,
        direction,
        f"spectral flow, {smoothing}",
        scales,
        weight_decay,
        smoothing=smoothing,
    )


def _scales(beta: float | Tensor, problem: MatrixFactorization) -> Tensor:
    """beta in the problem's dtype on its device; ValueError where it is none, or out of range."""
    try:
        given = torch.as_tensor(beta, dtype=torch.float64, device="cpu").detach()
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(f"beta: one number, or one a lane, is expected; given {beta!r}") from None
    if not given.numel():
        raise ValueError("beta: one number, or one a lane, is expected; given none")
    info = torch.finfo(problem.dtype)
    low, high = info.tiny, min(info.max, LARGEST_BETA)
    for scale in given.flatten().tolist():
        require_nonnegative("beta", scale)
        # What would underflow would be another field: the exact polar factor.
        if scale and not low <= scale <= high:
            raise ValueError(
                f"beta: 0, or a number from {low:.3g} to {high:.3g} in {problem.dtype}, is "
                f"expected; given {scale:g}"
            )
    return torch.as_tensor(beta, dtype=problem.dtype, device=problem.device)


def orthogonalized_flow(
    problem: MatrixFactorization, method: str, steps: int, *, weight_decay: float = 0.0
) -> Field:
    """dB/dt = -O(G_B), dA/dt = -O(G_A) for an inexact orthogonaliser O, such as Newton–Schulz.

    Its Euler iterates are Muon without momentum. Polynomial orthogonalisers normalise by ||G||, so
    the field jumps where a gradient vanishes: it is for ``method="euler"``.

    Args:
        method, steps: as in :func:`geometry.polar.orthogonalize`.

    Raises:
        ValueError: as there, of method and steps.
    """
    orthogonalizer_named(method).polynomials(steps)
    require_nonnegative("weight_decay", weight_decay)
    return Field(
        problem,
        lambda G, _: orthogonalize(G, method=method, steps=steps),
        f"orthogonalised by {method}, {steps} steps",
        weight_decay=weight_decay,
        continuous=False,
    )
