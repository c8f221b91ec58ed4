"""How far an answer is from the reference."""

from __future__ import annotations

import numpy as np

from benchmarks.case import Factors


def largest_error(factors: Factors, reference: Factors) -> float:
    """The largest entry of any product's error over all seeds and times; inf where not finite.

    Seed by seed: the products of a thousand would not fit beside each other. Both arguments are
    B (S, T, m, r) and A (S, T, r, n).
    """
    given, expected = factors[0].shape[:2], reference[0].shape[:2]
    if given != expected:
        raise ValueError(f"factors at {expected} (seeds, times) are expected; given {given}")
    largest = [
        float(np.abs(B @ A - B_ref @ A_ref).max())
        for B, A, B_ref, A_ref in zip(*factors, *reference, strict=True)
    ]
    return max(largest) if np.isfinite(largest).all() else float("inf")
