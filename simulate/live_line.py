"""The one live line that a long run has on a terminal; elsewhere there is none."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import Progress, ProgressColumn


class LiveLine:
    """Base of what shows progress inside of a with statement; it leaves nothing behind."""

    def __init__(self, console: Console, *columns: str | ProgressColumn) -> None:
        self._console = console
        self._live = Progress(
            *columns, console=console, transient=True, disable=not console.is_terminal
        )

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._live.stop()
