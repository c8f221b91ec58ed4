"""All modes grow at the same unit rate, and how factors come to align with the target."""

from __future__ import annotations

import numpy as np
import torch

from claims.measuring.flowing import integrate_there
from claims.measuring.intervals import Array, geometric_mean_with_interval, slope_with_interval
from claims.registry import DEVICES, Claim, Evidence, Measurement, Setting
from claims.uniform_spectral_growth.toy import GAMMA, PAPER, REFERENCE, SINGULAR_VALUES, toy
from flows import Field, MatrixFactorization, Trajectory, gradient_flow, spectral_flow

BETAS = (0.03, 0.01, 0.003)
DEVIATIONS = (5.8e-3, 5.2e-4, 6.9e-5)
DRAWN_BETA = 0.01
WINDOW = (0.5, 0.7)
POWER_LAW = tuple(10.0 / k for k in range(1, 21))
UNDER_RANK = 5
SLOWEST_GAIN = 100.0 ** -(1 - POWER_LAW[UNDER_RANK] / POWER_LAW[UNDER_RANK - 1])


def _window(points: int) -> torch.Tensor:
    return torch.linspace(*WINDOW, points, dtype=torch.float64)


def _largest_deviation(rates: torch.Tensor, roots: torch.Tensor, times: torch.Tensor) -> Array:
    """max |1 - rate| of rates and of the growth of roots (seeds, T, k) from time to time.

    Rates are the field's at states, growth is the trajectory's; no mean is farther from 1 than
    what it is the mean of.
    """
    growth = roots.diff(dim=-2) / times.diff()[:, None]
    every = torch.cat([rates, growth], dim=-2)
    return np.asarray((1 - every).abs().amax((-2, -1)).numpy())


def _mode_rate_deviation(trajectory: Trajectory) -> Array:
    """Of d/dt sqrt(d_i), one number a seed."""
    roots = trajectory.mode_values.abs().sqrt()
    return _largest_deviation(trajectory.mode_rates / (2 * roots), roots, trajectory.times)


def _equal_rate(fields: dict[float, Field], gamma: float, setting: Setting) -> Evidence:
    seeds = setting.seeds(setting["seeds"])
    deviations, measurements = [], []
    for (beta, field), known in zip(fields.items(), DEVIATIONS, strict=True):
        start = field.problem.lora_init(gamma, seed=seeds)
        deviation = _mode_rate_deviation(
            integrate_there(setting, field, start, _window(setting["points"]))
        )
        deviations.append(deviation)
        name = f"largest deviation from the unit rate, beta {beta:g}"
        measurements.append(
            Measurement(name, float(deviation.max()), "within", (known / 2, known * 2))
        )
    logs = np.log(np.array(deviations).T)
    slope, interval = slope_with_interval(np.log(np.array(BETAS)), logs)
    for end, value in zip(("lower", "upper"), interval, strict=True):
        name = f"slope of the deviation in beta, {end} end of its interval"
        measurements.append(Measurement(name, float(value), "within", (1.7, 2.3)))

    drawn = fields[DRAWN_BETA]
    times = torch.linspace(0.0, 2.5, 251, dtype=torch.float64)
    path = integrate_there(setting, drawn, drawn.problem.lora_init(gamma, seed=seeds), times)
    arrays = {
        "times": times.numpy(),
        "sqrt_mode_values": path.mode_values.clamp_min(0).sqrt().numpy(),
        "window": np.array(WINDOW),
        "betas": np.array(BETAS),
        "max_deviation": np.array(deviations),
        "slope": np.array(slope),
        "slope_interval": interval,
        "targets": np.array(SINGULAR_VALUES),
    }
    return Evidence(tuple(measurements), arrays)


def check_equal_rate(setting: Setting) -> Evidence:
    """While active, every sqrt(d_i) grows at the rate 1 - O(beta^2).

    Aligned and balanced, d_i = x^2 with dx/dt = g / sqrt(g^2 + beta^2), g = x (sigma - x^2), so
    that 0 <= 1 - dx/dt <= beta^2 / (2 g^2). From a random LoRA start the constant is larger, for
    the factors have still to align; the power of beta stays. Rates are taken from the field,
    d/dt sqrt(d_i) = u_i^T (dB/dt A + B dA/dt) v_i / (2 sqrt(d_i)), and from differences in time.
    The bands are a factor of 2 about an independent float64 experiment with 10 seeds.
    """
    problem = toy(setting.seed)
    return _equal_rate({beta: spectral_flow(problem, beta) for beta in BETAS}, GAMMA, setting)


def control_gradient_flow(setting: Setting) -> Evidence:
    """Gradient flow: a mode grows at a rate proportional to sigma_i and to itself."""
    field = gradient_flow(toy(setting.seed))
    return _equal_rate(dict.fromkeys(BETAS, field), GAMMA, setting)


