"""A closed form: one sympy expression, what sympy has to prove of it, and its numeric version."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import sympy as sp
from numpy.typing import ArrayLike, NDArray
from sympy.codegen.cfunctions import expm1

Array = NDArray[np.float64]


def reduce_to_zero(residual: sp.Expr) -> sp.Expr:
    """What sympy leaves of ``residual``; 0 proves it."""
    return sp.simplify(sp.expand_func(residual))


@dataclass(frozen=True)
class ClosedForm:
    """A formula together with its proof obligations; calling it runs that very expression.

    Attributes:
        name: unique among the closed forms.
        formula: the formula as it is written in a paper, for reports.
        arguments: the symbols, in the order in which numbers are handed in; none for an identity
            of matrices, which is proved but has no numeric version.
        expression: what is proved and what is run.
        zeros: expressions that must vanish identically: the residual of the differential equation,
            the start, the inverse.
        nonnegative: expressions that sympy must find nonnegative, for bounds.
        reduce: how a residual is simplified.
    """

    name: str
    formula: str
    arguments: tuple[sp.Symbol, ...]
    expression: sp.Expr
    zeros: Mapping[str, sp.Expr]
    nonnegative: Mapping[str, sp.Expr] = field(default_factory=dict)
    reduce: Callable[[sp.Expr], sp.Expr] = reduce_to_zero

    def unproved(self) -> tuple[str, ...]:
        """The obligations that sympy could not discharge; none of them, if the form is right."""
        left = [name for name, residual in self.zeros.items() if self.reduce(residual) != 0]
        left += [name for name, value in self.nonnegative.items() if not value.is_nonnegative]
        return tuple(left)

    @property
    def proved(self) -> bool:
        return not self.unproved()

    def __call__(self, *values: ArrayLike) -> Array:
        """The expression at arrays that broadcast, in the order of ``arguments``."""
        if len(values) != len(self.arguments):
            names = ", ".join(str(argument) for argument in self.arguments) or "none"
            raise TypeError(f"{self.name}: the arguments are {names}; {len(values)} were given")
        return np.asarray(self._function(*(np.asarray(value, float) for value in values)))

    @cached_property
    def _function(self) -> Callable[..., Any]:
        modules = [{expm1.__name__: np.expm1}, "numpy"]
        compiled: Callable[..., Any] = sp.lambdify(self.arguments, self.expression, modules)
        return compiled


def require_open_interval(name: str, value: ArrayLike, low: float, high: ArrayLike) -> Array:
    """``value`` as an array; ValueError unless low < value < high everywhere."""
    array = np.asarray(value, float)
    if not bool(np.all((array > low) & (array < high))):
        raise ValueError(
            f"{name}: numbers strictly between {low:g} and {shown(high)} are expected; "
            f"given {shown(array)}"
        )
    return array


def require_positive_share(name: str, value: ArrayLike) -> Array:
    """``value`` as an array; ValueError unless 0 < value <= 1 everywhere."""
    array = np.asarray(value, float)
    if not bool(np.all((array > 0) & (array <= 1))):
        raise ValueError(f"{name}: numbers in (0, 1] are expected; given {shown(array)}")
    return array


def require_nonnegative_array(name: str, value: ArrayLike) -> Array:
    """``value`` as an array; ValueError unless it is finite and >= 0 everywhere."""
    array = np.asarray(value, float)
    if not bool(np.all((array >= 0) & np.isfinite(array))):
        raise ValueError(f"{name}: finite numbers >= 0 are expected; given {shown(array)}")
    return array


def require_at_least(name: str, value: ArrayLike, start: Array) -> Array:
    """``value`` as an array; ValueError unless it is finite and at least the start everywhere."""
    array = require_nonnegative_array(name, value)
    if bool(np.any(array < start)):
        raise ValueError(
            f"{name}: at least the start, {shown(start)}, is expected, for the state only grows; "
            f"given {shown(array)}"
        )
    return array


def shown(value: ArrayLike) -> str:
    """A number, or the range of several."""
    array = np.asarray(value, float).ravel()
    return f"{array[0]:g}" if array.size == 1 else f"{array.min():g} to {array.max():g}"
