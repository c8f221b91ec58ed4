"""Which orthogonaliser a group of Muon or Tensorion has: its options, checked and applied.

They are ``orthogonalizer``, ``orthogonalizer_parameters``, ``ns_steps``, ``ns_coefficients`` and
``eps``, as `simulate.optimizers.Muon` describes them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from geometry.bfloat16_newton_schulz import COEFFICIENTS, EPS, STEPS, bfloat16_newton_schulz
from geometry.errors import require_positive, require_positive_int
from geometry.names import unknown_name
from geometry.orthogonalizers import ORTHOGONALIZERS
from geometry.polar import orthogonalize

OF_TORCH = "torch"


def orthogonalized(D: Tensor, options: Mapping[str, Any]) -> Tensor:
    """The direction D (..., m, n) orthogonalised; bfloat16 from torch's, else in D's dtype."""
    name, steps = options["orthogonalizer"], options["ns_steps"]
    if name == OF_TORCH:
        steps = STEPS if steps is None else steps
        return bfloat16_newton_schulz(D, options["ns_coefficients"], steps, options["eps"])
    return orthogonalize(D, name, steps, **options["orthogonalizer_parameters"])


def require_orthogonalizer(options: Mapping[str, Any]) -> None:
    """Raise ValueError for an unknown orthogonaliser, or what it does not have or take."""
    name, steps = options["orthogonalizer"], options["ns_steps"]
    coefficients, eps = tuple(options["ns_coefficients"]), options["eps"]
    parameters = options["orthogonalizer_parameters"]
    if name == OF_TORCH:
        if len(coefficients) != 3 or not all(map(math.isfinite, coefficients)):
            raise ValueError(f"ns_coefficients must be three finite numbers, got {coefficients}")
        require_positive("eps", eps)
        if steps is not None:
            require_positive_int("ns_steps", steps)
        if parameters:
            raise ValueError(
                f"orthogonalizer 'torch' has ns_coefficients and eps, "
                f"got orthogonalizer_parameters={dict(parameters)}"
            )
        return
    if name not in ORTHOGONALIZERS:
        raise unknown_name("orthogonalizer", name, [OF_TORCH, *ORTHOGONALIZERS])
    if coefficients != COEFFICIENTS or eps != EPS:
        raise ValueError(
            f"ns_coefficients and eps are those of orthogonalizer 'torch', "
            f"got {coefficients} and {eps} with {name!r}"
        )
    ORTHOGONALIZERS[name].polynomials(steps, **parameters)
