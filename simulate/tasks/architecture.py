"""The sizes of a character-level transformer, checked."""

from __future__ import annotations

from dataclasses import dataclass

from geometry.errors import require_positive, require_positive_int


@dataclass(frozen=True)
class Architecture:
    """What one member of an ensemble looks like; see ``CharacterTransformer``.

    Args:
        vocabulary: number of characters V.
        length: characters in a window, at most.
        width: d, of the residual stream. The hidden layer of the feed-forward part has 4 d units.
        depth: number of blocks.
        heads: of attention; they divide the width.
        rank: None for dense layers W, else of every layer's product B A, 1 to d.
        qk_norm: whether queries and keys are normalised, in each head.
        gain: every singular value of a layer at the start, > 0.
        factor_rescaling: c > 0, for low-rank layers: they begin at (c B, A / c). Powers of two
            change no bit of the product.

    Raises:
        ValueError: for sizes below one, heads that do not divide the width, a rank above the
            width, a gain or rescaling not above 0, a rescaling of dense layers.
    """

    vocabulary: int
    length: int
    width: int = 128
    depth: int = 2
    heads: int = 4
    rank: int | None = None
    qk_norm: bool = True
    gain: float = 1.0
    factor_rescaling: float = 1.0

    def __post_init__(self) -> None:
        for name in ("vocabulary", "length", "width", "depth", "heads"):
            require_positive_int(name, getattr(self, name))
        for name in ("gain", "factor_rescaling"):
            require_positive(name, getattr(self, name))
        if self.width % self.heads:
            raise ValueError(
                f"heads must divide the width, got heads={self.heads} and width={self.width}"
            )
        if self.rank is None:
            if self.factor_rescaling != 1:
                raise ValueError(
                    "factor_rescaling needs low-rank layers, "
                    f"got {self.factor_rescaling} and rank=None"
                )
            return
        require_positive_int("rank", self.rank)
        if self.rank > self.width:
            raise ValueError(
                f"rank: at most min(m, n) = width = {self.width} is expected, got {self.rank}"
            )

    @property
    def layers(self) -> dict[str, tuple[int, int]]:
        """Outputs m and inputs n of the layers of a block, by name, in order."""
        d = self.width
        square = dict.fromkeys(("query", "key", "value", "output"), (d, d))
        return {**square, "up": (4 * d, d), "down": (d, 4 * d)}

    @property
    def forward_flops(self) -> int:
        """Floating-point operations a token in a full window: products, attention, logits.

        A multiplication and an addition are two. Attention counts what is not masked.
        """
        layers = self.layers.values()
        if self.rank is None:
            products = sum(2 * m * n for m, n in layers)
        else:
            products = sum(2 * self.rank * (m + n) for m, n in layers)
        attention = 2 * (self.length + 1) * self.width
        return self.depth * (products + attention) + 2 * self.width * self.vocabulary
