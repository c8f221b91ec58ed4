"""Symmetries of runs on factors: rotations of the gauge, any gauge, and transposition."""

from __future__ import annotations

from claims.registry import DEVICES, Claim, Evidence, Measurement, Setting, Verdict
from claims.riemannlora.points import PAPER, REFERENCE
from claims.riemannlora.runs import (
    ADAM,
    FACTOR_MUON,
    OF_THE_PAPER,
    ON_FACTORS,
    SETUP,
    STEPS,
    Make,
    differences,
    in_gauges,
    products,
    start_and_target,
)

# What a gauge that is not orthogonal changes at least, and transposition.
SEEN = 1e-2
# Twenty steps of well-conditioned round-off.
ROUNDING = 1e-13
BENT, STEEP = 10.0, 1e3


def _rotations(setting: Setting, name: str, make: Make) -> Evidence:
    pair, Y = start_and_target(setting)
    ends = products(make, in_gauges(setting, pair, (1.0, BENT)), Y)
    rotated, bent = differences(ends[1:], ends[:1])
    largest, least = float(rotated.max()), float(bent.min())
    alike = int((rotated <= ROUNDING).sum())
    return Evidence(
        (
            Measurement("difference in a rotated gauge, largest", largest, "<=", ROUNDING),
            Measurement(f"difference at condition {BENT:g}, least", least, ">=", SEEN),
        ),
        {"rotated": rotated.numpy(), "bent": bent.numpy()},
        counterexample=(
            f"{name} leads from (B, A) and from (B Q, Q^T A) to products {largest:.1e} apart, "
            f"relatively, after {STEPS} steps, for random orthogonal Q, in {alike} of "
            f"{len(rotated)} seeds within {ROUNDING:g}: msign(G Q) = msign(G) Q. Under C of "
            f"condition {BENT:g} they are at least {least:.2f} apart"
        ),
    )


def check_rotation(setting: Setting) -> Evidence:
    """B' = B Q and A' = Q^T A have the gradients G A^T Q and Q^T B^T G, and so the momenta.

    msign(m_B Q) = msign(m_B) Q and msign(Q^T m_A) = Q^T msign(m_A), for the polar factor
    U V^T of U S V^T passes rotations on; by induction the factors stay B Q and Q^T A, and their
    product what it is. So a rotation of the gauge is nothing to Muon on each factor. A C that is
    not orthogonal is: G A^T C^-T has another polar factor than a multiple of that of G A^T.
    """
    return _rotations(setting, FACTOR_MUON, ON_FACTORS[FACTOR_MUON])


def control_adam(setting: Setting) -> Evidence:
    """Adam, which a rotation of the gauge does change."""
    return _rotations(setting, ADAM, ON_FACTORS[ADAM])


def control_riemannion(setting: Setting) -> Evidence:
    """Riemannion, which no gauge changes."""
    return _rotations(setting, "Riemannion", OF_THE_PAPER["Riemannion"])


def _transposed(setting: Setting, make: Make) -> Evidence:
    (B, A), Y = start_and_target(setting)
    straight, steep = products(make, in_gauges(setting, (B, A), (STEEP,)), Y)
    mirrored = products(make, (A.mT, B.mT), Y.mT).mT
    gauges, mirrors = differences(steep, straight), differences(mirrored, straight)
    return Evidence(
        (
            Measurement(
                f"difference at condition {STEEP:g}, largest", float(gauges.max()), "<=", 1e-11
            ),
            Measurement("difference transposed, least", float(mirrors.min()), ">=", SEEN),
        ),
        {"gauges": gauges.numpy(), "transposed": mirrors.numpy()},
        (f"transposed, mean difference {float(mirrors.mean()):.3f}",),
    )


def check_transposed(setting: Setting) -> Evidence:
    """||D_U||_F and ||D_V||_F are norms of the tangent vector's halves, which no gauge changes.

    But the halves are unequal: D_V = G^T U has the part U U^T G V V^T in both spans, and
    D_U = (I - U U^T) G V has none of it. Transposed, it is counted with the other half, so the two
    are divided by other numbers, and P(G) is not scaled as its transpose is.
    """
    return _transposed(setting, OF_THE_PAPER["RiemannLoRA, adaptive"])


def control_plain(setting: Setting) -> Evidence:
    """RiemannLoRA without normalisation, which is symmetric."""
    return _transposed(setting, OF_THE_PAPER["RiemannLoRA"])


def control_adam_gauge(setting: Setting) -> Evidence:
    """Adam on the factors, which depends on the gauge and not on transposition."""
    return _transposed(setting, ON_FACTORS[ADAM])


CLAIMS = (
    Claim(
        id="riemannlora.muon-rotation",
        paper=PAPER,
        title="Muon on the factors depends on rotations of the gauge",
        statement=(
            r"Muon on each factor takes another path in $BA$ from $(BQ, Q^\top A)$, $Q$ "
            r"orthogonal, than from $(B, A)$."
        ),
        reference=f"{REFERENCE}, section 3.1",
        source="paper",
        setup=f"{SETUP}; exact polar factors, Q and C random",
        criterion=f"refuted: rotated, products agree to {ROUNDING:g}; at condition {BENT:g} they "
        f"differ by {SEEN:g} at least",
        check=check_rotation,
        devices=DEVICES,
        controls={ADAM: control_adam, "Riemannion": control_riemannion},
        tiers={"quick": {"seeds": 8}, "full": {"seeds": 256}},
        expected=Verdict.REFUTED,
    ),
    Claim(
        id="riemannlora.transpose-symmetry",
        paper=PAPER,
        title="Normalised by blocks, the gauge does not matter but transposition does",
        statement=(
            r"Adaptive RiemannLoRA is invariant to the gauge; from $(A^\top, B^\top)$ towards "
            r"$Y^\top$ it does not reach the transpose of what it reaches from $(B, A)$ towards "
            r"$Y$."
        ),
        reference=f"{REFERENCE}, the Adam variant",
        source="derived",
        setup=f"{SETUP}; C of condition {STEEP:g}",
        criterion=f"gauge at most 1e-11, transposed at least {SEEN:g}, in every seed",
        check=check_transposed,
        devices=DEVICES,
        controls={"without normalisation": control_plain, ADAM: control_adam_gauge},
        tiers={"quick": {"seeds": 8}, "full": {"seeds": 256}},
    ),
)
