"""Error messages say what was given, what was expected and the nearest name."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch

from geometry import errors, names


def test_unknown_name_lists_and_suggests() -> None:
    error = names.unknown_name("optimiser", "moun", ["sgd", "muon", "adam"])
    assert isinstance(error, ValueError)
    assert str(error) == (
        "unknown optimiser 'moun'; expected one of 'adam', 'muon', 'sgd'; did you mean 'muon'?"
    )


def test_of_many_names_the_nearest_are_told() -> None:
    many = ["usg.energy", "usg.equal-rate", *(f"other.{i}" for i in range(30))]
    said = str(names.unknown_name("claim", "usg.equalrate", many))
    assert "; expected one of 32, such as 'usg.equal-rate', 'usg.energy', 'other." in said
    assert said.endswith("; did you mean 'usg.equal-rate'?")
    assert said.count("'other.") == 2
    # Nothing is near to nothing, and there are examples all the same.
    assert str(names.unknown_name("claim", "", many)).count(", '") == 3


def test_unknown_name_suggests_nothing_far_away() -> None:
    assert "did you mean" not in str(names.unknown_name("method", "zzz", ["muon"]))


@pytest.mark.parametrize(
    ("check", "good", "bad", "message"),
    [
        (errors.require_floating, torch.ones(1), torch.ones(1).int(), "x must have a floating"),
        (errors.require_floating, torch.ones(1), [1.0], "x must be a torch.Tensor, got list"),
        (errors.require_matrices, torch.ones(0, 2, 1), torch.ones(2), r"\(\.\.\., m, n\)"),
        (errors.require_square, torch.ones(4, 2, 2), torch.ones(2, 3), r"got shape \(2, 3\)"),
        (
            errors.require_finite,
            torch.ones(2),
            torch.tensor([1, math.nan]),
            "got 1 NaN or infinite",
        ),
        (errors.require_nonnegative, 0.0, -1e-300, "x must be finite and >= 0, got -1e-300"),
        (errors.require_nonnegative, 1, math.nan, "x must be finite and >= 0, got nan"),
        (errors.require_positive, 1e-300, 0, "x must be finite and > 0, got 0"),
        (errors.require_positive, 1.0, math.inf, "x must be finite and > 0, got inf"),
        (errors.require_positive_int, 1, True, "x must be a positive int, got True"),
        (errors.require_positive_int, 7, 1.0, "x must be a positive int, got 1.0"),
        (errors.require_nonnegative_int, 0, -1, "x must be an int >= 0, got -1"),
        (errors.require_nonnegative_int, 7, False, "x must be an int >= 0, got False"),
    ],
)
def test_checks(
    check: Callable[[str, object], None], good: object, bad: object, message: str
) -> None:
    check("x", good)
    with pytest.raises(ValueError, match=message):
        check("x", bad)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_finite_entries_may_have_any_sum(dtype: torch.dtype) -> None:
    largest = torch.finfo(dtype).max
    errors.require_finite("x", torch.full((3, 2), largest, dtype=dtype))
    errors.require_finite("x", torch.ones(0, dtype=dtype))
    cancelling = torch.tensor([math.inf, 1.0, -math.inf, largest], dtype=dtype)
    with pytest.raises(ValueError, match="got 2 NaN or infinite entries of 4"):
        errors.require_finite("x", cancelling)


def test_checks_with_bounds() -> None:
    errors.require_between("x", 0.5, 0.0, 1.0)
    with pytest.raises(ValueError, match=r"x must lie in \[0.0, 1.0\], got 1.5"):
        errors.require_between("x", 1.5, 0.0, 1.0)
