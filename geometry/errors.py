"""Errors for what a user hands in: each says what was given and what was expected."""

from __future__ import annotations

import math

import torch
from torch import Tensor


class NotFiniteInputError(ValueError):
    """NaN or infinity in a matrix that is to be worked on."""


class RankError(ValueError):
    """A factor of a smaller rank than is needed."""


def require_floating(name: str, tensor: Tensor) -> None:
    """Raise ValueError unless `tensor` is a real floating-point torch.Tensor of 16 bits or more."""
    if not isinstance(tensor, Tensor):
        raise ValueError(f"{name} must be a torch.Tensor, got {type(tensor).__name__}")
    if not tensor.is_floating_point():
        raise ValueError(f"{name} must have a floating-point dtype, got {tensor.dtype}")
    if tensor.dtype.itemsize < 2:
        raise ValueError(
            f"{name} must be float64, float32, float16 or bfloat16, got {tensor.dtype}, in which "
            "torch does not compute"
        )


def require_matrices(name: str, G: Tensor) -> None:
    """Raise ValueError unless `G` is a floating tensor (..., m, n) with m, n >= 1.

    Reads only metadata, so it never waits for a device.
    """
    require_floating(name, G)
    if G.ndim < 2:
        raise ValueError(f"{name} must have shape (..., m, n), got shape {tuple(G.shape)}")
    if G.shape[-2] == 0 or G.shape[-1] == 0:
        raise ValueError(f"{name} must hold matrices with m, n >= 1, got shape {tuple(G.shape)}")


def require_square(name: str, S: Tensor) -> None:
    """Raise ValueError unless `S` is a floating tensor (..., r, r) with r >= 1."""
    require_matrices(name, S)
    if S.shape[-2] != S.shape[-1]:
        raise ValueError(f"{name} must have shape (..., r, r), got shape {tuple(S.shape)}")


def require_finite(name: str, tensor: Tensor) -> None:
    """Raise NotFiniteInputError, a ValueError, for NaN or infinity (waits for the device)."""
    # One pass: a sum is finite only if every entry is. It may overflow, hence the closer look.
    if math.isfinite(tensor.detach().sum()):
        return
    finite = torch.isfinite(tensor)
    if not bool(finite.all()):
        bad = int((~finite).sum())
        raise NotFiniteInputError(
            f"{name} must be finite, got {bad} NaN or infinite entries of {tensor.numel()}"
        )


def require_number(name: str, value: object) -> None:
    """Raise ValueError for what cannot be compared with a number: text, None, lists, tensors."""
    try:
        bool(value < math.inf)  # type: ignore[operator]
    except (TypeError, ValueError, RuntimeError):
        shape = f" of shape {tuple(value.shape)}" if isinstance(value, Tensor) else ""
        raise ValueError(
            f"{name} must be a number, got {type(value).__name__}{shape or f' {value!r}'}"
        ) from None


def require_nonnegative(name: str, value: float) -> None:
    """Raise ValueError unless the number is finite and >= 0 (NaN fails)."""
    require_number(name, value)
    if not 0 <= value < math.inf:
        raise ValueError(f"{name} must be finite and >= 0, got {value}")


def require_positive(name: str, value: float) -> None:
    """Raise ValueError unless the number is finite and > 0 (NaN fails)."""
    require_number(name, value)
    if not 0 < value < math.inf:
        raise ValueError(f"{name} must be finite and > 0, got {value}")


def require_positive_int(name: str, value: int) -> None:
    """Raise ValueError unless `value` is an int >= 1 (a bool or a float is not)."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{name} must be a positive int, got {value!r}")


def require_nonnegative_int(name: str, value: int) -> None:
    """Raise ValueError unless `value` is an int >= 0 (a bool or a float is not)."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"{name} must be an int >= 0, got {value!r}")


def require_between(name: str, value: float, low: float, high: float) -> None:
    """Raise ValueError unless low <= value <= high (NaN fails)."""
    require_number(name, value)
    if not low <= value <= high:
        raise ValueError(f"{name} must lie in [{low}, {high}], got {value}")


def require_share(name: str, value: float) -> None:
    """Raise ValueError unless 0 <= value < 1 (NaN fails)."""
    require_number(name, value)
    if not 0 <= value < 1:
        raise ValueError(f"{name} must lie in [0, 1), got {value}")
