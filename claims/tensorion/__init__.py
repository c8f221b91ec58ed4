"""Tensorion: A Tensor-Aware Generalization of the Muon Optimizer, arXiv 2606.25975."""

from claims.tensorion import choice, convergence, descent, lmo, matrices, norms

CLAIMS = (
    *lmo.CLAIMS,
    *norms.CLAIMS,
    *matrices.CLAIMS,
    *descent.CLAIMS,
    *choice.CLAIMS,
    *convergence.CLAIMS,
)
