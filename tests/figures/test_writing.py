"""How numbers, bounds, margins and formulas are written, and files."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path
from typing import IO

import pytest

from claims.registry import Measurement
from claims.results import write_atomically
from figures.mathml import mathematics
from figures.numbers import bound, duration, margin, moment, number, share_left

INF, NAN = math.inf, math.nan


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.0, "0"),
        (1.98765, "1.988"),
        (-3.0, "\u22123"),
        (0.0058, "0.0058"),
        (5.2e-4, "5.2\u202f×\u202f10<sup>\u22124</sup>"),
        (1e-9, "10<sup>\u22129</sup>"),
        (-1e-9, "\u221210<sup>\u22129</sup>"),
        (1.5e7, "1.5\u202f×\u202f10<sup>7</sup>"),
        (INF, "∞"),
        (-INF, "\u2212∞"),
        (NAN, "not a number"),
    ],
)
def test_numbers(value: float, expected: str) -> None:
    assert number(value) == expected


def test_bounds() -> None:
    assert bound(Measurement("m", 0, "<=", 1e-9)) == "≤ 10<sup>\u22129</sup>"
    assert bound(Measurement("m", 0, ">=", 0.0)) == "≥ 0"
    assert bound(Measurement("m", 0, "within", (-0.55, -0.45))) == "in [\u22120.55, \u22120.45]"


@pytest.mark.parametrize(
    ("measurement", "expected", "share"),
    [
        (Measurement("m", 0.5, "<=", 1.0), "50% left", 50.0),
        (Measurement("m", 0.96, "<=", 1.0), "4% left", 4.0),
        (Measurement("m", 1e-12, "<=", 1e-9), "&gt;\u202f99% left", 99.9),
        (Measurement("m", 0.0, "<=", 0.0), "100% left", 100.0),
        (Measurement("m", 10.0, ">=", 10.0), "exactly at the bound", 0.0),
        (Measurement("m", 5.0, ">=", 1.0), "4× the bound left", 100.0),
        (Measurement("m", 1.2, "<=", 1.0), "missed by 20%", 0.0),
        (Measurement("m", 4.0, "<=", 1.0), "missed by 3× the bound", 0.0),
        (Measurement("m", 460.4, "<=", 1.0), "missed by 459× the bound", 0.0),
        (Measurement("m", 4.0, "within", (1.0, 2.0)), "missed by 4× half the band", 0.0),
        (Measurement("m", NAN, "<=", 1.0), "missed", 0.0),
        (Measurement("m", INF, "<=", 1.0), "missed", 0.0),
    ],
)
def test_margins(measurement: Measurement, expected: str, share: float) -> None:
    assert margin(measurement) == expected
    assert share_left(measurement) == pytest.approx(share)


def test_durations_and_moments() -> None:
    assert [duration(s) for s in (0.0341, 12.4, 200.0, NAN)] == [
        "0.034 s",
        "12 s",
        "3 min 20 s",
        "unknown",
    ]
    assert moment("2026-03-01T09:30:00+00:00") == "2026-03-01 09:30 UTC"
    assert moment("yesterday") == "yesterday"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a < b & c", "a &lt; b &amp; c"),
        (r"costs \$5", "costs $5"),
        ("one $ alone", "one $ alone"),
    ],
)
def test_text_without_formulas_is_escaped(text: str, expected: str) -> None:
    assert mathematics(text) == expected


def test_formulas_become_mathml_and_keep_their_source() -> None:
    html = mathematics(r"If $x < y$ then $$\frac{a}{b}$$.")
    assert html.startswith('If <math display="inline" alttext="x &lt; y">')
    assert "<mo>&lt;</mo>" in html
    assert "<mfrac>" in html
    assert html.endswith("</math>.")
    assert "xmlns" not in html


@pytest.mark.parametrize(
    "latex",
    [
        r"\frac{",
        r"\text{<script>alert(1)</script>}",
        r"\text{<b}",
        r"\href{javascript:alert(1)}{x}",
        r"\style{color:red}{x}",
        r"\class{a\" onclick=\"b}{x}",
    ],
)
def test_a_formula_that_is_not_mathematics_is_shown_as_source(latex: str) -> None:
    html = mathematics(f"${latex}$")
    assert html.startswith('<code class="latex" title="not rendered: ')
    assert "<math" not in html
    assert "<script" not in html
    assert "<b}" not in html


def test_files_are_written_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "new" / "file.txt"
    assert write_atomically(path, lambda stream: stream.write(b"first")) == path
    assert path.read_bytes() == b"first"

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, lambda stream: stream.write(b"second"))
    assert path.read_bytes() == b"first"
    assert [file.name for file in path.parent.iterdir()] == ["file.txt"]


def test_two_processes_may_write_the_same_file(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"

    def meanwhile(stream: IO[bytes]) -> None:
        stream.write(b"ours")
        other = (
            "import pathlib, sys; from claims.results import write_atomically;"
            "write_atomically(pathlib.Path(sys.argv[1]), lambda stream: stream.write(b'theirs'))"
        )
        subprocess.run([sys.executable, "-c", other, str(path)], check=True)
        assert path.read_bytes() == b"theirs"

    write_atomically(path, meanwhile)
    assert path.read_bytes() == b"ours"
    assert [file.name for file in tmp_path.iterdir()] == ["file.txt"]
