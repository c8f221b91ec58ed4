"""The singular values of the low-rank products of a run, at the step where it is."""

from __future__ import annotations

import torch
from torch import Tensor

from geometry.gauge import product_singular_values
from simulate.training import EnsembleTraining


@torch.no_grad()
def adapter_spectra(run: EnsembleTraining) -> Tensor:
    """The singular values of every pair's B A, descending, without the adapter's scale.

    By two thin QR factorisations and the SVD of an r x r core, in float64 whatever the dtype of
    the factors, all members and layers of one shape at once; no product is formed.

    Returns:
        (E, L, r) float64 on the CPU: members, pairs in the order of ``roles().pairs``, values; NaN
        for members that are gone.

    Raises:
        ValueError: a model without pairs.
    """
    pairs = run.model.roles().pairs
    if not pairs:
        raise ValueError("adapter_spectra: low-rank layers or adapters are expected, got none")
    alike: dict[object, list[int]] = {}
    for place, pair in enumerate(pairs):
        alike.setdefault((pair[0].shape, pair[1].shape), []).append(place)
    found = torch.empty(len(pairs), *pairs[0][0].shape[::2], dtype=torch.float64)
    for places in alike.values():
        B, A = (torch.stack([pairs[place][side] for place in places]).double() for side in (0, 1))
        found[places] = product_singular_values(B, A).cpu()
    return run.for_all(found.transpose(0, 1))
