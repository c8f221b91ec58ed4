"""What a spectral direction is made of: velocity, gradient, singular values and the metric."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from geometry.smoothing import beta_tensor, smoothing_named


class Spectrum(NamedTuple):
    """The pieces of -T_beta(G) = -G V diag(1 / p) V^T; B's part at index 0, A^T's at index 1.

    Attributes:
        velocity: (L, 2, d, r), -T_beta(G).
        gradient: (L, 2, d, r), G: G_B above G_A^T.
        vectors: (L, 2, r, r), V, the eigenvectors of G^T G in its columns.
        singular_values: (L, 2, r), s >= 0 in the order of the vectors.
        metric: (L, 2, r), p = s / f(s): (s^2 + beta^2)^(1/2) for the square-root smoothing f.
        slope: (L, 2, r), f'(s).
    """

    velocity: Tensor
    gradient: Tensor
    vectors: Tensor
    singular_values: Tensor
    metric: Tensor
    slope: Tensor


def spectrum_of(gradient: Tensor, beta: float | Tensor, smoothing: str) -> Spectrum:
    """The spectrum of gradients (L, 2, d, r) by their Gram matrices; beta a number or (L, 1).

    Raises:
        ValueError: for an unknown smoothing or a beta that is not positive.
        torch.linalg.LinAlgError: for gradients that are not finite, on the CPU.
    """
    eigenvalues, vectors = torch.linalg.eigh(gradient.mT @ gradient)
    eigenvalues = eigenvalues.clamp_min(0)
    scale = beta_tensor(beta, gradient)
    smooth = smoothing_named(smoothing)
    inverse = smooth.on_gram_eigenvalues(eigenvalues, scale)
    velocity = -(gradient @ ((vectors * inverse[..., None, :]) @ vectors.mT))
    s = eigenvalues.sqrt()
    return Spectrum(velocity, gradient, vectors, s, 1 / inverse, smooth.slope(s, scale))
