"""The console that everything is printed on."""

from __future__ import annotations

import io
import sys

from rich.console import Console

WIDTH = 100


def standard_console() -> Console:
    """Up to 100 columns; plain where the output is no terminal or knows no Unicode."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    console = Console(highlight=False)
    width = min(console.width, WIDTH) if console.is_terminal else WIDTH
    return Console(highlight=False, markup=False, width=width)
