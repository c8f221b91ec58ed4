"""Schema 2 of the results, both ways: what is encoded here is decoded here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from claims.registry import DEVICES, DTYPES, TIERS, Measurement, Verdict
from claims.results.evidence_file import evidence_name
from claims.results.provenance import OWN
from claims.results.recorded import DECLARED, Recorded, RecordedControl
from claims.results.strict_json import Node, ResultsError, encode_number

SCHEMA = 2


def encode(claim: Recorded) -> dict[str, Any]:
    """``claim`` as it is written."""
    return {
        **{name: getattr(claim, name) for name in (*DECLARED, "reason")},
        "expected": str(claim.expected),
        "verdict": str(claim.verdict),
        "remarks": list(claim.remarks),
        "counterexample": claim.counterexample,
        "measurements": [_encode_measurement(m) for m in claim.measurements],
        "controls": {
            name: {
                "measurements": [_encode_measurement(m) for m in control.measurements],
                "remarks": list(control.remarks),
            }
            for name, control in claim.controls.items()
        },
        "seconds": encode_number(claim.seconds),
        "traceback": claim.traceback,
        "evidence": claim.evidence,
    }


def _encode_measurement(measurement: Measurement) -> dict[str, Any]:
    bound = measurement.bound
    return {
        "name": measurement.name,
        "value": encode_number(measurement.value),
        "relation": measurement.relation,
        "bound": (
            [encode_number(edge) for edge in bound]
            if isinstance(bound, tuple)
            else encode_number(bound)
        ),
        "holds": bool(measurement.holds),
        "margin": encode_number(measurement.margin),
    }


def decode_run(node: Node) -> dict[str, Any]:
    """The header of a run, each of its fields checked."""
    for name in ("command", "started"):
        node[name].text()
    for name in ("finished", "commit"):
        node[name].optional_text()
    for name in {"subject", "subject_source", "code", "gpus"} & {*node.names()}:
        node[name].text()
    for name, known in (("tier", TIERS), ("device", DEVICES), ("dtype", (OWN, *DTYPES))):
        if name in node.names() or name != "dtype":
            _require_one_of(node[name], known)
    for name in ("seed", "jobs"):
        node[name].integer()
    node["seconds"].number()
    for name in node["versions"].names():
        node["versions"][name].text()
    return dict(node.value)


def _require_one_of(node: Node, known: Sequence[str]) -> None:
    if node.text() not in known:
        raise node.damaged(f"one of {', '.join(known)}")


def decode(node: Node, out: Path, kind: str) -> Recorded:
    """The claim at ``node`` of a run of a kind, whose evidence lies in the folder ``out``."""
    controls = node["controls"]
    claim = Recorded(
        **{name: node[name].text() for name in (*DECLARED, "reason")},
        expected=_decode_verdict(node["expected"]),
        verdict=_decode_verdict(node["verdict"]),
        remarks=tuple(remark.text() for remark in node["remarks"]),
        counterexample=node["counterexample"].optional_text(),
        measurements=tuple(_decode_measurement(m) for m in node["measurements"]),
        controls={
            name: RecordedControl(
                tuple(_decode_measurement(m) for m in controls[name]["measurements"]),
                tuple(remark.text() for remark in controls[name]["remarks"]),
            )
            for name in controls.names()
        },
        seconds=node["seconds"].number(),
        traceback=node["traceback"].optional_text(),
        evidence=node["evidence"].optional_text(),
        folder=out,
    )
    try:
        name = evidence_name(claim.id, kind)
    except ValueError:
        raise node["id"].damaged("a claim's id") from None
    if claim.evidence not in (None, name):
        raise node["evidence"].damaged(f"null or {name!r}")
    return claim


def _decode_verdict(node: Node) -> Verdict:
    try:
        return Verdict(node.text())
    except ValueError:
        raise node.damaged(f"one of {', '.join(Verdict)}") from None


def _decode_measurement(node: Node) -> Measurement:
    bound = node["bound"]
    if isinstance(bound.value, list):
        pair = tuple(edge.number() for edge in bound)
        if len(pair) != 2:
            raise bound.damaged("a number or a pair of numbers")
        limit: float | tuple[float, float] = (pair[0], pair[1])
    else:
        limit = bound.number()
    relation = node["relation"].text()
    try:
        measurement = Measurement(node["name"].text(), node["value"].number(), relation, limit)  # type: ignore[arg-type]
    except ValueError as error:
        raise ResultsError(f"{node.path} is damaged: {node.place}: {error}") from error
    # What follows from the value and the bound is checked, so an edited file is found out.
    if node["holds"].boolean() != measurement.holds:
        raise node["holds"].damaged(str(measurement.holds).lower())
    margin = node["margin"].number()
    if margin != measurement.margin and not (math.isnan(margin) and math.isnan(measurement.margin)):
        raise node["margin"].damaged(repr(measurement.margin))
    return measurement
