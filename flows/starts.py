"""Starts for the factors. Every lane is drawn from its own seed, on the CPU in float64.

A start (B, A) is the same on every device and in every dtype (up to rounding), and does not
depend on which other seeds are drawn with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from numbers import Integral

import torch
from torch import Tensor

from geometry.errors import require_finite, require_floating, require_nonnegative

Factors = tuple[Tensor, Tensor]
Seeds = int | Iterable[int] | Tensor


class Starts:
    """The initialisations of a matrix-factorization problem, as its methods.

    Each returns B (m, r) and A (r, n) for an int seed, (seeds, m, r) and (seeds, r, n) for several.
    """

    left: Tensor
    right: Tensor
    rank: int

    def lora_init(self, gamma: float, seed: Seeds = 0) -> Factors:
        """LoRA's: B = 0 and A = gamma times a Gaussian."""
        require_nonnegative("gamma", gamma)
        m, n, r = self._sizes()
        return self._drawn(
            lambda g: (torch.zeros(m, r, dtype=torch.float64), gamma * _normal(g, r, n)), seed
        )

    def gaussian_init(self, scale: float, seed: Seeds = 0) -> Factors:
        """Both factors scale times a Gaussian."""
        require_nonnegative("scale", scale)
        m, n, r = self._sizes()
        return self._drawn(lambda g: (scale * _normal(g, m, r), scale * _normal(g, r, n)), seed)

    def orthogonal_init(self, scale: float, seed: Seeds = 0) -> Factors:
        """Both factors scale times Haar-random orthonormal columns (B) and rows (A)."""
        require_nonnegative("scale", scale)
        m, n, r = self._sizes()
        return self._drawn(
            lambda g: (scale * haar_columns(m, r, g), scale * haar_columns(n, r, g).mT), seed
        )

    def balanced_init(self, scale: float, seed: Seeds = 0) -> Factors:
        """B^T B = A A^T: the balanced factors of a product of two scaled Gaussians.

        B = P S^(1/2) Q and A = Q^T S^(1/2) R^T, with P S R^T the product's singular value
        decomposition and Q Haar-random.
        """
        require_nonnegative("scale", scale)
        m, n, r = self._sizes()

        def draw(generator: torch.Generator) -> Factors:
            B, A = scale * _normal(generator, m, r), scale * _normal(generator, r, n)
            q_left, core_left = torch.linalg.qr(B)
            q_right, core_right = torch.linalg.qr(A.mT)
            u, s, vt = torch.linalg.svd(core_left @ core_right.mT)
            rotation, root = haar_columns(r, r, generator), s.sqrt()
            left, right = (q_left @ u) * root, root[:, None] * (vt @ q_right.mT)
            return left @ rotation, rotation.mT @ right

        return self._drawn(draw, seed)

    def aligned_init(
        self, b: Tensor, a: Tensor, modes: Sequence[int] | None = None, seed: Seeds = 0
    ) -> Factors:
        """B = U_I diag(b) Q, A = Q^T diag(a) V_I^T with Q Haar-random: the aligned manifold.

        Args:
            b, a: (r,), the signed strengths of the chosen modes.
            modes: indices I of r target modes; the leading ones by default.
        """
        for name, strengths in (("b", b), ("a", a)):
            require_floating(name, strengths)
            require_finite(name, strengths)
        r = self.rank
        chosen = list(range(r)) if modes is None else list(modes)
        k = self.left.shape[1]
        known = len(chosen) == r == len(set(chosen)) and set(chosen) <= set(range(k))
        if b.shape != (r,) or a.shape != (r,) or not known:
            raise ValueError(
                f"aligned start: b and a of shape ({r},) and {r} different modes out of 0..{k - 1} "
                f"are expected; given {tuple(b.shape)}, {tuple(a.shape)} and modes {chosen}"
            )
        left, right, b, a = (
            x.to("cpu", torch.float64) for x in (self.left[:, chosen], self.right[:, chosen], b, a)
        )

        def draw(generator: torch.Generator) -> Factors:
            rotation = haar_columns(r, r, generator)
            return (left * b) @ rotation, rotation.mT @ (a[:, None] * right.mT)

        return self._drawn(draw, seed)

    def _sizes(self) -> tuple[int, int, int]:
        return self.left.shape[0], self.right.shape[0], self.rank

    def _drawn(self, draw: Callable[[torch.Generator], Factors], seed: Seeds) -> Factors:
        given = seed.tolist() if isinstance(seed, Tensor) else seed
        if isinstance(given, Integral):
            B, A = draw(_generator(given))
        else:
            if not isinstance(given, Iterable):
                raise ValueError(f"seed: an int or several are expected; given {seed!r}")
            starts = [draw(_generator(each)) for each in given]
            if not starts:
                raise ValueError("seed: an int or at least one seed is expected; given none")
            B, A = (torch.stack(factors) for factors in zip(*starts, strict=True))
        return B.to(self.left), A.to(self.left)


def _generator(seed: object) -> torch.Generator:
    """Drawn from by nobody yet. numpy's integers are seeds as well."""
    if (
        not isinstance(seed, Integral)
        or isinstance(seed, bool)
        or not -(2**63) <= int(seed) < 2**63
    ):
        raise ValueError(f"seed: an int of 64 bits, or several, is expected; given {seed!r}")
    return torch.Generator().manual_seed(int(seed))


def haar_columns(size: int, count: int, generator: torch.Generator) -> Tensor:
    """(size, count) orthonormal columns, Haar-distributed, float64 on the CPU."""
    q, r = torch.linalg.qr(_normal(generator, size, count))
    return q * r.diagonal().sign()


def _normal(generator: torch.Generator, rows: int, columns: int) -> Tensor:
    return torch.randn(rows, columns, generator=generator, dtype=torch.float64)
