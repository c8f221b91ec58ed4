"""What the optimisers that orthogonalise within a sketch of the momentum share."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from geometry.errors import require_nonnegative
from geometry.orthogonalizers import orthogonalizer_named
from geometry.philox import uniforms
from geometry.sketch import low_rank_msign, require_sketch_sizes, sketch_named
from simulate.optimizers.descent import Rate, descend
from simulate.optimizers.matrix_optimizer import MatrixOptimizer
from simulate.optimizers.parameter_stack import ParameterStack
from simulate.optimizers.rate_adjustment import rate_adjustment_named
from simulate.optimizers.unchanged import version_of

Seed = int | Tensor


class SketchingOptimizer(MatrixOptimizer):
    """Base of those that step along Q O(Q^T D), Q a basis of a sketch of the direction D.

    Options beside ``lr`` and ``weight_decay``:

    * rank, oversampling: l = rank + oversampling vectors are drawn, at most min(m, n).
    * sketch: "columns", "weighted" or "gaussian", see `geometry.sketch.SKETCHES`.
    * power_iterations: of the sketch, each re-orthonormalised.
    * orthogonalizer, ns_steps: O, a name in `geometry.orthogonalizers.ORTHOGONALIZERS`, and its
      steps; "svd" is exact.
    * adjust_lr_fn: a name in `simulate.optimizers.rate_adjustment.RATE_ADJUSTMENTS`; None is
      "original", as in torch.
    * seed: what is drawn is a function of the seed, the place of the parameter in the optimiser and
      its step. One int for all members, which then draw alike, or an int64 tensor, one a member.
    """

    member_options: ClassVar[tuple[str, ...]] = ("seed",)

    def require_options(self, options: Mapping[str, Any]) -> None:
        """Raise ValueError for an option out of its range."""
        require_nonnegative("weight_decay", options["weight_decay"])
        sketch_named(options["sketch"])
        orthogonalizer_named(options["orthogonalizer"]).polynomials(options["ns_steps"])
        rate_adjustment_named(options["adjust_lr_fn"])
        _require_seed(options["seed"])

    def require_group(self, index: int) -> None:
        """Raise ValueError also for a rank that some matrix of the group does not have."""
        super().require_group(index)
        group = self.param_groups[index]
        for p in group["params"]:
            require_sketch_sizes(*p.shape[-2:], *(group[name] for name in _SIZES))

    def drawn(self, stack: ParameterStack, steps: Sequence[int]) -> dict[str, Any]:
        """Uniform numbers for the sketches, (k, ..., *draws)."""
        options, (*batch, m, n) = stack.options, stack.parameters[0].shape
        shape = sketch_named(options["sketch"]).draws(
            max(m, n), options["rank"] + options["oversampling"]
        )
        # What was drawn ahead is no state: a copy of the optimiser draws it again.
        ahead: dict[tuple[int, tuple[int, ...]], _Ahead] = self.__dict__.setdefault("_ahead", {})
        key = stack.group, stack.indices
        count = math.prod(shape)
        if key not in ahead or not ahead[key].holds(options["seed"], steps, count):
            ahead[key] = _drawn_ahead(stack, steps, count)
        numbers = ahead[key].at(steps)
        # Behind the stack come the seeds' dimensions, of which there may be less than the batch's.
        ones = (1,) * (len(batch) - numbers.ndim + 2)
        return {"uniforms": numbers.reshape(len(steps), *ones, *numbers.shape[1:-1], *shape)}


_SIZES = ("rank", "oversampling", "power_iterations")

# Small draws are made for several steps at a time, so many numbers at most: they are all overhead.
_BLOCK = 1 << 14


@dataclass(frozen=True)
class _Ahead:
    """What a stack draws in its next steps."""

    seed: Seed
    version: int
    first: Sequence[int]  # (k) steps
    numbers: Tensor  # (S, k, seeds that differ, count), of steps first, first + 1, ...
    place: Tensor  # of each member's seed among them

    def holds(self, seed: Seed, steps: Sequence[int], count: int) -> bool:
        same = seed is self.seed if isinstance(seed, Tensor) else seed == self.seed
        offset = steps[0] - self.first[0]
        return (
            same
            and self.version >= 0
            and count == self.numbers.shape[-1]
            and version_of(seed) == self.version
            and 0 <= offset < len(self.numbers)
            and all(step - first == offset for step, first in zip(steps, self.first, strict=True))
        )

    def at(self, steps: Sequence[int]) -> Tensor:
        return self.numbers[steps[0] - self.first[0]][:, self.place]


def _drawn_ahead(stack: ParameterStack, steps: Sequence[int], count: int) -> _Ahead:
    device, seed = stack.parameters[0].device, stack.options["seed"]
    # Members that share a seed share what it draws.
    own, place = torch.as_tensor(seed, device=device).unique(return_inverse=True)
    block = max(1, min(64, _BLOCK // (len(steps) * len(own) * count)))
    coming = torch.tensor(steps, device=device) + torch.arange(block, device=device)[:, None]
    places = torch.tensor([stack.group << 16 | index for index in stack.indices], device=device)
    numbers = uniforms(own, count, step=coming[..., None], stream=places[:, None])
    return _Ahead(seed, version_of(seed), tuple(steps), numbers, place)


def sketched_step(W: Tensor, D: Tensor, options: Mapping[str, Any]) -> Tensor:
    """(1 - lr weight_decay) W - lr ratio(m, n) Q O(Q^T D)."""
    direction = low_rank_msign(
        D,
        options["rank"],
        options["sketch"],
        oversampling=options["oversampling"],
        power_iterations=options["power_iterations"],
        orthogonalizer=options["orthogonalizer"],
        steps=options["ns_steps"],
        uniforms=options["uniforms"],
    )
    lr: Rate = options["lr"]
    ratio = rate_adjustment_named(options["adjust_lr_fn"]).ratio(*W.shape[-2:])
    return descend(W, direction, lr, ratio, options["weight_decay"])


def _require_seed(seed: Seed) -> None:
    if isinstance(seed, Tensor):
        if seed.dtype != torch.int64:
            raise ValueError(f"seeds of members must be an int64 tensor, got {seed.dtype}")
    elif isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**63:
        raise ValueError(f"seed must be an int in [0, 2^63), or one a member, got {seed!r}")
