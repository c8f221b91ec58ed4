"""A recorded run in a folder: synthetic evidence, and one claim of every other verdict."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from claims.judging import judge
from claims.registry import Claim, Evidence, Measurement, Setting, Verdict
from claims.results import Outcome, Recorder
from tests.figures.synthetic import all_arrays

RUN: Mapping[str, Any] = {
    "tier": "quick",
    "seed": 0,
    "command": "python paper_checks.py --only 'usg.*' --out <out>",
    "started": "2026-03-01T09:30:00+00:00",
    "commit": "0123456789abcdef",
    "versions": {"python": "3.12.3", "torch": "2.13.0", "numpy": "2.4.0", "paper-checks": "0.1"},
    "device": "cpu",
    "jobs": 2,
}
STATEMENTS = {
    "usg.smallest-first": (
        "The smallest singular value arrives first",
        r"Under spectral gradient flow the time at which $d_i \ge 0.9\,\sigma_i$ increases with "
        r"$\sigma_i$.",
    ),
    "usg.equal-rate": (
        "Active modes grow at one rate",
        r"While a mode is active, $\frac{\mathrm{d}}{\mathrm{d}t}\sqrt{d_i} = 1 + O(\beta^2)$.",
    ),
    "usg.gf-largest-first": (
        "Gradient flow learns the largest first",
        r"Under gradient flow $s(t) = \sigma / (1 + (\sigma/s_0 - 1)\, e^{-2\sigma t})$.",
    ),
    "usg.smallest-first-limit": (
        "Where smallest-first order ends",
        r"Smallest-first order needs $\sqrt{\sigma_i} + \tau_i$ increasing.",
    ),
    "usg.saddle-escape": (
        "Escape from a saddle",
        r"The escape time grows by $(\beta/|\lambda|) \ln(1/\epsilon)$.",
    ),
    "usg.local-rate": (
        "The rate near an optimum",
        r"Near an optimum $\lVert\nabla L\rVert_F$ decays at $(\sigma_r - \sigma_{r+1})/\beta$.",
    ),
    "usg.specgd-tracks-flow": (
        "Descent tracks the flow",
        r"SpecGD ends in a limit cycle with $L \le 2\eta^2 \sum_i \sigma_i$.",
    ),
    "usg.lockstep": (
        "The optimisers in lockstep with the flow",
        r"SpecGD makes Euler's iterates of SpecGF.",
    ),
    "usg.l2-convergence": (
        "Coupled $\\ell_2$ shrinks the spectrum",
        r"With coupled $\ell_2$ the product ends at $s_i = (\sigma_i - \lambda)_+$ and "
        r"$B^\top B = A A^\top$.",
    ),
    "usg.lora-finetune-spectrum": (
        "LoRA fine-tuning: near-uniform growth under Muon",
        r"The singular values of $BA$ grow near-uniformly under Muon: $s_1/s_8$ stays small.",
    ),
    "lora-muon.split-is-not-tangent-optimum": (
        "The split step beside the tangent space's optimum",
        r"The split step attains a share of $\max_{Z \in T_W, \|Z\|_2 \le 1} \langle G, Z\rangle$.",
    ),
    "lora-muon.gauge": (
        "One step does not depend on the gauge",
        r"The step from $(BC, C^{-1}A)$ leads to the same $W$ as that from $(B, A)$.",
    ),
    "lora-muon.gauge-damping": (
        "What damping keeps of it",
        r"A relative damping keeps $C = cQ$, $Q$ orthogonal.",
    ),
    "lora-muon.qr-equals-gram": (
        "The QR form is the Gram form",
        r"Round-off costs $u\,\kappa$ of a step, or $u\,\kappa^2$.",
    ),
    "lora-muon.rank-step-scale": (
        "The step in W is as large at every rank",
        r"$\|dW\|_2 / \eta \in [\frac12, 1]$.",
    ),
    "lora-muon.zero-init-kick": (
        "From the zero start, the second step moves A by its own size",
        r"$\|dA\|_F = \|A\|_F$ in the second step, whatever $\eta$ is.",
    ),
    "lora-muon.lr-transfer-rank": (
        "One learning rate for every rank",
        r"The best rate is dense Muon's at every rank $r \ge 2$.",
    ),
    "lora-muon.lr-transfer-width-depth": (
        "One learning rate for every width and depth",
        "The best rate is the same at every width and depth.",
    ),
    "lora-muon.best-rate-rescaling": (
        "One learning rate for every size of the factors",
        r"The best rate from $(cB, A/c)$ is that from $(B, A)$.",
    ),
    "spectron.not-invariant": (
        "Spectron's step depends on the scale of the factors",
        r"From $(cB, A/c)$, $\|dW\|/\eta$ depends on $c$.",
    ),
    "lora-muon.adapter-step-time": (
        "A step is faster than the QR forms",
        r"At $r \ge 16$ a step takes less time than one by QR.",
    ),
    "low-rank.orthogonaliser-table": (
        "How far from one each orthogonaliser leaves singular values",
        r"$\max_{s \in [10^{-3}, 1]} |1 - \phi_k(s)|$ after $k$ steps.",
    ),
    "low-rank.alignment": (
        "What a sketch keeps is alignment",
        r"$\rho = \|Q^\top M\|_*/\|M\|_*$ comes near the best rank-$r$ share.",
    ),
    "low-rank.heavy-tail-rate": (
        "Gradients under heavy-tailed noise",
        r"$\frac1K \sum_k E\|\nabla f(X_k)\|_F = O(K^{-(a-1)/(3a-2)})$.",
    ),
    "nesterov.rate": (
        "Nesterov momentum has the same rate",
        r"So it is with inexact and randomised polar factors.",
    ),
    "low-rank.cost": (
        "Low-rank orthogonalisation costs a fraction of Newton-Schulz",
        r"Five quintic steps take $5(4m^2n + 2m^3)$ flops.",
    ),
    "low-rank.pretraining": (
        "Low-rank Muon trains as well as Muon",
        r"With $l$ from $m/8$ to $m$ it attains a loss equal to or lower than Muon's.",
    ),
    "tensorion.lmo-optimal": (
        "The step is the best in the unit ball of the norm",
        r"$\langle G, S\rangle = \max_\tau \|G_\tau\|_*$.",
    ),
    "tensorion.norm-bounds": (
        "The norm lies between two others",
        r"$\|X\|_\sigma \le N(X) \le \min_\tau \|X_\tau\|_2$.",
    ),
    "tensorion.online-vs-offline": (
        "What it costs to choose the unfolding once for all",
        r"$N^*(G) \le \sqrt{r^*}\, \|G_{\tau^*}\|_*$.",
    ),
    "tensorion.convergence": (
        "Tensorion beside Muon on the flattened tensor and AdamW",
        "It needs fewer steps, and loses less beside its best rate.",
    ),
    "riemannlora.gauge": (
        "Runs on the manifold do not depend on the gauge",
        r"From $(BC, C^{-1}A)$ they reach the same product as from $(B, A)$.",
    ),
    "riemannlora.loi-optimal": (
        "The locally optimal start has the most of the gradient tangent",
        r"$\max_X \|P_X G\|_F^2 = \sum_{i \le 2r} \sigma_i^2$.",
    ),
    "riemannlora.loi-gain": (
        "What the start promises is had when it is large beside the step",
        r"All of $\eta \sum_{i \le 2r} \sigma_i^2$ for $\alpha \gg \eta \sigma_1$.",
    ),
    "riemannlora.riemannion-spectrum": (
        "Riemannion's direction is nearly orthogonal",
        r"Its singular values always lie in $(0.9, 1.1)$.",
    ),
    "riemannlora.finetune": (
        "Fine-tuning on the manifold of rank r",
        "Riemannion comes to a lower loss, and in fewer steps to a target.",
    ),
}
HOSTILE = "<script>alert('x')</script> & \"quoted\" </details>"
HTML_CLAIM, ERROR_CLAIM, SKIPPED_CLAIM = "usg.hostile", "lora.raises", "lora.needs-gpu"
VACUOUS_CLAIM, REFUTED_CLAIM = "lora.vacuous", "lora.refuted"


def declare(identifier: str, title: str, statement: str, **fields: Any) -> Claim:
    def check(_: Setting) -> Evidence:
        raise NotImplementedError("nothing is run here")

    controls = fields.pop("controls", ("gradient flow",))
    declared: dict[str, Any] = {
        "paper": identifier.partition(".")[0],
        "reference": "Theorem 5.7 of arXiv 2602.06385",
        "source": "paper",
        "setup": r"$Y$ of size $60 \times 70$ with $\sigma = (5, 4, 3, 2, 1)$, ten seeds",
        "criterion": r"every deviation at most $10^{-2}$, the slope within $2 \pm 0.3$",
    }
    return Claim(
        id=identifier, title=title, statement=statement, check=check,
        controls=dict.fromkeys(controls, check), **(declared | fields),
    )  # fmt: skip


def measured(deviation: float, slope: float) -> tuple[Measurement, ...]:
    return (
        Measurement("largest deviation from unit rate", deviation, "<=", 0.0116),
        Measurement(r"slope in $\beta$", slope, "within", (1.7, 2.3)),
        Measurement("seeds in order", 10.0, ">=", 10.0),
    )


def healthy(identifier: str, arrays: Mapping[str, Any]) -> Outcome:
    """A claim that holds, with its synthetic arrays."""
    names = sorted({key.split("/")[1] for key in arrays if key.startswith("control/")})
    claim = declare(identifier, *STATEMENTS[identifier], controls=names or ("gradient flow",))

    def part(prefix: str) -> dict[str, Any]:
        start = f"{prefix}/"
        return {k.removeprefix(start): v for k, v in arrays.items() if k.startswith(start)}

    evidence = Evidence(measured(5.8e-3, 1.99), part("check"), ("Every seed is shown.",))
    controls = {
        name: Evidence(measured(0.93, 0.02)[:2], part(f"control/{name}")) for name in claim.controls
    }
    verdict, reason = judge(claim, evidence, controls)
    return Outcome(claim, verdict, reason, evidence, controls, 1.234, None)


def others() -> list[Outcome]:
    """One outcome for each verdict but HOLDS."""
    good, bad = Evidence(measured(5.8e-3, 1.99)), Evidence(measured(0.93, 1.0))
    broken = measured(0.93, float("nan"))
    failing = declare(HTML_CLAIM, HOSTILE, f"{HOSTILE} with $x < y$", criterion=HOSTILE)
    vacuous = declare(VACUOUS_CLAIM, "A control that meets the bound", "It $\\le$ itself.")
    refuted = declare(
        REFUTED_CLAIM, "Folklore that is not so", "All $x$ are $y$.", expected=Verdict.REFUTED
    )
    shown = Evidence(good.measurements, counterexample=r"At $\beta = 0.1$ mode 1 comes last.")
    result = []
    for claim, check, control in (
        (failing, Evidence(broken, remarks=(HOSTILE,)), Evidence(broken)),
        (vacuous, good, good),
        (refuted, shown, bad),
    ):
        verdict, reason = judge(claim, check, {"gradient flow": control})
        controls = {"gradient flow": control}
        result.append(Outcome(claim, verdict, reason, check, controls, 0.1, None))
    trace = f"Traceback (most recent call last):\n  ...\nValueError: {HOSTILE}"
    raising = declare(ERROR_CLAIM, "It raises", "$x$")
    result.append(Outcome(raising, Verdict.ERROR, "ValueError", None, {}, 0.01, trace))
    waiting = declare(SKIPPED_CLAIM, "It needs a GPU", "$x$")
    result.append(Outcome(waiting, Verdict.SKIPPED, "no GPU here", None, {}, 0.0, None))
    return result


def skipping(identifier: str) -> Outcome:
    """A claim of the synthetic run, skipped."""
    claim = declare(identifier, *STATEMENTS[identifier])
    return Outcome(claim, Verdict.SKIPPED, "begins later", None, {}, 0.0, None)


def write_run(
    out: Path,
    without: Collection[str] = (),
    seeds: int = 10,
    *,
    skipped: Collection[str] = (),
    tier: str = "quick",
) -> Path:
    """Record the synthetic run in ``out``, leaving the claims ``without`` unrun."""
    arrays = all_arrays(seeds)
    outcomes = [
        skipping(name) if name in skipped else healthy(name, arrays[name]) for name in STATEMENTS
    ] + others()
    recorder = Recorder(
        out, {**RUN, "tier": tier}, order=[outcome.claim.id for outcome in outcomes]
    )
    for outcome in outcomes:
        if outcome.claim.id not in without:
            recorder.record(outcome)
    recorder.finish()
    return out
