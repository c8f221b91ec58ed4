"""JSON that is written whole and read whole, or not at all.

JSON has no NaN and no infinities; they are written as the strings "nan", "inf" and "-inf".
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simulate.atomic import write_atomically

NON_FINITE = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


class ResultsError(ValueError):
    """A file of results that is missing, damaged, or of another schema; the message names it."""


def encode_number(value: float) -> float | str:
    """``value``, or its name where JSON has no number for it."""
    number = float(value)
    if math.isfinite(number):
        return number
    return "nan" if math.isnan(number) else ("inf" if number > 0 else "-inf")


@dataclass(frozen=True)
class Node:
    """A value of the file together with its place, so that an error can name both."""

    path: Path
    place: str
    value: Any

    def damaged(self, expected: str) -> ResultsError:
        """The error for a value that is not what the schema says."""
        given = repr(self.value)
        if len(given) > 60:
            given = given[:57] + "..."
        return ResultsError(
            f"{self.path} is damaged: {self.place} should be {expected}, but is {given}"
        )

    def __getitem__(self, key: str) -> Node:
        if not isinstance(self.value, dict):
            raise self.damaged("an object")
        if key not in self.value:
            raise ResultsError(f"{self.path} is damaged: {self.place} has no {key!r}")
        return Node(self.path, f"{self.place}.{key}", self.value[key])

    def __iter__(self) -> Iterator[Node]:
        if not isinstance(self.value, list):
            raise self.damaged("a list")
        return (Node(self.path, f"{self.place}[{i}]", value) for i, value in enumerate(self.value))

    def names(self) -> tuple[str, ...]:
        if not isinstance(self.value, dict):
            raise self.damaged("an object")
        return tuple(self.value)

    def text(self) -> str:
        if not isinstance(self.value, str):
            raise self.damaged("a text")
        return self.value

    def optional_text(self) -> str | None:
        return None if self.value is None else self.text()

    def integer(self) -> int:
        if isinstance(self.value, bool) or not isinstance(self.value, int):
            raise self.damaged("an integer")
        return self.value

    def boolean(self) -> bool:
        if not isinstance(self.value, bool):
            raise self.damaged("true or false")
        return self.value

    def number(self) -> float:
        if isinstance(self.value, str) and self.value in NON_FINITE:
            return NON_FINITE[self.value]
        if isinstance(self.value, bool) or not isinstance(self.value, (int, float)):
            raise self.damaged('a number, or one of "nan", "inf", "-inf"')
        return float(self.value)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def read_json(path: Path) -> Node:
    """The whole of ``path``. Raises ResultsError where it is missing, unreadable or not JSON."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse_constant)
    except FileNotFoundError:
        raise ResultsError(f"{path} does not exist: no run was recorded there") from None
    except OSError as error:
        raise ResultsError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:  # undecodable bytes are a ValueError too
        raise ResultsError(f"{path} is damaged: {error}") from error
    return Node(path, "the file", content)


def write_json(path: Path, content: Any) -> None:
    """Write ``content`` atomically as strict JSON."""
    text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)
    write_atomically(path, lambda stream: stream.write(text.encode() + b"\n"))
