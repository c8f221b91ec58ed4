"""The table of orthogonalisers: every way to a polar factor, declared as data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import torch
from torch import Tensor

from geometry.errors import require_positive_int
from geometry.minimax import cans_coefficients, polar_express_coefficients
from geometry.names import unknown_name
from geometry.newton_schulz import OddPolynomial

Coefficients = tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Orthogonalizer:
    """One way to compute or approximate the polar factor.

    Attributes:
        name: the name that selects it.
        coefficients: (steps, **parameters) -> one tuple (c_1, c_3, ...) per step; None for the
            exact factor, which has no steps.
        source: the paper or text that defines it.
        default_steps: what steps=None means.
        max_steps: the length of a finite table, or None.
        parameters: names and default values of what can be set besides the steps.
    """

    name: str
    coefficients: Callable[..., Coefficients] | None
    source: str
    default_steps: int = 5
    max_steps: int | None = None
    parameters: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))

    def polynomials(
        self, steps: int | None = None, **parameters: float
    ) -> tuple[OddPolynomial, ...]:
        """The polynomials of `steps` steps, in order; empty for the exact factor.

        Raises:
            ValueError: steps not a positive int or beyond a finite table; a parameter that this
                method does not have, or out of its range.
        """
        if steps is not None:
            require_positive_int("steps", steps)
        for given in parameters:
            if given not in self.parameters:
                raise self._unknown_parameter(given)
        if self.coefficients is None:
            return ()
        count = self.default_steps if steps is None else steps
        if self.max_steps is not None and count > self.max_steps:
            raise ValueError(
                f"method {self.name!r} is a table of {self.max_steps} steps, got steps={count}"
            )
        table = self.coefficients(count, **{**self.parameters, **parameters})
        return tuple(OddPolynomial(c) for c in table)

    def _unknown_parameter(self, given: str) -> ValueError:
        if not self.parameters:
            return ValueError(f"method {self.name!r} takes no parameters, got {given!r}")
        return unknown_name(f"parameter of method {self.name!r}", given, self.parameters)


def _repeated(*coefficients: float) -> Callable[..., Coefficients]:
    return lambda steps: (coefficients,) * steps


_LORA_MUON_TABLE: Coefficients = (
    (7.2086, -15.5131, 9.0178),
    (3.9623, -2.5813, 0.4542),
    (3.9466, -2.5765, 0.4544),
    (3.8991, -2.5671, 0.4566),
    (3.7186, -2.5308, 0.4653),
    (3.1390, -2.3073, 0.4733),
    (2.1715, -1.5246, 0.3885),
    (1.8648, -1.2224, 0.3577),
)

_DECLARED = (
    Orthogonalizer("svd", None, "exact polar factor; Higham, Functions of Matrices, chapter 8"),
    Orthogonalizer(
        "certified",
        None,
        "exact polar factor by products where a residual shows it to be, else by SVD: "
        "geometry/certified_polar.py",
    ),
    Orthogonalizer(
        "cubic",
        _repeated(3 / 2, -1 / 2),
        "Newton-Schulz, third order flat at 1: Bjorck and Bowie, SIAM J. Numer. Anal. 8, 1971",
    ),
    Orthogonalizer(
        "quintic",
        _repeated(15 / 8, -10 / 8, 3 / 8),
        "Newton-Schulz of order 3 (p' = p'' = 0 at 1): Bjorck and Bowie 1971",
    ),
    Orthogonalizer(
        "quintic_steep",
        _repeated(2, -3 / 2, 1 / 2),
        "order 2 (p' = 0 at 1), slope 2 at 0: Jordan et al., Muon, 2024, before tuning",
    ),
    Orthogonalizer(
        "muon",
        _repeated(3.4445, -4.7750, 2.0315),
        "Jordan et al., Muon, 2024: tuned for slope at 0; plateaus near 1 instead of converging",
    ),
    Orthogonalizer(
        "polar_express",
        polar_express_coefficients,
        "Amsel et al., arXiv 2505.16932, Algorithm 1",
        parameters=MappingProxyType({"lower_bound": 1e-3, "cushion": 0.02, "safety": 1.01}),
    ),
    Orthogonalizer(
        "cans",
        cans_coefficients,
        "Grishina et al., arXiv 2506.10935, degree 3",
        parameters=MappingProxyType({"lower_bound": 1e-3}),
    ),
    Orthogonalizer(
        "lora_muon",
        lambda steps: _LORA_MUON_TABLE[:steps],
        "Cesista et al., arXiv 2606.12921, appendix B.3, Table 1",
        default_steps=8,
        max_steps=8,
    ),
)

ORTHOGONALIZERS: Mapping[str, Orthogonalizer] = MappingProxyType({o.name: o for o in _DECLARED})


def orthogonalizer_named(method: str) -> Orthogonalizer:
    """Look an orthogonaliser up by name; an unknown name is a ValueError."""
    try:
        return ORTHOGONALIZERS[method]
    except KeyError:
        raise unknown_name("method", method, ORTHOGONALIZERS) from None


def scalar_response(
    method: str, s: Tensor, steps: int | None = None, **parameters: float
) -> Tensor:
    """What a method makes of singular values s that are already normalised to [0, 1].

    Args:
        method, steps, parameters: as for `geometry.polar.orthogonalize`.
        s: any shape, floating dtype.

    Returns:
        The shape and dtype of s. For "svd" and "certified" the sign of s.

    Raises:
        ValueError: as for `geometry.polar.orthogonalize`.
    """
    declared = orthogonalizer_named(method)
    polynomials = declared.polynomials(steps, **parameters)
    if declared.coefficients is None:
        return torch.sign(s)
    for polynomial in polynomials:
        s = polynomial(s)
    return s
