"""Explicit Runge–Kutta methods, declared as data.

The adaptive pair is read from the public solver class of SciPy; nothing is typed in twice. Its
dense output is

    y(t + theta h) = y(t) + h sum_s K_s sum_j P[s, j] theta^(j+1).

DOP853 was measured and left out: on spectral flows its steps are as accurate as they should be, but
its dense output is 100 times off in the layers of width beta where modes arrive, and arrivals and
requested times rest on dense output.

Reference: Hairer, Nørsett, Wanner, Solving Ordinary Differential Equations I, II.1, II.4–II.6.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType

import numpy as np
from numpy.polynomial import Polynomial
from numpy.typing import NDArray
from scipy.integrate import RK45

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Tableau:
    """An explicit method.

    Attributes:
        order: of the solution that is carried on.
        a: strictly lower triangular; trailing zero columns may be absent.
        b: (stages,), the weights of the step.
        error: (stages + 1,), weights of the embedded error estimate, the velocity at the end of the
            step included; None for a method without one.
        dense: (stages + 1, degree), P of the dense output; None where there is none.
        reference: where the method comes from.
    """

    name: str
    order: int
    a: Array
    b: Array
    error: Array | None
    dense: Array | None
    reference: str

    @property
    def stages(self) -> int:
        return len(self.b)

    @cached_property
    def rows(self) -> Array:
        """(stages + 1, stages): what each stage, and the end of the step, is made of."""
        rows = np.zeros((self.stages + 1, self.stages))
        rows[:-1, : self.a.shape[1]] = self.a
        rows[-1] = self.b
        return rows

    @cached_property
    def stability(self) -> float:
        """The largest x with |R(-z)| <= 1 on [0, x], R the stability polynomial."""
        inner, ones = self.rows[:-1], np.ones(self.stages)
        moments = [self.b @ np.linalg.matrix_power(inner, j) @ ones for j in range(self.stages)]
        z = np.linspace(0.0, 20.0, 20_001)
        outside = np.abs(Polynomial([1.0, *moments])(-z)) > 1 + 1e-12
        return float(z[max(int(np.argmax(outside)) - 1, 0)])


TABLEAUX = MappingProxyType(
    {
        tableau.name: tableau
        for tableau in (
            Tableau(
                name="dormand_prince",
                order=5,
                a=RK45.A,
                b=RK45.B,
                error=RK45.E,
                dense=RK45.P,
                reference="Dormand, Prince 1980, J. Comput. Appl. Math. 6; dense output of "
                "Shampine 1986, Math. Comp. 46",
            ),
            Tableau(
                name="euler",
                order=1,
                a=np.zeros((1, 1)),
                b=np.ones(1),
                error=None,
                dense=None,
                reference="Euler 1768; on a flow, the optimiser itself (GD, SpecGD)",
            ),
            Tableau(
                name="runge_kutta_4",
                order=4,
                a=np.diag([0.5, 0.5, 1.0], -1),
                b=np.array([1.0, 2.0, 2.0, 1.0]) / 6.0,
                error=None,
                dense=None,
                reference="Kutta 1901, the classical method",
            ),
        )
    }
)
