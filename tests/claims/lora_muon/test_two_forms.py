"""The gauges in which both forms are compared are exact: every entry is checked in integers."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from claims import REGISTRY
from claims.lora_muon.matrices import M, N, R
from claims.lora_muon.two_forms import EXPONENTS, exact_gauge, integers
from claims.registry import Setting
from claims.running.one import run_claim

SETTING = Setting("quick", 5, {"seeds": 2})


def fractions(matrix: Tensor) -> NDArray[np.object_]:
    """A matrix of exact rational numbers."""
    exact = [Fraction(value) for value in matrix.flatten().tolist()]
    return np.array(exact, dtype=object).reshape(matrix.shape)


@pytest.mark.parametrize("dtype", EXPONENTS)
def test_changes_of_gauge_round_nothing(dtype: torch.dtype) -> None:
    B, A = integers(SETTING, M, R, stream=10), integers(SETTING, R, N, stream=11)
    one = np.eye(R, dtype=int)
    for exponent in (EXPONENTS[dtype][0], EXPONENTS[dtype][-1]):
        C, inverse = exact_gauge(SETTING, exponent)
        for member in range(2):
            c, c_inverse = fractions(C[member]), fractions(inverse[member])
            assert (c @ c_inverse == one).all()
            there_B, there_A = (B @ C)[member].to(dtype), (inverse @ A)[member].to(dtype)
            assert (fractions(there_B) == fractions(B[member]) @ c).all()
            assert (fractions(there_A) == c_inverse @ fractions(A[member])).all()
        condition = torch.linalg.cond(C)
        assert torch.allclose(condition, torch.tensor(2.0**exponent, dtype=torch.float64))


def test_a_member_s_integers_are_its_own() -> None:
    more = Setting("quick", 5, {"seeds": 4})
    assert torch.equal(integers(more, 3, 2, stream=1)[:2], integers(SETTING, 3, 2, stream=1))
    assert torch.equal(exact_gauge(more, 4)[0][:2], exact_gauge(SETTING, 4)[0])


def test_errors_grow_with_the_condition_and_with_its_square() -> None:
    outcome = run_claim(REGISTRY["lora-muon.qr-equals-gram"], "quick", 0)
    assert outcome.evidence is not None
    arrays = outcome.evidence.arrays
    x = np.log(arrays["condition, float64"])[4:11]
    orders = {"QR form": 1, "root of the factor": 1, "root of the Gram matrix": 2}
    for name, order in orders.items():
        errors = np.log(np.median(arrays[f"{name}, float64"], axis=-1))[4:11]
        assert np.polyfit(x, errors, 1)[0] == pytest.approx(order, abs=0.25)
