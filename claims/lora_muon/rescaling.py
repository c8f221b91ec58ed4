"""Training from rescaled factors: a language model's loss does not depend on how W is factored."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer

from claims.lora_muon.contestants import EXACT_LORA_MUON, SPECTRON
from claims.lora_muon.matrices import REFERENCE
from claims.lora_muon.steps_written_out import contestants_written_out
from claims.registry import DEVICES, TRAINS_IN, Claim, Evidence, Measurement, Setting
from geometry.gauge import Pair
from simulate.cells import Contestant
from simulate.schedules import linear_decay
from simulate.tasks import Architecture, Corpus, synthetic_corpus
from simulate.training import EnsembleTraining

POWERS, OTHERS = (2.0, 8.0), (3.0, 9.0, 27.0)
# Runs whose start was perturbed, beside each that was not.
PERTURBED = 4
# Of the deviations of runs that differ by round-off, the largest of a dozen against another's.
BAND = 4.0
# More than nothing.
SOME = math.nextafter(0.0, 1.0)


class _Training:
    """Runs of a setting that differ in the rescaling and in round-off alone."""

    def __init__(self, setting: Setting, contestant: Contestant) -> None:
        self.setting, self.contestant = setting, contestant
        # The language and its text are one for all seeds.
        self.corpus: Corpus = synthetic_corpus(seed=0, train=setting["tokens"], validation=20_000)
        self.seeds = list(setting.seeds(setting["seeds"]))

    def losses(self, c: float, perturbed: int = 0, rate: float | None = None) -> Tensor:
        """Validation losses at the end, (1 + perturbed, seeds), at the setting's rate or another.

        At rate 0 the embeddings are trained alone, and the layers stay as they begin.
        """
        setting, steps = self.setting, self.setting["steps"]
        architecture = Architecture(
            len(self.corpus.vocabulary),
            length=setting["length"],
            width=setting["width"],
            depth=setting["depth"],
            rank=setting["rank"],
            factor_rescaling=c,
        )
        run = EnsembleTraining(
            self.corpus,
            architecture,
            [(setting["rate"] if rate is None else rate, seed) for seed in self.seeds]
            * (1 + perturbed),
            self._made,
            batch_size=setting["batch"],
            schedule=linear_decay(steps, warmup=steps // 10),
            dtype=setting.dtype(torch.float32),
            device=setting.device,
        )
        _perturb(run, len(self.seeds))
        record = run.run(steps, validate_at=[steps])
        if record.diverged:
            raise RuntimeError(f"at c = {c:g} runs diverged: {sorted(record.diverged)}")
        return record.validation[steps].reshape(1 + perturbed, -1)

    def _made(self, pairs: Sequence[Pair], rates: Tensor) -> Optimizer:
        return self.contestant.optimizer([*pairs], rates, range(len(rates)))


@torch.no_grad()
def _perturb(run: EnsembleTraining, first: int) -> None:
    """Move the start of members from ``first`` on by at most u of every weight."""
    generator = torch.Generator().manual_seed(0)
    for parameter in run.model.parameters():
        moved = parameter[first:]
        u = torch.finfo(parameter.dtype).eps
        drawn = torch.rand(moved.shape, generator=generator, dtype=torch.float64)
        moved.mul_(1 + u * (2 * drawn - 1).to(parameter))


def _rescaled(training: _Training) -> Evidence:
    setting = training.setting
    at_one = training.losses(1.0, PERTURBED)
    base, noise = at_one[0], (at_one[1:] - at_one[0]).abs()
    shifts = {c: training.losses(c)[0] - base for c in (*POWERS, *OTHERS)}
    band = float(noise.max())
    measurements = [
        Measurement(f"largest change of the loss, c = {c:g}", float(shifts[c].abs().max()), "<=", 0)
        for c in POWERS
    ]
    measurements += [
        Measurement(
            f"largest change of the loss over that of round-off, c = {c:g}",
            float(shifts[c].abs().max()) / band, "<=", BAND,
        )
        for c in OTHERS
    ]  # fmt: skip
    unigram = float(np.log(len(training.corpus.vocabulary)))
    arrays = {
        "rescalings": np.array(list(shifts)),
        "shifts": torch.stack(list(shifts.values())).numpy(),
        "noise": noise.numpy(),
        "losses": base.numpy(),
    }
    return Evidence(
        tuple(measurements),
        arrays,
        (
            f"validation loss {float(base.mean()):.3f} nats after {setting['steps']} steps; a "
            f"model that knows nothing has {unigram:.3f}, the language's entropy rate is "
            f"{training.corpus.entropy_rate:.3f}",
            f"runs that differ by round-off are up to {band:.1e} apart",
        ),
    )


def check_rescaling(setting: Setting) -> Evidence:
    """c = 2, 8 scale every number of a factor and its gradient exactly; 3, 9, 27 round.

    LoRA-Muon's step is covariant, so the products of a run from (c B, A / c) are those of the run
    from (B, A). In floating point runs that differ by a rounding drift apart: how far is measured
    by starts that are perturbed by one unit of round-off.

    Layers that stay as they begin are as much the same: every seed has to lose less than with the
    embeddings trained alone.
    """
    training = _Training(setting, EXACT_LORA_MUON)
    found, still = _rescaled(training), training.losses(1.0, rate=0.0)[0]
    gain = still.numpy() - found.arrays["losses"]
    name = "nats gained over layers that stay as they begin, least"
    gained = Measurement(name, float(gain.min()), ">=", SOME)
    return found.also(gained, *contestants_written_out([EXACT_LORA_MUON, SPECTRON]))


def control_spectron(setting: Setting) -> Evidence:
    """Spectron, whose step depends on the factors' size."""
    return _rescaled(_Training(setting, SPECTRON))


CLAIMS = (
    Claim(
        id="lora-muon.lr-transfer-rescaling",
        paper="lora-muon",
        title="Rescaled factors train to the same loss",
        statement=(
            r"From $(cB, A/c)$ a language model trains to the loss that it has from $(B, A)$: for "
            r"powers of two to the last bit, for $c = 3, 9, 27$ within what round-off alone does."
        ),
        reference=REFERENCE,
        source="paper",
        setup="transformer with low-rank layers on the synthetic language: width 32, depth 1, rank "
        "4, 40 steps (quick); width 64, depth 2, rank 8, 200 steps (full); float32",
        criterion=f"exactly 0 at c = 2, 8; at most {BAND:g} times the largest deviation of "
        f"{PERTURBED} perturbed runs a seed at c = 3, 9, 27; a lower loss than layers that are not "
        "trained have; steps by the optimisers' formulas",
        check=check_rescaling,
        seconds=10,
        devices=DEVICES,
        dtypes=TRAINS_IN,
        controls={"Spectron": control_spectron},
        tiers={
            "quick": {
                "seeds": 3, "steps": 40, "tokens": 50_000, "rate": 0.1, "batch": 8, "length": 32,
                "width": 32, "depth": 1, "rank": 4,
            },
            "full": {
                "seeds": 4,
                "steps": 200,
                "tokens": 200_000,
                "length": 64,
                "width": 64,
                "depth": 2,
                "rank": 8,
            },
        },
    ),
)  # fmt: skip
