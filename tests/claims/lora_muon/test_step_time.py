"""The claim on step times: that controls fail by construction."""

from __future__ import annotations

from claims import REGISTRY
from claims.lora_muon.step_time import FASTER


def test_the_core_is_not_faster_than_the_fastest_qr_form() -> None:
    claim = REGISTRY["lora-muon.adapter-step-time"]
    evidence = claim.controls["LoRA-RITE's core"](claim.setting("quick", 0))
    (upper,) = (m for m in evidence.measurements if "QR form" in m.name)
    assert upper.bound == FASTER < 1
    assert upper.value >= 1
