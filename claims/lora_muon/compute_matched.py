"""Low rank against dense at equal tokens and at equal forward operations."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy import stats

from claims.lora_muon.contestants import LORA_MUON, MUON
from claims.lora_muon.matrices import REFERENCE
from claims.lora_muon.study import SIZES, Study, not_here, recorded, told
from claims.registry import Claim, Evidence, Measurement, Setting, Verdict
from simulate.cells import Line


def _against(study: Study, rival: Line) -> Evidence:
    """LoRA-Muon of the setting's rank beside a rival, each at its own best rate."""
    (equal_tokens,) = study.lines(LORA_MUON, rank=[study.setting["rank"]])
    share = rival.architecture.forward_flops / equal_tokens.architecture.forward_flops
    equal_operations = replace(equal_tokens, steps=round(rival.steps * share))
    curves = study.curves([rival, equal_tokens, equal_operations])
    bests = [curve.best() for curve in curves]
    measurements, differences, remarks = [], [], []
    for name, curve in zip(("tokens", "forward operations"), curves[1:], strict=True):
        excess = curve.least - curves[0].least
        half = float(stats.t.ppf(0.975, len(excess) - 1) * stats.sem(excess))
        measurements.append(
            Measurement(
                f"excess loss at equal {name}, lower end of the 95% interval, nats",
                float(excess.mean()) - half, ">=", 0.0,
            )
        )  # fmt: skip
        differences.append(excess)
        remarks.append(f"at equal {name} {excess.mean():+.4f} +- {half:.4f} nats")
    rank = equal_tokens.architecture.rank
    labels = ("rival", f"r = {rank}, {equal_tokens.steps} steps",
              f"r = {rank}, {equal_operations.steps} steps")  # fmt: skip
    remarks += [told(label, best) for label, best in zip(labels, bests, strict=True)]
    arrays = recorded(curves, bests) | {
        "excess": np.stack(differences),
        "steps": np.array([curve.line.steps for curve in curves]),
    }
    counterexample = (
        f"At equal forward operations rank {rank} has {differences[1].mean():+.3f} nats of loss "
        f"over dense Muon, at equal tokens {differences[0].mean():+.3f} "
        f"(width {study.setting['width']}, {len(differences[0])} seeds, each at its best rate)."
    )
    return Evidence(tuple(measurements), arrays, (*remarks, study.scale()), counterexample)


def check_dense(setting: Setting) -> Evidence:
    """The loss of rank r less that of dense Muon, by seed, both tuned by the same protocol.

    At equal tokens, and with as many more steps as make the forward operations equal. The text and
    the batches of a seed are the same. Above 0 the paper's headline does not hold at this scale.
    """
    study = Study(setting)
    (dense,) = study.lines(MUON)
    return _against(study, dense)


def control_rank_two(setting: Setting) -> Evidence:
    """Rank 2 in the dense matrix's place, which a larger rank has to beat."""
    study = Study(setting)
    (low,) = study.lines(LORA_MUON, rank=[2])
    return _against(study, low)


CLAIMS = (
    Claim(
        id="lora-muon.rank-32-beats-dense",
        paper="lora-muon",
        title="Low rank does not beat dense at matched compute",
        statement=(
            r"At matched compute LoRA-Muon at a quarter of the width, $r = 32$ of 128, attains a "
            "lower validation loss than dense Muon."
        ),
        reference=REFERENCE,
        source="paper",
        setup="as lr-transfer-rank; rank a quarter of the width; each at its own best rate; equal "
        "tokens, and steps in proportion to forward operations",
        criterion="refuted where 95% intervals of the excess loss lie above 0 in both matchings",
        check=check_dense,
        controls={"rank 2 in place of dense": control_rank_two},
        tiers=SIZES,
        expected=Verdict.REFUTED,
        skip=not_here,
    ),
)
