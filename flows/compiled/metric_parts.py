"""The parts of frozen metrics by blocks: of one state or of several, loaded, stored and chosen."""

from __future__ import annotations

from typing import NamedTuple

from flows.compiled.blocks import (
    Array,
    aligned,
    apart,
    choose,
    load,
    load_pairs,
    maker,
    spoil,
    store,
    store_pairs,
)
from flows.compiled.lanes import WIDTH, Lanes, Mask, every


class Metric(NamedTuple):
    """The parts of a factorisation by blocks, as ``FrozenMetric`` has them.

    Attributes:
        left, states: (2, d, r, WIDTH). rates: (2, 1, r, WIDTH). The others: (2, r, r, WIDTH).
    """

    left: Array
    vectors: Array
    grams: Array
    weights: Array
    basis: Array
    dual: Array
    rates: Array
    states: Array


@maker
def empty_metrics(count: int, d: int, r: int) -> Metric:
    """Room for the metrics of ``count`` states (2, d, r), the first axis."""
    return Metric(
        aligned((count, 2, d, r, WIDTH)),
        aligned((count, 2, r, r, WIDTH)),
        aligned((count, 2, r, r, WIDTH)),
        aligned((count, 2, r, r, WIDTH)),
        aligned((count, 2, r, r, WIDTH)),
        aligned((count, 2, r, r, WIDTH)),
        aligned((count, 2, 1, r, WIDTH)),
        aligned((count, 2, d, r, WIDTH)),
    )


def _metric_at(metrics: Metric, n: int) -> Metric:
    """The metric of state n."""
    return Metric(
        metrics.left[n],
        metrics.vectors[n],
        metrics.grams[n],
        metrics.weights[n],
        metrics.basis[n],
        metrics.dual[n],
        metrics.rates[n],
        metrics.states[n],
    )


metric_at = apart(_metric_at)
# For those who count references.
_counted_metric_at = maker(_metric_at)


@maker
def empty_metric(d: int, r: int) -> Metric:
    """Room for the metric of one state (2, d, r)."""
    return _counted_metric_at(empty_metrics(1, d, r), 0)


@apart
def load_metric(source: Metric, first: int, count: int, metric: Metric) -> None:
    """Lanes first to first + count of parts that have the lanes first, rates (L, 2, r)."""
    load_pairs(source.left, first, count, metric.left)
    load_pairs(source.vectors, first, count, metric.vectors)
    load_pairs(source.grams, first, count, metric.grams)
    load_pairs(source.weights, first, count, metric.weights)
    load_pairs(source.basis, first, count, metric.basis)
    load_pairs(source.dual, first, count, metric.dual)
    load_pairs(source.states, first, count, metric.states)
    for side in range(2):
        load(source.rates[:, side : side + 1], first, count, metric.rates[side])


@apart
def store_metric(metric: Metric, first: int, count: int, out: Metric) -> None:
    """What :func:`load_metric` would load."""
    store_pairs(metric.left, first, count, out.left)
    store_pairs(metric.vectors, first, count, out.vectors)
    store_pairs(metric.grams, first, count, out.grams)
    store_pairs(metric.weights, first, count, out.weights)
    store_pairs(metric.basis, first, count, out.basis)
    store_pairs(metric.dual, first, count, out.dual)
    store_pairs(metric.states, first, count, out.states)
    for side in range(2):
        store(metric.rates[side], every(0.0), first, count, out.rates[:, side : side + 1])


@apart
def spoil_metric(metric: Metric, poison: Lanes) -> None:
    """NaN in every part of lanes that are poisoned."""
    for side in range(2):
        spoil(metric.left[side], poison)
        spoil(metric.vectors[side], poison)
        spoil(metric.grams[side], poison)
        spoil(metric.weights[side], poison)
        spoil(metric.basis[side], poison)
        spoil(metric.dual[side], poison)
        spoil(metric.rates[side], poison)
        spoil(metric.states[side], poison)


@apart
def choose_metric(good: Mask, found: Metric, kept: Metric) -> None:
    """kept = found in lanes that are good."""
    for side in range(2):
        choose(good, found.left[side], kept.left[side], kept.left[side])
        choose(good, found.vectors[side], kept.vectors[side], kept.vectors[side])
        choose(good, found.grams[side], kept.grams[side], kept.grams[side])
        choose(good, found.weights[side], kept.weights[side], kept.weights[side])
        choose(good, found.basis[side], kept.basis[side], kept.basis[side])
        choose(good, found.dual[side], kept.dual[side], kept.dual[side])
        choose(good, found.rates[side], kept.rates[side], kept.rates[side])
        choose(good, found.states[side], kept.states[side], kept.states[side])
