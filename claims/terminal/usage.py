"""Wrong usage of the command line: exit status 2, what was given, and what was expected.

Nothing heavy is imported, so that it is told at once.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn

import typer
from typer.core import TyperGroup

from simulate import atomic


def refuse(message: str, option: str | None) -> NoReturn:
    """End with the message about an option, or about several."""
    raise typer.BadParameter(message, param_hint=option)


class Commands(TyperGroup):
    """Tells one who names a claim where a command stands how claims are run.

    An option that stands where the value of another is expected is refused: it would be taken for
    that value, and ``--out --resume`` begin anew in a folder of that name.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        options = [each for each in self.get_params(ctx) if each.param_type_name == "option"]
        names = {name for each in options for name in each.opts}
        expected = {
            name: each.metavar or "a value"
            for each in options
            if not getattr(each, "is_flag", False)
            for name in each.opts
        }
        for option, value in pairwise(args):
            if option in expected and value in names:
                refuse(f"{expected[option]} is expected, got the option {value!r}", option)
        return list(super().parse_args(ctx, args))

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name = args[0]
        if name not in self.commands and "." in name:
            refuse(
                f"{name!r} is none; claims are run by --only {name}, and shown by show", "COMMAND"
            )
        return super().resolve_command(ctx, args)


@contextmanager
def usage_errors(option: str | None, advice: str = "") -> Iterator[None]:
    """A ValueError in here is the user's: exit 2 with its message."""
    try:
        yield
    except ValueError as error:
        refuse(f"{error}{advice}", option)


def require_known(kind: str, given: str, known: Sequence[str]) -> None:
    """Refuse a name that is not known, with the nearest one that is."""
    if given not in known:
        nearest = difflib.get_close_matches(given, known, n=1)
        hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
        refuse(f"unknown {kind} {given!r}; expected one of {', '.join(known)}{hint}", f"--{kind}")


def require_writable(out: Path) -> None:
    """Find out before anything runs, and without leaving a folder behind."""
    try:
        atomic.require_writable(out)
    except OSError as error:
        refuse(str(error.strerror), "--out")


def is_default(context: typer.Context, name: str) -> bool:
    """Whether an option was left at its default."""
    source = context.get_parameter_source(name)
    return source is None or source.name == "DEFAULT"


def refuse_options_before(context: typer.Context) -> None:
    """Refuse options of a run before a subcommand, which would go unheard."""
    for name in context.params:
        if not is_default(context, name):
            command = context.invoked_subcommand
            refuse(f"goes with a run; write options of {command!r} after it", f"--{name}")
