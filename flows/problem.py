"""Matrix factorization, min over (B, A) of 1/2 ||B A - Y||_F^2 + l2/2 (||B||_F^2 + ||A||_F^2).

The target is kept in factored form, so a 4096 x 4096 target of rank 8 never takes 4096 x 4096.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from typing import Self

import torch
from torch import Tensor

from flows.coordinates import AmbientCoordinates, Coordinates, ReducedCoordinates, half_squares
from flows.starts import Factors, Starts, haar_columns
from geometry.errors import (
    require_finite,
    require_floating,
    require_matrices,
    require_nonnegative,
    require_positive_int,
)


class MatrixFactorization(Starts):
    """The problem the flows run on: a target Y = U diag(sigma) V^T and the rank of the factors.

    Args:
        target: (m, n), any rank, floating point. Its singular value decomposition is taken once;
            singular values below max(m, n) u sigma_1 are dropped (u the unit round-off).
        rank: r, the number of columns of B (m x r) and rows of A (r x n); at most min(m, n).
        l2: coefficient of the coupled regulariser, whose gradients are l2 B and l2 A.

    Attributes:
        left, singular_values, right: U (m, k), sigma (k,) descending, V (n, k).

    Raises:
        ValueError: for a target that is no finite matrix in float64 or float32, a rank outside
            1..min(m, n), l2 < 0.

    Source: Kang et al. 2026, arXiv 2602.06385, in LoRA's order of the factors, W = B A.
    """

    def __init__(self, target: Tensor, rank: int, *, l2: float = 0.0) -> None:
        require_matrices("target", target)
        _require_dtype(target.dtype)
        require_finite("target", target)
        if target.ndim != 2:
            raise ValueError(f"target: one (m, n) matrix is expected; given {tuple(target.shape)}")
        u, sigma, vt = torch.linalg.svd(target.detach(), full_matrices=False)
        cutoff = max(target.shape) * torch.finfo(target.dtype).eps * float(sigma[0])
        kept = int((sigma > cutoff).sum())
        self._set(u[:, :kept], sigma[:kept], vt[:kept].mT, rank, l2)

    @classmethod
    def from_factors(
        cls, left: Tensor, singular_values: Tensor, right: Tensor, rank: int, *, l2: float = 0.0
    ) -> Self:
        """The problem whose target is left diag(singular_values) right^T, never multiplied out.

        Args:
            left: (m, k) with orthonormal columns.
            singular_values: (k,), positive, in descending order.
            right: (n, k) with orthonormal columns.

        Raises:
            ValueError: where these do not hold to the square root of the unit round-off.
        """
        require_floating("left", left)
        singular_values = _in_a_row(singular_values).to(left)
        for name, factor in (("left", left), ("right", right)):
            require_matrices(name, factor)
            require_finite(name, factor)
            if (factor.dtype, factor.device) != (left.dtype, left.device):
                raise ValueError(
                    f"{name}: the dtype and device of left, {left.dtype} on {left.device}, are "
                    f"expected; given {factor.dtype} on {factor.device}"
                )
            if factor.ndim != 2 or factor.shape[1] != len(singular_values):
                raise ValueError(
                    f"{name}: shape (..., {len(singular_values)}) is expected for "
                    f"{len(singular_values)} singular values; given {tuple(factor.shape)}"
                )
            error = float((factor.mT @ factor - torch.eye(factor.shape[1]).to(factor)).abs().max())
            if error > torch.finfo(factor.dtype).eps ** 0.5:
                raise ValueError(f"{name}: orthonormal columns are expected; Gram error {error:g}")
        inside = (singular_values > 0) & (singular_values < math.inf)
        if not bool(inside.all()) or bool((singular_values.diff() > 0).any()):
            raise ValueError(
                "singular_values: positive numbers in descending order are expected; "
                f"given {singular_values.tolist()}"
            )
        problem = cls.__new__(cls)
        problem._set(left, singular_values, right, rank, l2)
        return problem

    @classmethod
    def planted(
        cls,
        *,
        m: int,
        n: int,
        singular_values: Sequence[float],
        rank: int,
        seed: int = 0,
        l2: float = 0.0,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str = "cpu",
    ) -> Self:
        """A target with the given singular values and Haar-random singular vectors.

        The vectors are drawn on the CPU in float64, so every device and dtype gets the same target.
        """
        for name, size in (("m", m), ("n", n)):
            require_positive_int(name, size)
        sigma = _in_a_row(singular_values).to("cpu", torch.float64)
        k = len(sigma)
        if not 1 <= k <= min(m, n):
            raise ValueError(
                f"singular_values: between 1 and min(m, n) = {min(m, n)} of them are expected "
                f"for a {m} x {n} target; given {k}"
            )
        generator = torch.Generator().manual_seed(seed)
        left, right = (haar_columns(size, k, generator) for size in (m, n))
        left, sigma, right = (x.to(device=device, dtype=dtype) for x in (left, sigma, right))
        return cls.from_factors(left, sigma, right, rank, l2=l2)

    def _set(
        self, left: Tensor, singular_values: Tensor, right: Tensor, rank: int, l2: float
    ) -> None:
        m, n = left.shape[0], right.shape[0]
        if rank not in range(1, min(m, n) + 1):
            raise ValueError(
                f"rank: an int between 1 and min(m, n) = {min(m, n)} is expected for a {m} x {n} "
                f"target; given {rank}"
            )
        require_nonnegative("l2", l2)
        _require_dtype(left.dtype)
        self.left, self.singular_values, self.right = (
            x.detach() for x in (left, singular_values, right)
        )
        self.rank, self.l2 = int(rank), float(l2)

    @property
    def shape(self) -> tuple[int, int]:
        return self.left.shape[0], self.right.shape[0]

    @property
    def dtype(self) -> torch.dtype:
        return self.left.dtype

    @property
    def device(self) -> torch.device:
        return self.left.device

    def to(
        self, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None
    ) -> Self:
        """The same problem in another dtype or on another device; by default in its own."""
        problem = type(self).__new__(type(self))
        left, sigma, right = (
            x.to(dtype=dtype or self.dtype, device=device or self.device)
            for x in (self.left, self.singular_values, self.right)
        )
        problem._set(left, sigma, right, self.rank, self.l2)
        return problem

    def lanes(self, start: Factors) -> tuple[Tensor, Tensor, torch.Size]:
        """A start with its leading dimensions flattened, B (L, m, r) and A (L, r, n), and these.

        Of factors that require gradients the values are taken: nothing here is differentiated.

        Raises:
            ValueError: for factors of other shapes, dtypes or devices than the problem's, leading
                dimensions that differ, entries that are not finite.
        """
        if not isinstance(start, tuple | list) or len(start) != 2:
            raise ValueError(f"start: (B, A) is expected; given {type(start).__name__}")
        B, A = start
        self.require_factors(B, A)
        for name, factor in (("B", B), ("A", A)):
            require_finite(name, factor)
        (m, n), r = self.shape, self.rank
        return B.detach().reshape(-1, m, r), A.detach().reshape(-1, r, n), B.shape[:-2]

    def require_factors(self, B: Tensor, A: Tensor) -> None:
        """Raise ValueError unless B (..., m, r) and A (..., r, n) are factors of this problem.

        Their leading dimensions have to be the same, and dtype and device the problem's. Reads
        only metadata.
        """
        (m, n), r = self.shape, self.rank
        for name, factor, shape in (("B", B, (m, r)), ("A", A, (r, n))):
            require_matrices(name, factor)
            if factor.shape[-2:] != shape:
                raise ValueError(
                    f"{name}: shape (..., {shape[0]}, {shape[1]}) is expected for a {m} x {n} "
                    f"target and rank {r}; given {tuple(factor.shape)}"
                )
            if (factor.dtype, factor.device) != (self.dtype, self.device):
                raise ValueError(
                    f"{name}: the problem's {self.dtype} on {self.device} is expected; "
                    f"given {factor.dtype} on {factor.device}"
                )
        if B.shape[:-2] != A.shape[:-2]:
            raise ValueError(
                f"B and A: the same leading batch dimensions are expected; "
                f"given {tuple(B.shape[:-2])} and {tuple(A.shape[:-2])}"
            )

    def coordinates(self, B: Tensor, A: Tensor, *, reduce: bool) -> Coordinates:
        """Those of the exact reduction for the lanes B (L, m, r), A (L, r, n), or the ambient."""
        return ReducedCoordinates.of(self, B, A) if reduce else AmbientCoordinates(self)

    def dense_target(self) -> Tensor:
        """Y = U diag(sigma) V^T, (m, n), multiplied out: for small problems only."""
        return (self.left * self.singular_values) @ self.right.mT

    def gradients(self, B: Tensor, A: Tensor) -> Factors:
        """G_B = (BA - Y) A^T + l2 B and G_A = B^T (BA - Y) + l2 A, in O((m + n) r (r + k)).

        Args:
            B: (..., m, r). A: (..., r, n).
        """
        right = self.singular_values[:, None] * (self.right.mT @ A.mT)
        left = (B.mT @ self.left) * self.singular_values
        G_B = B @ (A @ A.mT) - self.left @ right + self.l2 * B
        G_A = (B.mT @ B) @ A - left @ self.right.mT + self.l2 * A
        return G_B, G_A

    def loss(self, B: Tensor, A: Tensor) -> Tensor:
        """The objective, (...,); small residuals keep their relative accuracy.

        ||BA - Y||_F is the norm of R_1 diag(I, -Sigma) R_2^T, with R_1, R_2 from thin QR of
        [B, U] and [A^T, V]: expanding the square instead would cancel below u ||Y||_F^2.
        """
        core_left = _joint_triangle(B, self.left)
        core_right = _joint_triangle(A.mT, self.right)
        middle = torch.cat([B.new_ones(self.rank), -self.singular_values])
        residual = (core_left * middle) @ core_right.mT
        return half_squares(residual) + self.l2 * (half_squares(B) + half_squares(A))

    def mode_values(self, B: Tensor, A: Tensor) -> Tensor:
        """d_i = u_i^T B A v_i, (..., k)."""
        return ((B.mT @ self.left) * (A @ self.right)).sum(-2)

    @property
    def shrunk_singular_values(self) -> Tensor:
        """(sigma_i - l2)_+ for i <= r, the spectrum of the global minimum; min(r, k) numbers."""
        return (self.singular_values[: self.rank] - self.l2).clamp_min(0.0)

    @property
    def optimal_loss(self) -> float:
        """The global minimum, 1/2 sum sigma_i^2 - 1/2 sum_(i <= r) (sigma_i - l2)_+^2."""
        lost = half_squares(self.singular_values[self.rank :])
        kept = half_squares(self.singular_values[: self.rank]) - self._gains[: self.rank].sum()
        return float(lost) + (float(kept) if self.l2 else 0.0)

    @property
    def saddle_gap(self) -> float:
        """Distance in loss from the global minimum to the lowest other critical value.

        A critical point keeps a set of modes, each worth 1/2 (sigma_i - l2)_+^2; the cheapest
        change gives the last mode kept for the next one that is worth less (or for none).
        inf where l2 is so large that no mode is kept: 0 is then the only critical point.
        """
        gains = self._gains
        kept = gains[: self.rank]
        if not bool((kept > 0).any()):
            return math.inf
        last = float(kept[kept > 0].min())
        below = gains[self.rank :]
        below = below[below < last]
        return last - (float(below.max()) if len(below) else 0.0)

    @property
    def optimal_curvature(self) -> float:
        """The smallest curvature of the objective across its minima, at the balanced ones.

        With j modes kept it is the least of: 2 (sigma_j - l2), the last mode's own;
        sigma_j - sigma_(j+1), an exchange of modes; with columns to spare l2 - sigma_(j+1); and
        with l2 > 0 also 2 l2 against imbalance. Without l2 there are unbalanced minima too, and
        curvatures there differ. 0 where the minimum is degenerate: more columns than modes without
        a regulariser.
        """
        sigma = [*self.singular_values.tolist(), 0.0]
        kept = min(self.rank, sum(value > self.l2 for value in sigma[:-1]))
        curvatures = [2 * self.l2] if self.l2 > 0 else []
        if kept > 0:
            curvatures.append(2 * (sigma[kept - 1] - self.l2))
            if kept < max(self.shape):
                curvatures.append(sigma[kept - 1] - sigma[kept])
        if kept < self.rank:
            curvatures.append(self.l2 - sigma[kept])
        return min(curvatures)

    @property
    def _gains(self) -> Tensor:
        return 0.5 * (self.singular_values - self.l2).clamp_min(0.0) ** 2


def _require_dtype(dtype: torch.dtype) -> None:
    if dtype not in (torch.float32, torch.float64):
        raise ValueError(
            f"dtype: float32 or float64 is expected; given {dtype}, in which torch has no "
            "factorisations of matrices"
        )


def _in_a_row(singular_values: Tensor | Sequence[float]) -> Tensor:
    sigma = singular_values if isinstance(singular_values, Tensor) else None
    if sigma is None:
        with suppress(TypeError, ValueError, RuntimeError):
            sigma = torch.as_tensor(singular_values, dtype=torch.float64)
    if sigma is None or sigma.ndim != 1:
        raise ValueError(
            f"singular_values: positive numbers in a row are expected; given {singular_values}"
        )
    return sigma


def _joint_triangle(factor: Tensor, basis: Tensor) -> Tensor:
    """The triangular factor of [factor, basis], (..., min(m, r + k), r + k)."""
    joint = torch.cat([factor, basis.expand(*factor.shape[:-2], *basis.shape)], dim=-1)
    return torch.linalg.qr(joint, mode="r").R