def control_still_escaping(setting: Setting) -> Evidence:
    """beta = .1 from gamma = 1e-6: the modes are still leaving the saddle in the window."""
    field = spectral_flow(toy(setting.seed), 0.1)
    return _equal_rate(dict.fromkeys(BETAS, field), 1e-6, setting)


def _singular_rate_deviation(trajectory: Trajectory) -> Array:
    """Of d/dt sqrt(s_k(W)), k <= r, one number a seed; ds_k = p_k^T dW q_k."""
    rank = trajectory.field.problem.rank
    W, dW = trajectory.reduced_products()
    left, s, right = torch.linalg.svd(W)
    left, s, right = left[..., :rank], s[..., :rank], right[..., :rank, :]
    rates = ((left.mT @ dW) * right).sum(-1) / (2 * s.sqrt())
    return _largest_deviation(rates, s.sqrt(), trajectory.times)


def _power_law(seed: int) -> MatrixFactorization:
    return MatrixFactorization.planted(
        m=60, n=70, singular_values=POWER_LAW, rank=UNDER_RANK, seed=seed
    )


def _underparametrised(problem: MatrixFactorization, spectral: bool, setting: Setting) -> Evidence:
    seeds, window = setting.seeds(setting["seeds"]), _window(setting["points"])

    def deviation(gamma: float, beta: float) -> Array:
        field = spectral_flow(problem, beta) if spectral else gradient_flow(problem)
        start = problem.lora_init(gamma, seed=seeds)
        return _singular_rate_deviation(integrate_there(setting, field, start, window))

    coarse, fine = deviation(1e-3, 0.01), deviation(1e-5, 0.01)
    other_beta = deviation(1e-5, 0.003)
    measurements = []
    for gamma, values, known in (("1e-3", coarse, 3.1e-3), ("1e-5", fine, 5.6e-4)):
        _, low, high = geometric_mean_with_interval(values)
        name = f"deviation at gamma {gamma}, end of the interval of its geometric mean"
        measurements += [
            Measurement(f"{name}, lower", low, ">=", known / 2),
            Measurement(f"{name}, upper", high, "<=", 2 * known),
        ]
    falls = geometric_mean_with_interval(fine / coarse)[2]
    stays = geometric_mean_with_interval(other_beta / fine)[0]
    measurements += [
        Measurement("deviation at gamma 1e-5 over 1e-3, upper end", falls, "<=", SLOWEST_GAIN),
        Measurement("deviation at beta .003 over .01, gamma 1e-5", stays, "within", (0.5, 2.0)),
    ]
    quantiles = [np.quantile(values, (0.1, 0.5, 0.9)) for values in (coarse, fine)]
    remark = "Single seeds spread widely; 10%, 50% and 90% quantiles: " + "; ".join(
        f"{', '.join(f'{q:.1e}' for q in values)} at gamma {gamma}"
        for gamma, values in zip(("1e-3", "1e-5"), quantiles, strict=True)
    )
    arrays = {"gamma_1e-3": coarse, "gamma_1e-5": fine, "gamma_1e-5_beta_3e-3": other_beta}
    return Evidence(tuple(measurements), arrays, (remark + ".",))


def check_underparametrised(setting: Setting) -> Evidence:
    """With r < rank Y the top r singular values of W grow at the unit rate up to misalignment.

    Misalignment of learned with unlearned modes decays only like t^-(1 - sigma_j/sigma_i) from the
    scale of the start (usg.alignment), so the deviation falls with gamma; the part that beta causes
    is O(beta^2) and far below it, which a beta less than a third as large has to show. The slowest
    pair, sigma_6/sigma_5 = 5/6, gains a factor 100^-(1/6) = .46 from a gamma 100 times smaller;
    the mean over seeds has to gain that at least.
    """
    return _underparametrised(_power_law(setting.seed), True, setting)


def control_underparametrised_gradient_flow(setting: Setting) -> Evidence:
    """Gradient flow on the same problem from the same starts."""
    return _underparametrised(_power_law(setting.seed), False, setting)


def control_rank_enough(setting: Setting) -> Evidence:
    """r = rank Y: no mode is left to be aligned with, and beta is what limits the rates."""
    return _underparametrised(toy(setting.seed), True, setting)


