"""The manifold of fixed rank: what is tangent, and how far a retraction strays."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from claims.measuring.draws import gaussian_there
from claims.measuring.intervals import slope_with_interval
from claims.registry import DEVICES, Claim, Evidence, Measurement, Setting
from claims.riemannlora.points import (
    PAPER,
    REFERENCE,
    gaussian_point,
    matrix,
    product,
    truncated,
)
from geometry.fixed_rank import FixedRank, Tangent, retract, tangent_projection

norm = torch.linalg.matrix_norm

# (X, Z) to the part of Z, (..., m, n), that is called tangent.
Projection = Callable[[FixedRank, Tensor], Tensor]
# (X, xi) to a dense matrix on the manifold.
Retraction = Callable[[FixedRank, Tangent], Tensor]


def _in_factors(x: FixedRank, Z: Tensor) -> Tensor:
    return matrix(x, tangent_projection(x, Z))


def _without_core(x: FixedRank, Z: Tensor) -> Tensor:
    return x.U @ (x.U.mT @ Z) + (Z @ x.V) @ x.V.mT


def _rows_alone(x: FixedRank, Z: Tensor) -> Tensor:
    return (Z @ x.V) @ x.V.mT


def _by_definition(x: FixedRank, Z: Tensor) -> Tensor:
    """The nearest of all dB A + B dA, B = U S and A = V^T, by least squares."""
    *_, m, r = x.U.shape
    n, batch = x.V.shape[-2], x.U.shape[:-2]
    eye_m, eye_n = torch.eye(m).to(Z), torch.eye(n).to(Z)
    # Columns of the differential, (m n, (m + n) r): e_i a_k^T and b_k e_j^T.
    by_B = torch.einsum("im,...jk->...ijmk", eye_m, x.V).reshape(*batch, m * n, m * r)
    by_A = torch.einsum("...ik,jn->...ijkn", x.U @ x.S, eye_n).reshape(*batch, m * n, r * n)
    Q, _, _ = torch.linalg.svd(torch.cat([by_B, by_A], dim=-1), full_matrices=False)
    # r^2 directions of the factors, the gauge, move nothing.
    kept = (m + n - r) * r
    z = Z.reshape(*batch, m * n, 1)
    return (Q[..., :kept] @ (Q[..., :kept].mT @ z)).reshape(Z.shape)


def _projection(setting: Setting, project: Projection) -> Evidence:
    found: dict[str, list[float]] = {}
    for m, n, r in setting["shapes"]:
        x, Z = gaussian_point(setting, m, n, r), gaussian_there(setting, m, n, stream=2)
        tangent, size = project(x, Z), norm(Z)
        new = retract(x, tangent_projection(x, Z))
        target = truncated(product(x) + _in_factors(x, Z), r)
        for name, error in {
            "||P P Z - P Z|| / ||Z||": norm(project(x, tangent) - tangent) / size,
            "<P Z, Z - P Z> / ||Z||^2": (tangent * (Z - tangent)).sum((-2, -1)).abs() / size**2,
            "||P Z - nearest dB A + B dA|| / ||Z||": norm(tangent - _by_definition(x, Z)) / size,
            "||R(X, xi) - truncated SVD|| / ||X + xi||": norm(product(new) - target) / norm(target),
        }.items():
            found.setdefault(name, []).append(float(error.max()))
    return Evidence(
        tuple(
            Measurement(f"{name}, most", np.max(errors), "<=", 1e-13)
            for name, errors in found.items()
        )
    )


def check_projection(setting: Setting) -> Evidence:
    """Tangent vectors are dB A + B dA, so with X = U S V^T all matrices C V^T + U D^T.

    N is orthogonal to all of them where N V = 0 and U^T N = 0. Z - P Z =
    (I - U U^T) Z (I - V V^T) is such an N, and P Z = U U^T Z + (I - U U^T) Z V V^T is tangent; so P
    is the orthogonal projector, idempotent, and P Z the nearest tangent vector, which least squares
    over all dB, dA finds without knowing of U and V's projectors. The retraction by a core of
    2 r x 2 r is the truncated SVD of X + xi.
    """
    return _projection(setting, _in_factors)


def control_without_core(setting: Setting) -> Evidence:
    """U U^T Z + Z V V^T, without - U U^T Z V V^T: counts the core twice."""
    return _projection(setting, _without_core)


def control_rows_alone(setting: Setting) -> Evidence:
    """Z V V^T: a projector, on the half of the tangent space that moves B alone."""
    return _projection(setting, _rows_alone)


def _retracted(x: FixedRank, xi: Tangent) -> Tensor:
    return product(retract(x, xi))


def _on_factors(x: FixedRank, xi: Tangent) -> Tensor:
    """(U S + D_U)(V + D_V S^-T)^T, on the manifold and X + xi to first order."""
    return (x.U @ x.S + xi.D_U) @ (x.V + torch.linalg.solve(x.S, xi.D_V.mT).mT).mT


def _order(setting: Setting, retraction: Retraction) -> Evidence:
    m, n, r = setting["shape"]
    x = gaussian_point(setting, m, n, r)
    xi = tangent_projection(x, gaussian_there(setting, m, n, stream=2))
    # Of the size of the least singular value of X, the curvature's radius.
    size = torch.linalg.svdvals(x.S)[..., -1] / norm(matrix(x, xi), 2)
    xi = Tangent(*(size[:, None, None] * half for half in xi))
    normal = xi.D_V - x.V @ (x.V.mT @ xi.D_V)
    second = xi.D_U @ torch.linalg.solve(x.S, normal.mT)
    lengths = 2.0 ** -torch.arange(*setting["halvings"], dtype=torch.float64)
    errors: list[list[Tensor]] = [[], [], []]
    for t in lengths.tolist():
        moved = Tangent(t * xi.D_U, t * xi.D_V)
        left = retraction(x, moved) - product(x) - matrix(x, moved)
        tangential = matrix(x, tangent_projection(x, left))
        for kept, part in zip(errors, (left, tangential, left - t**2 * second), strict=True):
            kept.append(norm(part))
    names = (
        "slope of ||R(X, t xi) - X - t xi||",
        "slope of its tangential part",
        "slope of what t^2 D_U S^-1 D_V^T (I - V V^T) leaves",
    )
    measurements, remarks = [], []
    logs = lengths.log().numpy()
    for name, kept, order in zip(names, errors, (2, 3, 3), strict=True):
        slope, interval = slope_with_interval(logs, torch.stack(kept, -1).log().cpu().numpy())
        measurements.append(Measurement(name, slope, "within", (order - 0.1, order + 0.1)))
        remarks.append(f"{name}: {slope:.3f} [{interval[0]:.3f}, {interval[1]:.3f}]")
    arrays = {"lengths": lengths, "errors": torch.stack([torch.stack(e, -1) for e in errors])}
    return Evidence(
        tuple(measurements), {name: v.cpu().numpy() for name, v in arrays.items()}, tuple(remarks)
    )


def check_order(setting: Setting) -> Evidence:
    """In bases that begin with U and V, X + t xi = [S + t C, t K; t H, 0].

    The matrix of rank r with the same first rows and columns has t^2 H (S + t C)^-1 K in place of
    the 0. The nearest is off from that one by O(t^3), being what minimises over all four blocks. So
    R(X, t xi) = X + t xi + t^2 D_U S^-1 D_V^T (I - V V^T) + O(t^3), and the term of second order is
    normal: U^T D_U = 0. xi has the norm of the least singular value of X.
    """
    return _order(setting, _retracted)


def control_on_factors(setting: Setting) -> Evidence:
    """(B + t dB)(A + t dA) with dB A + B dA = xi: its t^2 dB dA has a tangential part."""
    return _order(setting, _on_factors)


CLAIMS = (
    Claim(
        id="riemannlora.projection",
        paper=PAPER,
        title="The projection in factors is the orthogonal projector on the tangent space",
        statement=(
            r"$P(Z) = U U^\top Z + (I - U U^\top) Z V V^\top$: $P P = P$, "
            r"$\langle P Z, Z - P Z\rangle = 0$, nearest of all $dB\,A + B\,dA$; the retraction is "
            r"the truncated SVD."
        ),
        reference=f"{REFERENCE}, Section 3",
        source="paper",
        setup="Gaussian B, A, Z; 12 x 9 with r = 3, 9 x 14 with r = 4, 8 x 8 with r = 5",
        criterion="to 1e-13",
        check=check_projection,
        devices=DEVICES,
        controls={"without the core": control_without_core, "rows alone": control_rows_alone},
        tiers={
            "quick": {"seeds": 8, "shapes": ((12, 9, 3), (9, 14, 4), (8, 8, 5))},
            "full": {"seeds": 128, "shapes": ((12, 9, 3), (9, 14, 4), (8, 8, 5), (24, 20, 6))},
        },
    ),
    Claim(
        id="riemannlora.retraction-order",
        paper=PAPER,
        title="The retraction strays by the square of the step, and along the manifold by its cube",
        statement=(
            r"$\|R(X, t\xi) - X - t\xi\| = O(t^2)$, the tangential part of it $O(t^3)$."
        ),
        reference=f"{REFERENCE}, Section 3",
        source="derived",
        setup="Gaussian points and directions, 40 x 30, r = 4, t = 2^-5 to 2^-10",
        criterion="exponents 2 and 3 within .1",
        check=check_order,
        devices=DEVICES,
        controls={"a step on the factors": control_on_factors},
        tiers={
            "quick": {"seeds": 8, "shape": (40, 30, 4), "halvings": (5, 11)},
            "full": {"seeds": 128},
        },
    ),
)  # fmt: skip
