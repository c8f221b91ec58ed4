"""The subject under test: somebody else's optimiser, in the place of the one a claim is about.

    python paper_checks.py --subject package.module:OptimizerClass

runs the claims that are statements about any optimiser of its kind, and says which of them it
satisfies. A claim opts in by its field ``subject`` and by asking
:meth:`claims.registry.Setting.optimizer` for the optimiser; its controls keep their own.
"""

from __future__ import annotations

import importlib
import inspect
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import packages_distributions, version
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any, Literal

from torch import Tensor
from torch.optim import Optimizer

from claims.registry import Claim, Registry
from claims.selection import select
from geometry.names import unknown_name
from simulate.optimizers import OneByOne

FORM = "package.module:name"
Takes = Literal["pairs", "params"]


@dataclass(frozen=True)
class Subject:
    """An optimiser class, or a function that makes an optimiser.

    Attributes:
        name: as it was named, ``package.module:name``.
        takes: what its first argument is: pairs (B, A), or parameters.
        make: called with these and ``lr``; everything else is its own default.
    """

    name: str
    takes: Takes
    make: Callable[..., Optimizer]

    def __call__(self, given: Sequence[Any], lr: float | Tensor) -> Optimizer:
        """An optimiser of pairs (B, A), or of matrices, that have members before their matrices.

        One that takes parameters is given the factors of pairs one after the other.

        Args:
            lr: a number, or one a member.

        Raises:
            ValueError: matrices for one that takes pairs. TypeError: no optimiser was made.
        """
        return OneByOne(given, self._of_matrices, lr)

    def _of_matrices(self, given: list[Any], lr: float) -> Optimizer:
        if self.takes == "params":
            given = [p for each in given for p in (each if isinstance(each, tuple) else (each,))]
        elif not all(isinstance(each, tuple) for each in given):
            raise ValueError(f"pairs (B, A) are expected by {self.name}; given matrices")
        made = self.make(given, lr=lr)
        if not callable(getattr(made, "step", None)):
            raise TypeError(f"{self.name}: an optimiser with a step() is expected; given {made!r}")
        try:
            inspect.signature(made.step).bind()
        except TypeError as needs:
            raise TypeError(
                f"{self.name}: a step() of nothing but gradients is expected, for there is no loss "
                f"to evaluate again; given one with {needs}"
            ) from None
        return made

    def can_be_asked(self, claim: Claim) -> bool:
        """Whether the claim is about optimisers of what it takes: one of parameters takes both."""
        return claim.subject is not None and (claim.subject == "pairs" or self.takes == "params")

    @property
    def origin(self) -> str:
        """The distribution and version it comes from, where it was installed from one."""
        package = self.name.partition(":")[0].partition(".")[0]
        found = packages_distributions().get(package, [])
        return ", ".join(f"{name} {version(name)}" for name in dict.fromkeys(found))


def load_subject(name: str) -> Subject:
    """The subject called ``name``; modules in the working directory are found as well.

    Raises ValueError where there is none, or where what is there makes no optimiser from
    parameters or pairs and a rate.
    """
    module_name, colon, attribute = name.partition(":")
    if not (module_name and colon and attribute):
        raise ValueError(f"{FORM} is expected, such as torch.optim:Adam; given {name!r}")
    if module_name.endswith(".py") or "/" in module_name or "\\" in module_name:
        file = Path(module_name)
        folder = "" if file.parent == Path() else f"PYTHONPATH={file.parent} and "
        raise ValueError(
            f"{FORM} is expected, a module as Python imports it, and no file; given {name!r}: for "
            f"this one {folder}--subject {file.stem}:{attribute}"
        )
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)
    module = _imported(module_name)
    if not hasattr(module, attribute):
        classes = [each for each, value in vars(module).items() if callable(value)]
        raise unknown_name(f"name in {module_name}", attribute, classes)
    make = getattr(module, attribute)
    return Subject(name, _taken(name, make), make)


def _imported(name: str) -> ModuleType:
    """The module, which may do anything when it is imported."""
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:
        why = str(error)
        if not isinstance(error, ImportError | SyntaxError):
            last = traceback.extract_tb(error.__traceback__)[-1]
            why = f"{type(error).__name__}: {error} ({last.filename}, line {last.lineno})"
        raise ValueError(f"the module {name!r} cannot be imported: {why}") from error


def _taken(name: str, make: Any) -> Takes:
    help_with_it = (
        "write a function of (pairs, lr) or (params, lr) that returns the optimiser, and name it"
    )
    if not callable(make):
        kind = type(make).__name__
        raise ValueError(f"{name} is of type {kind}, and no optimiser: {help_with_it}")
    try:
        parameters = inspect.signature(make).parameters
    except ValueError:  # of some functions that are written in C
        parameters = MappingProxyType({})
    first = next(iter(parameters), None)
    takes: Takes
    if first == "pairs":
        takes = "pairs"
    elif first == "params":
        takes = "params"
    else:
        raise ValueError(
            f"{name}: a first argument called pairs, of (B, A), or params is expected; given "
            f"{first!r}: {help_with_it}"
        )
    keywords = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    rate = parameters.get("lr")
    if not keywords and (rate is None or rate.kind is rate.POSITIONAL_ONLY):
        raise ValueError(
            f"{name}: an argument lr, by name, is expected; given {[*parameters]}: {help_with_it}"
        )
    asked = [
        each
        for each, p in parameters.items()
        if each not in (first, "lr")
        and p.default is p.empty
        and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
    ]
    if asked:
        raise ValueError(f"{name}: defaults are expected of {', '.join(asked)}: {help_with_it}")
    return takes


def about(subject: Subject, registry: Registry) -> Registry:
    """The claims that can be asked of a subject."""
    return Registry(claim for claim in registry if subject.can_be_asked(claim))


def select_about(
    subject: Subject, registry: Registry, only: Sequence[str] = (), paper: str | None = None
) -> tuple[Claim, ...]:
    """The claims that are meant, as by :func:`claims.selection.select`, and can be asked.

    Raises ValueError for a name that means no claim, or only claims that cannot be asked.
    """
    asked = {name: [name] for name in only} or {str(paper): []}
    for name, pattern in asked.items():
        meant = select(registry, pattern, paper)
        if not any(map(subject.can_be_asked, meant)):
            those = ", ".join(claim.id for claim in about(subject, registry))
            raise ValueError(
                f"there is {name!r}, but it cannot be asked of {subject.name}, an optimiser of "
                f"{subject.takes}; these claims can: {those}"
            )
    return tuple(filter(subject.can_be_asked, select(registry, only, paper)))
