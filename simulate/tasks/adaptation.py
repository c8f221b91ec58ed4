"""LoRA: models that are trained go on as frozen weights with low-rank adapters beside them."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, cast

import torch
from torch import Tensor

from geometry.errors import require_positive, require_positive_int
from geometry.gauge import Pair
from geometry.locally_optimal import frozen_weight
from geometry.names import unknown_name
from simulate.tasks.architecture import Architecture
from simulate.tasks.layers import AdapterLayer, DenseLayer
from simulate.tasks.orthogonal_start import ADAPTERS, Streams
from simulate.tasks.transformer import Block, CharacterTransformer, require_place


@dataclass(frozen=True, eq=False)
class Pretrained:
    """Dense models after their training, members of one ensemble.

    Args:
        model: E members; it is copied, so that training it further changes nothing here.
        seeds: of the members, by which they are chosen.

    Raises:
        ValueError: a model with low-rank layers or adapters, another number of seeds than members,
            or a seed twice.
    """

    model: CharacterTransformer
    seeds: tuple[int, ...]

    def __post_init__(self) -> None:
        if self.model.roles().pairs:
            raise ValueError(
                "pretrained: a model of dense layers alone is expected, got one with low-rank "
                f"layers or adapters, {self.architecture}"
            )
        if len(self.seeds) != self.model.members or len(set(self.seeds)) != len(self.seeds):
            raise ValueError(
                f"seeds: a different one for each of the {self.model.members} pretrained models "
                f"is expected, got {self.seeds}"
            )
        object.__setattr__(self, "model", copy.deepcopy(self.model))

    @property
    def architecture(self) -> Architecture:
        """Of every model."""
        return self.model.architecture

    def places(self, seeds: Sequence[int]) -> list[int]:
        """Which models members with these seeds start from: that of their seed, or the only one.

        Raises:
            ValueError: of several models none has the seed.
        """
        if len(self.seeds) == 1:
            return [0] * len(seeds)
        missing = sorted(set(seeds) - set(self.seeds))
        if missing:
            raise ValueError(
                f"seeds of pretrained models, {self.seeds}, are expected, got {missing}"
            )
        return [self.seeds.index(seed) for seed in seeds]

    def digest(self) -> str:
        """SHA-256 of all weights and seeds, in hexadecimal."""
        sha = hashlib.sha256(repr(self.seeds).encode())
        for name, weight in self.model.state_dict().items():
            sha.update(name.encode() + _bits(weight))
        return sha.hexdigest()


@dataclass(frozen=True, eq=False)
class LowRankAdaptation:
    """LoRA on some layers of pretrained models: W + scale B A, of which B and A are trained.

    B begins at zero, so that a member begins as the pretrained model, and the entries of A as
    Gaussian with deviation n^(-1/2). From other ``starts`` the weight that is frozen is
    W - scale B A, so that a member begins as the pretrained model to rounding. Everything else,
    embeddings too, is frozen.

    Args:
        pretrained: the models that members start from; see ``Pretrained.places``.
        rank: r, of every adapter, 1 to min(m, n).
        layers: names in ``Architecture.layers``, in every block.
        scale: alpha / r in the notation of Hu et al., > 0.
        starts: (B, A) of every adapter, (E, m, r) and (E, r, n) of the E pretrained models, block
            after block in the order of ``adapted``; None for B = 0.

    Raises:
        ValueError: values out of these ranges, unknown layers, none, or one twice, starts of
            another number or other shapes.

    Reference: Hu et al., LoRA, arXiv 2106.09685.
    """

    pretrained: Pretrained
    rank: int = 8
    layers: tuple[str, ...] = ("query", "value")
    scale: float = 1.0
    starts: tuple[Pair, ...] | None = None

    def __post_init__(self) -> None:
        require_positive_int("rank", self.rank)
        require_positive("scale", self.scale)
        sizes = self.architecture.layers
        for name in self.layers:
            if name not in sizes:
                raise unknown_name("layer", name, sizes)
            if self.rank > min(sizes[name]):
                raise ValueError(
                    f"rank: at most min(m, n) = {min(sizes[name])} of the layer {name!r} is "
                    f"expected, got {self.rank}"
                )
        if not self.layers or len(set(self.layers)) != len(self.layers):
            raise ValueError(
                f"layers: different names, at least one, are expected, got {self.layers}"
            )
        if self.starts is not None:
            self._require_starts(self.starts)

    def _require_starts(self, starts: tuple[Pair, ...]) -> None:
        members, sizes = self.pretrained.model.members, self.architecture.layers
        expected = [
            ((members, m, self.rank), (members, self.rank, n))
            for m, n in (sizes[name] for name in self.adapted)
        ] * self.architecture.depth
        given = [(tuple(B.shape), tuple(A.shape)) for B, A in starts]
        if given != expected:
            raise ValueError(f"starts: shapes {expected} are expected, got {given}")

    @property
    def adapted(self) -> list[str]:
        """The layers of a block that have adapters, in the order of the architecture."""
        return [name for name in self.architecture.layers if name in self.layers]

    @property
    def architecture(self) -> Architecture:
        """Of the pretrained models."""
        return self.pretrained.architecture

    def described(self) -> dict[str, Any]:
        """Plain values that differ where adaptations do."""
        return {
            "rank": self.rank,
            "layers": sorted(self.layers),
            "scale": self.scale,
            "pretrained": self.pretrained.digest(),
            "starts": self.starts and hashlib.sha256(_bits(*chain(*self.starts))).hexdigest(),
        }

    def model(
        self,
        seeds: Sequence[int],
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> CharacterTransformer:
        """E members that begin as the pretrained models do.

        A member is a function of its seed alone, bit for bit; the adapter of a layer does not
        depend on which others there are, and those of a smaller rank are parts of greater ones.

        Args:
            seeds: one a member, of the adapters and of the choice among pretrained models.
            dtype, device: of all parameters.

        Raises:
            ValueError: as ``CharacterTransformer`` does, and a seed that no model has.
        """
        require_place(seeds, dtype, torch.device(device))
        places = self.pretrained.places(seeds)
        model = copy.deepcopy(self.pretrained.model)
        for p in model.parameters():
            p.requires_grad_(False)
            p.data = p.data[places]
        streams = Streams(seeds, ADAPTERS)
        starts = iter(self.starts or ())
        for block in model.blocks:
            self._adapt(cast("Block", block), streams, starts, places)
        return model.to(device=device, dtype=dtype)

    def _adapt(
        self, block: Block, streams: Streams, starts: Iterator[Pair], places: list[int]
    ) -> None:
        for name, (m, n) in self.architecture.layers.items():
            A = streams.gaussian(min(m, n), n)[:, : self.rank] / n**0.5
            if name not in self.layers:
                continue
            B = torch.zeros(len(A), m, self.rank)
            W = cast("DenseLayer", block.layers[name]).weight.data
            if self.starts is not None:
                B, A = (factor[places] for factor in next(starts))
                W = frozen_weight(W, B, A, adapter_scale=self.scale)
            block.layers[name] = AdapterLayer(W, B, A, self.scale)


def _bits(*tensors: Tensor) -> bytes:
    return b"".join(x.cpu().contiguous().view(torch.uint8).numpy().tobytes() for x in tensors)