def _alignment(power: int, setting: Setting) -> Evidence:
    problem = MatrixFactorization.planted(
        m=12, n=14, singular_values=(3.0, 2.0, 1.0), rank=2, seed=setting.seed
    )
    times = torch.logspace(-4, -2, 31, dtype=torch.float64)
    start = problem.lora_init(1e-10, seed=setting.seeds(setting["seeds"]))
    path = integrate_there(
        setting, spectral_flow(problem, 1e-13), start, times, rtol=1e-10, atol=1e-18
    )
    overlap = path.mode_overlaps().abs()
    x = np.log(times.numpy())
    measurements, arrays = [], {"times": times.numpy()}
    for learned, exponent in ((0, -2 / 3), (1, -1 / 2)):
        share = (overlap[..., 2, learned] / overlap[..., learned, learned]) ** power
        arrays[f"misalignment_{learned}"] = share.numpy()
        slopes = [slope_with_interval(x, series)[0] for series in np.log(share.numpy())]
        worst = slopes[np.abs(np.subtract(slopes, exponent)).argmax()]
        measurements.append(
            Measurement(
                f"exponent farthest from {exponent:.4f} over seeds, mode {learned + 1}",
                worst, "within", (exponent - 0.003, exponent + 0.003),
            )
        )  # fmt: skip
    return Evidence(tuple(measurements), arrays)


def check_alignment(setting: Setting) -> Evidence:
    """While E is -Y, misalignment decays like t^-(1 - sigma_j/sigma_i).

    Balanced, in mode coordinates, dx/dt = msign(Sigma x), x (k x r). With x = [t Q; xi], Q
    orthogonal and xi small, the polar factor of [Sigma_1 t Q; sigma_j xi] is
    [Q; sigma_j xi Q^T Sigma_1^-1 Q / t] to first order, so that (xi Q^T)_i grows like
    t^(sigma_j/sigma_i) and its share of mode i decays like t^-(1 - sigma_j/sigma_i). The fit is
    over 1e6 gamma <= t <= 1e8 gamma <= .01, where neither the start nor W/Y shows: from gamma =
    1e-7 one seed in fifty, with little of mode 1 in its start, is still up to .0085 off.
    """
    return _alignment(1, setting)


def control_squared_error(setting: Setting) -> Evidence:
    """The exponent of the squared misalignment, by the same criterion."""
    return _alignment(2, setting)


CLAIMS = (
    Claim(
        id="usg.equal-rate",
        paper=PAPER,
        title="All singular values grow at the same rate",
        statement=(
            r"While mode $i$ is active, $\frac{d}{dt}\sqrt{d_i} = 1$ up to small deviations, which "
            r"fall as $\beta^2$."
        ),
        reference=f"{REFERENCE}, Theorem 5.7",
        source="paper",
        setup="60 x 70, sigma = 5, 4, 3, 2, 1, r = 5, LoRA start gamma = 1e-3, t in [.5, .7]",
        criterion="largest deviation within a factor 2 of 5.8e-3, 5.2e-4, 6.9e-5 at beta .03, .01, "
        ".003; the interval of the log-log slope inside 2 +- .3",
        check=check_equal_rate,
        devices=DEVICES,
        controls={
            "gradient flow": control_gradient_flow,
            "beta .1, gamma 1e-6": control_still_escaping,
        },
        tiers={"quick": {"seeds": 10, "points": 21}, "full": {"seeds": 100, "points": 101}},
    ),
    Claim(
        id="usg.equal-rate-underparametrised",
        paper=PAPER,
        title="Equal rates when the rank is too small",
        statement=(
            r"With $r < \operatorname{rank} Y$ the $r$ leading $\sqrt{s_k(W)}$ grow at rate 1 up "
            r"to a deviation that alignment limits and $\beta$ does not: it falls with $\gamma$."
        ),
        reference=REFERENCE,
        source="paper",
        setup="60 x 70, sigma_k = 10/k for k = 1..20, r = 5, t in [.5, .7], beta .01 and .003",
        criterion="95% interval of the geometric mean over seeds, all of it: within a factor 2 of "
        "3.1e-3 (gamma 1e-3) and 5.6e-4 (1e-5); of the ratio of the two below 100^(-1/6); beta "
        ".003 over .01 within a factor 2",
        check=check_underparametrised,
        devices=DEVICES,
        controls={
            "gradient flow": control_underparametrised_gradient_flow,
            "r = rank Y": control_rank_enough,
        },
        seconds=6,
        # Single seeds spread by half a decade: fewer leave the interval across the band's edge.
        tiers={"quick": {"seeds": 512, "points": 5}, "full": {"seeds": 1024, "points": 41}},
    ),
    Claim(
        id="usg.alignment",
        paper=PAPER,
        title="How fast learned modes align",
        statement=(
            r"As $\beta \to 0$ with $r < \operatorname{rank} Y$, the misalignment between a "
            r"learned mode $i$ and an unlearned mode $j$ decays as $t^{-(1 - \sigma_j/\sigma_i)}$."
        ),
        reference=REFERENCE,
        source="derived",
        setup="12 x 14, sigma = 3, 2, 1, r = 2, gamma 1e-10, beta 1e-13, t in [1e-4, 1e-2]",
        criterion="fitted exponents within .003 of -2/3 and -1/2, every seed",
        check=check_alignment,
        devices=DEVICES,
        controls={"squared error": control_squared_error},
        tiers={"quick": {"seeds": 16}, "full": {"seeds": 100}},
    ),
)
