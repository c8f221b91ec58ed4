"""Every figure there is. A new figure is a module with a ``FIGURE``, and one line here."""

from __future__ import annotations

from figures import (
    adapter_spectra,
    alignment,
    arrivals,
    crossover,
    discretisation,
    equal_rate,
    gauge_drift,
    gradient_spectra,
    gram_and_qr,
    l2,
    lockstep,
    order_boundary,
    orthogonalizer_error,
    rates_by_rank,
    rates_by_rescaling,
    rates_by_size,
    saddles_and_rates,
    scale_dependence,
    singular_values,
    sketched_pretraining,
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
    rates_by_rank.FIGURE,
    rates_by_size.FIGURE,
    rates_by_rescaling.FIGURE,
    adapter_spectra.FIGURE,
    step_time.FIGURE,
    orthogonalizer_error.FIGURE,
    alignment.FIGURE,
    crossover.FIGURE,
    sketched_pretraining.FIGURE,
    gradient_spectra.FIGURE,
)
