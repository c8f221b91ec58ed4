"""How claims train language models: one text, one protocol, every contestant tuned alike."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from claims.registry import Setting
from simulate.best_rate import BestRate
from simulate.cells import Contestant, Line, Recipe
from simulate.optimizers import MemberAdamW
from simulate.processes import local_processes
from simulate.sweep import Curve, SweepProgress, lines, sweep
from simulate.tasks import Architecture, Corpus, synthetic_corpus, tiny_shakespeare
from simulate.tasks.corpus import MissingCorpusError
from simulate.tuning import Protocol

# Half-decades, the grid of the paper's figures.
GRID = (0.01, 0.03, 0.1, 0.3, 1.0)
VALIDATION_CHARACTERS = 20_000


def adamw(parameters: list[Any], lr: Tensor) -> MemberAdamW:
    """AdamW without decay on the matrices of a dense model or the factors of a low-rank one."""
    flat = [x for each in parameters for x in (each if isinstance(each, tuple) else (each,))]
    return MemberAdamW(flat, lr=lr, weight_decay=0.0)


ADAMW = Contestant("AdamW", adamw)


class Study:
    """The runs of one setting.

    Sizes that it reads: ``corpus`` ("synthetic" or "tinyshakespeare"), ``characters`` of the
    synthetic one, ``length``, ``width``, ``depth``, ``steps``, ``batch``, ``seeds``.
    """

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.corpus = _corpus(setting)
        self.recipe = Recipe(
            self.corpus,
            setting["batch"],
            evaluation_tokens=VALIDATION_CHARACTERS,
            dtype=setting.dtype(torch.float32),
            device=setting.device,
        )
        self.base = Architecture(
            len(self.corpus.vocabulary),
            length=setting["length"],
            width=setting["width"],
            depth=setting["depth"],
        )

    def lines(self, contestant: Contestant, **axes: Sequence[Any]) -> list[Line]:
        """A contestant on the architectures of a grid."""
        return lines([contestant], self.base, self.setting["steps"], **axes)

    def curves(self, wanted: Sequence[Line]) -> list[Curve]:
        """Each line tuned, by as many processes as there are to be had."""
        setting, means = self.setting, self.setting.means

        def tell(state: SweepProgress) -> None:
            means.progress(state.operations / state.expected)

        pool = local_processes(means.processes) if means.processes > 1 else nullcontext()
        with pool as executor:
            return sweep(
                wanted,
                self.recipe,
                Protocol(GRID),
                setting.seeds(setting["seeds"]),
                executor=executor,
                store=means.store,
                progress=tell,
            )

    def scale(self) -> str:
        """At which scale the runs were, in words."""
        setting, rate = self.setting, self.corpus.entropy_rate
        tokens = setting["steps"] * setting["batch"] * setting["length"]
        optimum = "" if rate is None else f" (entropy rate {rate:.3f} nats a character)"
        return (
            f"{self.corpus.name}{optimum}, width {setting['width']}, depth {setting['depth']}, "
            f"{setting['steps']} steps of {setting['batch']} windows of {setting['length']}: "
            f"{tokens:,} characters a run; {setting['seeds']} seeds"
        )


def recorded(curves: Sequence[Curve], bests: Sequence[BestRate]) -> dict[str, NDArray[Any]]:
    """What a figure needs of L curves, padded with NaN to one length.

    ``rates`` (L, K), ``losses`` (L, K, S), ``best`` (L, 3): the best rate and its interval;
    ``ranks``, 0 for dense, ``widths``, ``depths`` and ``rescalings`` (L,); ``at_edge`` (L,).
    """
    longest, seeds = max(len(curve.rates) for curve in curves), curves[0].losses.shape[1]
    rates = np.full((len(curves), longest), np.nan)
    losses = np.full((len(curves), longest, seeds), np.nan)
    for place, curve in enumerate(curves):
        rates[place, : len(curve.rates)] = curve.rates
        losses[place, : len(curve.rates)] = curve.losses
    sizes = [curve.line.architecture for curve in curves]
    return {
        "rates": rates,
        "losses": losses,
        "best": np.array([[best.rate, best.low, best.high] for best in bests]),
        "ranks": np.array([size.rank or 0 for size in sizes]),
        "widths": np.array([size.width for size in sizes]),
        "depths": np.array([size.depth for size in sizes]),
        "rescalings": np.array([size.factor_rescaling for size in sizes]),
        "at_edge": np.array([curve.at_edge for curve in curves]),
    }


def with_interval(best: BestRate) -> str:
    """A best rate and the ends of its interval."""
    return f"{best.rate:.3g} [{best.low:.3g}, {best.high:.3g}]"


def told(label: str, best: BestRate) -> str:
    """A best rate with its interval, in words."""
    return f"{label}: {with_interval(best)}, loss {best.loss:.3f}"


def not_here(setting: Setting) -> str | None:
    """Why a setting has no runs, or None: no sizes for its tier, or no text."""
    if "steps" not in setting.sizes:
        return "trains language models for minutes: begins at the full tier"
    try:
        _corpus(setting)
    except MissingCorpusError as error:
        return str(error)
    return None


def _corpus(setting: Setting) -> Corpus:
    if setting["corpus"] == "tinyshakespeare":
        return tiny_shakespeare()
    # The language and its text are one for all seeds.
    return synthetic_corpus(seed=0, train=setting["characters"], validation=VALIDATION_CHARACTERS)
