"""Low rank against dense: at equal forward operations, and at equal tokens."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from claims.lora_muon.contestants import LORA_MUON, MUON
from claims.lora_muon.matrices import REFERENCE
from claims.lora_muon.sizes import SIZES
from claims.lora_muon.steps_written_out import contestants_written_out
from claims.measuring.intervals import mean_with_interval
from claims.measuring.study import Study, not_here, recorded, told
from claims.registry import DEVICES, TRAINS_IN, Claim, Evidence, Measurement, Setting


def _against_dense(setting: Setting, *, equal_operations: bool) -> Evidence:
    """The loss of the setting's rank less that of dense Muon, by seed, each at its best rate."""
    study = Study(setting)
    (dense,) = study.lines(MUON)
    (low,) = study.lines(LORA_MUON, rank=[setting["rank"]])
    if equal_operations:
        share = dense.architecture.forward_flops / low.architecture.forward_flops
        low = replace(low, steps=round(dense.steps * share))
    curves = study.curves([dense, low])
    bests = [curve.best() for curve in curves]
    excess = curves[1].least - curves[0].least
    mean, least, most = mean_with_interval(excess)
    arrays = recorded(curves, bests) | {
        "excess": excess,
        "steps": np.array([curve.line.steps for curve in curves]),
    }
    edges = sum(curve.at_edge for curve in curves)
    measurements = (
        Measurement(
            "excess loss over dense, upper end of the 95% interval, nats",
            most, "<=", 0.0,
        ),
        # One that is not tuned may lose for that.
        Measurement("best rates left at an edge", edges, "<=", 0),
    )  # fmt: skip
    remarks = (
        f"excess {mean:+.4f} [{least:+.4f}, {most:+.4f}] nats after {low.steps} steps against "
        f"{dense.steps}",
        told("dense", bests[0]),
        told(f"r = {setting['rank']}", bests[1]),
        study.scale(),
    )
    return Evidence(measurements, arrays, remarks)


def check_operations(setting: Setting) -> Evidence:
    """Steps in inverse proportion to the forward operations of a token.

    Products, attention and logits count; the backward pass takes twice as many of either, and the
    optimisers' own are left out. Both are tuned by the same protocol, text and batches of a seed
    are the same as far as both go.
    """
    found = _against_dense(setting, equal_operations=True)
    return found.also(*contestants_written_out([MUON, LORA_MUON]))


def control_tokens(setting: Setting) -> Evidence:
    """As many steps for both: the matching by which low rank is not expected to win."""
    return _against_dense(setting, equal_operations=False)


CLAIMS = (
    Claim(
        id="lora-muon.rank-32-beats-dense",
        paper="lora-muon",
        title="Low rank beats dense at equal forward operations",
        statement=(
            r"At matched compute LoRA-Muon at a quarter of the width, $r = 32$ of 128, attains a "
            "lower validation loss than dense Muon."
        ),
        reference=REFERENCE,
        source="paper",
        setup="as lr-transfer-rank; rank a quarter of the width; each at its own best rate; steps "
        "in inverse proportion to forward operations",
        criterion="the 95% interval of the difference, paired by seed, below 0; best rates "
        "inside of what was tried; steps by the optimisers' formulas",
        check=check_operations,
        controls={"equal tokens": control_tokens},
        tiers=SIZES,
        skip=not_here,
        devices=DEVICES,
        dtypes=TRAINS_IN,
    ),
)
