"""Every figure there is. A new figure is a module with a ``FIGURE``, and one line here."""

from __future__ import annotations

from figures import (
    arrivals,
    discretisation,
    equal_rate,
    gauge_drift,
    gram_and_qr,
    l2,
    lockstep,
    order_boundary,
    saddles_and_rates,
    scale_dependence,
    singular_values,
    step_time,
    tangent_share,
)
from figures.figure import Figure

FIGURES: tuple[Figure, ...] = (
    singular_values.FIGURE,
    equal_rate.FIGURE,
    arrivals.FIGURE,
    order_boundary.FIGURE,
    saddles_and_rates.FIGURE,
    discretisation.FIGURE,
    lockstep.FIGURE,
    l2.FIGURE,
    gauge_drift.FIGURE,
    gram_and_qr.FIGURE,
    tangent_share.FIGURE,
    scale_dependence.FIGURE,
    step_time.FIGURE,
)
