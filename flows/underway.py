"""What implicit steps leave of every lane between two corrections."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from flows.frozen_metric import PARTS, FrozenMetric

# Stages first, lanes second.
STAGEWISE = ("Z", "last_Z")
# The contraction of an iteration of which nothing is known.
UNKNOWN = 0.95


@dataclass
class Underway:
    """The state of L lanes, the step each is in and the last it made.

    Attributes:
        t: flow time. y, f: (L, N), the state there and its velocity.
        h, target: length and end of the step. correction: how many it had. size: of the last of
            them. rises: how often it grew. contraction: by what corrections shrank, when last seen.
        planned: the length that the step would have where no time is requested.
        arrival: flow time until the next singular value of a gradient reaches zero.
        singular_values: (L, 2 r), of both gradients at t, ascending.
        slack: how much of its tolerance the error estimate may use.
        last_h, last_error, has_last: of the last accepted step. rejections: since then.
        evaluations: right-hand sides so far.
        Z: (S, L, N), increments of the stages. last_Z: those of the last accepted step.
        filter: the metric at t.
    """

    t: Tensor
    h: Tensor
    target: Tensor
    planned: Tensor
    arrival: Tensor
    slack: Tensor
    size: Tensor
    last_h: Tensor
    last_error: Tensor
    has_last: Tensor
    rejections: Tensor
    correction: Tensor
    rises: Tensor
    contraction: Tensor
    evaluations: Tensor
    singular_values: Tensor
    y: Tensor
    f: Tensor
    Z: Tensor
    last_Z: Tensor
    filter: FrozenMetric

    @classmethod
    def at_rest(
        cls, y: Tensor, f: Tensor, singular_values: Tensor, metric: FrozenMetric, stages: int
    ) -> Underway:
        """Before the first step, from states y (L, N) at 0."""
        count = len(y)

        def numbers(value: float) -> Tensor:
            return y.new_full((count,), value)

        def counts() -> Tensor:
            return torch.zeros(count, dtype=torch.long, device=y.device)

        def stagewise() -> Tensor:
            return y.new_zeros(stages, *y.shape)

        return cls(
            t=numbers(0.0),
            h=numbers(1.0),
            target=numbers(0.0),
            planned=numbers(1.0),
            arrival=numbers(torch.inf),
            slack=numbers(1.0),
            size=numbers(0.0),
            last_h=numbers(1.0),
            last_error=numbers(1.0),
            has_last=counts().bool(),
            rejections=counts(),
            correction=counts(),
            rises=counts(),
            contraction=numbers(UNKNOWN),
            evaluations=counts(),
            singular_values=singular_values,
            y=y.clone(),
            f=f,
            Z=stagewise(),
            last_Z=stagewise(),
            filter=metric,
        )

    def tensors(self) -> dict[str, Tensor]:
        """All of them by their names, those of the metric among them."""
        own = {field.name: getattr(self, field.name) for field in fields(self)}
        metric = own.pop("filter")
        return own | dict(zip(PARTS, metric.parts, strict=True))

    def select(self, stay: Tensor) -> Underway:
        """Some of the lanes, positions (K,)."""
        kept = {
            field.name: getattr(self, field.name).index_select(int(field.name in STAGEWISE), stay)
            for field in fields(self)
            if field.name != "filter"
        }
        return Underway(**kept, filter=self.filter.select(stay))
