"""Aligned starts and the closed forms that their modes follow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import sympy as sp
import torch

from claims.measuring.flowing import integrate_there
from claims.measuring.intervals import Array
from claims.registry import Setting
from claims.uniform_spectral_growth.toy import SINGULAR_VALUES, toy
from flows import Field, MatrixFactorization, gradient_flow, spectral_flow
from flows.closed_forms import (
    ClosedForm,
    gradient_flow_balanced,
    gradient_flow_lora,
    opposite_signs,
    regularised_gradient_flow,
    same_sign,
    smoothed_state,
    unit_rate_balanced,
)
from flows.closed_forms import gradient_flow as gradient_flow_forms
from flows.closed_forms.smoothed import balanced_velocity

TARGETS = np.array(SINGULAR_VALUES)
LAM = 0.5


@dataclass(frozen=True)
class Aligned:
    """An aligned start, the same (b0, a0) for every mode, and the form its modes follow.

    ``end`` lies before the first arrival for the forms of beta -> 0, behind the last elsewhere.
    """

    name: str
    b0: float
    a0: float
    field: Callable[[MatrixFactorization], Field]
    form: Callable[[Array, Array], Array]
    end: float
    l2: float = 0.0

    def largest_error(self, setting: Setting, seeds: range) -> float:
        """max |d_i(t) - form| over seeds, times and modes; a seed draws target and rotation."""
        problem = toy(seeds[0], l2=self.l2)
        ones = torch.ones(problem.rank, dtype=problem.dtype)
        start = problem.aligned_init(self.b0 * ones, self.a0 * ones, seed=seeds)
        times = torch.linspace(0.0, self.end, setting["points"], dtype=problem.dtype)
        trajectory = integrate_there(
            setting, self.field(problem), start, times, rtol=3e-11, atol=3e-13
        )
        predicted = self.form(times.numpy()[:, None], TARGETS)
        return float(np.abs(trajectory.mode_values.numpy() - predicted).max())


def _smoothed(beta: float) -> Callable[[MatrixFactorization], Field]:
    return lambda problem: spectral_flow(problem, beta)


ALIGNED = (
    Aligned(
        "unit rate, same sign",
        0.6,
        0.4,
        _smoothed(1e-6),
        lambda t, sigma: same_sign(t, 0.4, 0.6),
        0.4,
    ),
    Aligned(
        "unit rate, balanced",
        0.1,
        0.1,
        _smoothed(1e-6),
        lambda t, sigma: unit_rate_balanced(t, 0.1),
        0.8,
    ),
    Aligned(
        "unit rate, opposite signs",
        0.5,
        -0.2,
        _smoothed(1e-8),
        lambda t, sigma: opposite_signs(t, -0.2, 0.5),
        0.8,
    ),
    Aligned(
        "smoothed, balanced, beta 0.1",
        0.03,
        0.03,
        _smoothed(0.1),
        lambda t, sigma: smoothed_state(t, sigma, 0.1, 0.03) ** 2,
        3.0,
    ),
    Aligned(
        "smoothed, balanced, beta 0.02",
        0.03,
        0.03,
        _smoothed(0.02),
        lambda t, sigma: smoothed_state(t, sigma, 0.02, 0.03) ** 2,
        2.5,
    ),
    Aligned(
        "regularised, smoothed, balanced",
        0.03,
        0.03,
        _smoothed(0.1),
        lambda t, sigma: smoothed_state(t, sigma - LAM, 0.1, 0.03) ** 2,
        3.0,
        LAM,
    ),
    Aligned(
        "gradient flow, balanced",
        0.03,
        0.03,
        gradient_flow,
        lambda t, sigma: gradient_flow_balanced(t, sigma, 0.03**2),
        8.0,
    ),
    Aligned(
        "gradient flow, LoRA start",
        0.0,
        1e-3,
        gradient_flow,
        lambda t, sigma: gradient_flow_lora(t, sigma, 1e-3),
        14.0,
    ),
    Aligned(
        "regularised gradient flow, balanced",
        0.03,
        0.03,
        gradient_flow,
        lambda t, sigma: regularised_gradient_flow(t, sigma, LAM, 0.03**2),
        12.0,
        LAM,
    ),
)

_x_logistic = sp.sqrt(gradient_flow_forms.BALANCED.expression)
MISPLACED_FORM = ClosedForm(
    name="gradient flow's form in SpecGF",
    formula=gradient_flow_forms.BALANCED.formula,
    arguments=gradient_flow_forms.BALANCED.arguments,
    expression=_x_logistic,
    zeros={
        "dx/dt = g / sqrt(g^2 + beta^2)": sp.diff(_x_logistic, gradient_flow_forms.t)
        - balanced_velocity(_x_logistic, gradient_flow_forms.sigma),
    },
)
MISPLACED = Aligned(
    "gradient flow's form in SpecGF",
    0.03,
    0.03,
    _smoothed(0.1),
    lambda t, sigma: gradient_flow_balanced(t, sigma, 0.03**2),
    3.0,
)
