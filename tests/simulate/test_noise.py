"""Noise: its laws against scipy's, its moments, whose it is, and what has no moment."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats
from torch import Tensor

from simulate.noise import LAWS, Noise, empirical_moment

TAILS = {"gaussian": None, "pareto": 1.55, "student_t": 1.55}
DISTRIBUTIONS = {
    "gaussian": stats.norm(),
    "student_t": stats.t(1.55),
}


def drawn(noise: Noise, seeds: list[int], steps: range, m: int = 4, n: int = 3) -> Tensor:
    return noise.draw(torch.tensor(seeds), m, n, torch.tensor(steps))


def sample(law: str, tail: float | None, count: int = 200_000) -> Tensor:
    return drawn(Noise(law, tail), [7], range(1), 1, count).flatten()


@pytest.mark.parametrize("law", DISTRIBUTIONS)
def test_an_entry_has_the_law_of_its_name(law: str) -> None:
    x = sample(law, TAILS[law]).numpy()
    assert stats.kstest(x, DISTRIBUTIONS[law].cdf).pvalue > 1e-3


def test_pareto_is_symmetric_and_its_size_a_power() -> None:
    x = sample("pareto", 1.55)
    assert stats.kstest(x.abs().numpy(), stats.pareto(1.55).cdf).pvalue > 1e-3
    positive = float((x > 0).double().mean())
    assert abs(positive - 0.5) < 4 * 0.5 / math.sqrt(len(x))
    # The sign says nothing of the size.
    assert stats.ks_2samp(x[x > 0].numpy(), -x[x < 0].numpy()).pvalue > 1e-3


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("order", [1.2, 1.5, 2.0])
def test_moments_are_those_of_integration(law: str, order: float) -> None:
    tail = None if law == "gaussian" else 2.6
    moment = float(Noise(law, tail).moment(order))
    density = {
        "gaussian": stats.norm(), "pareto": stats.pareto(2.6), "student_t": stats.t(2.6)
    }[law]  # fmt: skip
    expected = density.expect(lambda x: abs(x) ** order)
    assert moment == pytest.approx(expected, rel=1e-4)
    # With a tail of 6 the mean of so many settles.
    settled = Noise(law, tail and 6.0)
    x = sample(law, tail and 6.0)
    assert empirical_moment(x, order) == pytest.approx(float(settled.moment(order)), rel=0.02)


def test_a_matrix_is_bounded_by_its_entries() -> None:
    noise = Noise("pareto", 2.2, scale=0.5)
    x = 0.5 * drawn(Noise("pareto", 2.2), [3], range(20_000), 4, 3)
    for order in (1.2, 1.5):
        sigma = float(noise.sigmas(4, 3, order)[0])
        assert empirical_moment(torch.linalg.matrix_norm(x), order) < sigma**order
    gaussian, _ = Noise(scale=0.5).sigmas(4, 3, 2.0)
    assert float(gaussian) == pytest.approx(0.5 * math.sqrt(12))


def test_the_scale_follows_the_gradient() -> None:
    noise = Noise("pareto", 1.55, scale=2.0, growth=0.5)
    sizes = torch.tensor([1.0, 3.0, 8.0]).double()
    gradients = sizes[:, None, None] * torch.eye(3).double() / math.sqrt(3)
    amplitude = noise.amplitude(gradients)
    assert isinstance(amplitude, Tensor)
    assert torch.allclose(amplitude.flatten(), torch.tensor([2.0, 2.0, 4.0]).double())
    zero, one = noise.sigmas(3, 3, 1.5)
    alone, none = Noise("pareto", 1.55).sigmas(3, 3, 1.5)
    assert (float(zero), float(one)) == (2 * float(alone), 0.5 * float(alone))
    assert float(none) == 0
    assert (amplitude.flatten() ** 1.5 <= 2.0**1.5 + (0.5 * sizes) ** 1.5 + 1e-12).all()


@pytest.mark.parametrize("law", LAWS)
def test_an_entry_is_a_function_of_seed_step_and_place(law: str, device: torch.device) -> None:
    noise = Noise(law, TAILS[law])
    together = drawn(noise, [3, 9, 4, 9], range(5))
    alone = drawn(noise, [9], range(3, 5))
    assert torch.equal(alone[:, 0], together[3:, 1])
    assert torch.equal(together[:, 3], together[:, 1])
    assert not torch.equal(together[:, 0], together[:, 1])
    assert not torch.equal(together[0], together[1])
    elsewhere = noise.draw(torch.tensor([3], device=device), 4, 3, torch.arange(2, device=device))
    assert elsewhere.device.type == device.type
    assert torch.allclose(elsewhere[:, 0].cpu(), together[:2, 0], rtol=1e-12)


def test_a_tail_a_member() -> None:
    tails = torch.tensor([2.2, 1.25]).double()
    both = drawn(Noise("pareto", tails), [5, 5], range(2))
    for member, tail in enumerate(tails.tolist()):
        assert torch.equal(both[:, member], drawn(Noise("pareto", tail), [5], range(2))[:, 0])
    orders = torch.tensor([2.0, 1.2]).double()
    moments = Noise("pareto", tails).moment(orders)
    assert torch.allclose(moments, tails / (tails - orders))


def test_what_has_no_moment_says_so() -> None:
    noise = Noise("pareto", 1.5)
    with pytest.raises(ValueError, match=r"no moment of order 1\.5: the order must be below"):
        noise.moment(1.5)
    with pytest.raises(ValueError, match="no moment of order 2"):
        Noise("student_t", 2.0).sigmas(3, 4, 2.0)
    for order in (1.0, 2.1, math.nan):
        with pytest.raises(ValueError, match=r"must lie in \(1, 2\].*nothing averages out"):
            noise.moment(order)


def test_wrong_input_is_told() -> None:
    with pytest.raises(ValueError, match="did you mean 'pareto'"):
        Noise("paretto", 1.5)
    for tail in (1.0, 0.5, math.nan):
        with pytest.raises(ValueError, match="the noise has no mean"):
            Noise("pareto", tail)
    with pytest.raises(ValueError, match="takes a tail index, got tail=None"):
        Noise("pareto")
    with pytest.raises(ValueError, match=r"takes no tail index, got tail=1\.5"):
        Noise("gaussian", 1.5)
    with pytest.raises(ValueError, match="scale must be finite and >= 0"):
        Noise(scale=-1.0)
