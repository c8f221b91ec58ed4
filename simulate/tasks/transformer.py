"""A character-level transformer whose ensembles are one model: members are an axis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, embedding, gelu, scaled_dot_product_attention

from simulate.tasks.architecture import Architecture
from simulate.tasks.layers import AdapterLayer, DenseLayer, LowRankLayer
from simulate.tasks.normalizing import normalized
from simulate.tasks.orthogonal_start import (
    Streams,
    dense_start,
    low_rank_start,
    orthogonal_factors,
)

EMBEDDING_SCALE = 0.02


class ParameterRoles(NamedTuple):
    """Which optimiser a parameter is for; frozen ones are for none.

    Attributes:
        pairs: (B, A) of every low-rank layer or adapter, (E, m, r) and (E, r, n).
        matrices: W of every dense layer that is trained, (E, m, n).
        others: the embeddings, for AdamW.
    """

    pairs: list[tuple[nn.Parameter, nn.Parameter]]
    matrices: list[nn.Parameter]
    others: list[nn.Parameter]


class Block(nn.Module):
    """Attention, then the feed-forward part, each added to what comes in."""

    def __init__(self, layers: dict[str, nn.Module], heads: int, qk_norm: bool) -> None:
        super().__init__()
        self.layers = nn.ModuleDict(layers)
        self.heads, self.qk_norm = heads, qk_norm

    def forward(self, x: Tensor, batch: int) -> Tensor:
        """x (E, batch * length, d) to the same shape."""
        x = x + self.layers["output"](self._attended(normalized(x), batch))
        return x + self.layers["down"](gelu(self.layers["up"](normalized(x))))

    def _attended(self, x: Tensor, batch: int) -> Tensor:
        members, tokens, width = x.shape
        by_head = (members * batch, tokens // batch, self.heads, width // self.heads)
        q, k, v = (self.layers[name](x).view(by_head) for name in ("query", "key", "value"))
        if self.qk_norm:
            q, k = normalized(q), normalized(k)
        q, k, v = (y.transpose(1, 2) for y in (q, k, v))
        mixed = scaled_dot_product_attention(q, k, v, is_causal=True)
        return mixed.transpose(1, 2).reshape(x.shape)


class CharacterTransformer(nn.Module):
    """E causal transformers in one: batched products throughout, never a loop over members.

    Pre-norm, root mean squares without gains, no biases, learned positions; the embedding is tied
    to the logits and normalised where it comes in, so that its scale matters to the logits alone.
    Embedding and positions begin Gaussian with standard deviation 0.02, layers orthogonal: all
    singular values of W are ``gain``, and B A is a best approximation of rank r of the W that the
    same seed has, balanced (times c and 1 / c). So ranks of one seed begin as parts of each other.

    A member's start is a function of its seed and the architecture, bit for bit, whatever the
    other members are: drawn on the CPU in float64, then rounded to ``dtype``.

    Args:
        architecture: the sizes, of every member.
        seeds: one for each of the E members, 0 <= seed < 2^64.
        dtype: of all parameters and of the arithmetic, a real floating dtype.
        device: of all parameters.

    Raises:
        ValueError: no or bad seeds, a dtype that is not floating, CUDA where there is none.
    """

    def __init__(
        self,
        architecture: Architecture,
        seeds: Sequence[int],
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__()
        require_place(seeds, dtype, torch.device(device))
        streams, sizes = Streams(seeds), architecture
        self.architecture = architecture
        self.embedding = nn.Parameter(
            EMBEDDING_SCALE * streams.gaussian(sizes.vocabulary, sizes.width)
        )
        self.positions = nn.Parameter(EMBEDDING_SCALE * streams.gaussian(sizes.length, sizes.width))
        self.blocks = nn.ModuleList(_block(sizes, streams) for _ in range(sizes.depth))
        self.to(device=device, dtype=dtype)

    @property
    def members(self) -> int:
        """E."""
        return len(self.embedding)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits of the characters that follow.

        Args:
            tokens: (E, batch, length) int64 in 0..V - 1, length at most the architecture's.

        Returns:
            (E, batch, length, V), where an entry depends on no later token.

        Raises:
            ValueError: for another shape or dtype, or tokens outside of the vocabulary.
        """
        self._require_tokens(tokens)
        members, batch, length = tokens.shape
        first_rows = self.architecture.vocabulary * torch.arange(members, device=tokens.device)
        rows = tokens + first_rows[:, None, None]
        x = embedding(rows, self.embedding.flatten(0, 1)) + self.positions[:, None, :length]
        x = normalized(x).flatten(1, 2)
        for block in self.blocks:
            x = block(x, batch)
        logits = torch.bmm(normalized(x), self.embedding.mT)
        return logits.unflatten(1, (batch, length))

    def token_losses(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Cross entropy in nats of each target, (E, batch, length), from inputs alike."""
        logits = self(inputs)
        return cross_entropy(logits.flatten(0, 2), targets.flatten(), reduction="none").unflatten(
            0, inputs.shape
        )

    def roles(self) -> ParameterRoles:
        """The parameters that are trained, each in exactly one list, in the order of the layers."""
        pairs, matrices = [], []
        for layer in self.modules():
            if isinstance(layer, LowRankLayer | AdapterLayer):
                pairs.append((layer.B, layer.A))
            elif isinstance(layer, DenseLayer) and layer.weight.requires_grad:
                matrices.append(layer.weight)
        embeddings = (self.embedding, self.positions)
        return ParameterRoles(pairs, matrices, [p for p in embeddings if p.requires_grad])

    def _require_tokens(self, tokens: Tensor) -> None:
        sizes = self.architecture
        if (
            tokens.ndim != 3
            or tokens.dtype != torch.int64
            or len(tokens) != self.members
            or not 1 <= tokens.shape[2] <= sizes.length
            or not tokens.shape[1]
        ):
            raise ValueError(
                f"tokens: (E, batch, length) int64 with E = {self.members} and length at most "
                f"{sizes.length} are expected, got {tuple(tokens.shape)}, {tokens.dtype}"
            )
        low, high = (int(x) for x in tokens.aminmax())
        # A row outside would be another member's.
        if low < 0 or high >= sizes.vocabulary:
            raise ValueError(f"tokens in 0..{sizes.vocabulary - 1} are expected, got {low}..{high}")


def _block(sizes: Architecture, streams: Streams) -> Block:
    layers: dict[str, nn.Module] = {}
    for name, (m, n) in sizes.layers.items():
        U, V = orthogonal_factors(streams, m, n, sizes.rank or min(m, n))
        if sizes.rank is None:
            layers[name] = DenseLayer(dense_start(U, V, sizes.gain))
        else:
            B, A = low_rank_start(U, V, sizes.gain, sizes.factor_rescaling)
            layers[name] = LowRankLayer(B, A)
    return Block(layers, sizes.heads, sizes.qk_norm)


def require_place(seeds: Sequence[int], dtype: torch.dtype, device: torch.device) -> None:
    """Raise ValueError for no or bad seeds, a dtype that is not floating, CUDA where none is."""
    if not seeds or not all(isinstance(seed, int) and 0 <= seed < 2**64 for seed in seeds):
        raise ValueError(f"seeds: at least one in 0..2^64 - 1 is expected, got {tuple(seeds)}")
    if not dtype.is_floating_point:
        raise ValueError(f"dtype: a floating dtype is expected, got {dtype}")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device: {device} is asked for, and this machine has no CUDA device")
