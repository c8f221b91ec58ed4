"""What the figures on LoRA pairs draw is what was recorded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.text import Annotation
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray

from figures import (
    gauge_drift,
    gram_and_qr,
    palette,
    rates_by_rank,
    rates_by_rescaling,
    rates_by_size,
    scale_dependence,
    step_time,
    tangent_share,
)
from figures.figure import Figure, Recording, Sources

Array = NDArray[Any]


def lines(axes: Axes, label: str) -> list[Line2D]:
    return [line for line in axes.lines if line.get_label() == label]


def xy_of(axes: Axes, label: str) -> tuple[Array, Array]:
    (found,) = lines(axes, label)
    return np.asarray(found.get_xdata()), np.asarray(found.get_ydata())


def assert_members(axes: Axes, label: str, positions: Array, values: Array) -> None:
    """Every member and their medians are drawn, zeros apart."""
    shown = np.where(values == 0, np.nan, values)
    points = lines(axes, f"{label} members")
    assert_array_equal([np.asarray(point.get_ydata()) for point in points], shown)
    assert_array_equal([np.asarray(point.get_xdata())[0] for point in points], positions)
    x, y = xy_of(axes, label)
    assert_array_equal(x, positions)
    assert_array_equal(y, np.median(shown, axis=1))


def texts(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


def changed(sources: Sources, claim: str, arrays: Mapping[str, Array]) -> Sources:
    return Sources({**sources.arrays, claim: {**sources.arrays[claim], **arrays}})


@pytest.mark.parametrize(("panel", "dtype"), [(0, "float64"), (1, "float32")])
def test_differences_in_another_gauge(sources: Sources, panel: int, dtype: str) -> None:
    axes = gauge_drift.FIGURE.drawing(sources).axes[panel]
    check = sources.check("lora-muon.gauge")
    places = np.arange(6.0)
    assert axes.get_yscale() == "log"
    assert_members(axes, "LoRA-Muon", places, check[f"difference, {dtype}"])
    for name in ("Spectron", "Muon on each factor", "signs"):
        control = sources.control("lora-muon.gauge", name)
        assert_members(axes, name, places, control[f"difference, {dtype}"])
    assert_array_equal(xy_of(axes, "u times condition")[1], check[f"round-off, {dtype}"])
    assert_array_equal(xy_of(axes, "bound")[1], check[f"bound, {dtype}"])
    ticks = [tick.get_text() for tick in axes.get_xticklabels()]
    assert ticks == ["$9I$", "$1000I$", "$Q$", "10", "100", "1000"]


def test_both_precisions_share_their_axis(sources: Sources) -> None:
    double, single, _ = gauge_drift.FIGURE.drawing(sources).axes
    assert double.get_ylim() == single.get_ylim()
    assert {"LoRA-Muon", "Spectron", "Muon on each factor", "signs"} < set(texts(single))


def test_damped_roots_with_the_claimed_levels(sources: Sources) -> None:
    axes = gauge_drift.FIGURE.drawing(sources).axes[2]
    claim = "lora-muon.gauge-damping"
    check = sources.check(claim)
    assert_members(axes, "relative damping", np.arange(6.0), check["share"])
    for name in ("exact numerics", "absolute damping"):
        assert_members(axes, name, np.arange(6.0), sources.control(claim, name)["share"])
    levels = np.array([line.get_xydata() for line in lines(axes, "level")])
    assert_allclose(levels[:, 0], [(3, 2.3e-4), (4, 2.2e-2), (5, 0.28)])
    bands = [np.asarray(line.get_ydata()) for line in lines(axes, "band")]
    assert_array_equal(bands, check["band"][3:])


@pytest.mark.parametrize(("panel", "dtype"), [(0, "float64"), (1, "float32")])
def test_errors_of_both_forms_by_condition(sources: Sources, panel: int, dtype: str) -> None:
    axes = gram_and_qr.FIGURE.drawing(sources).axes[panel]
    check = sources.check("lora-muon.qr-equals-gram")
    assert axes.get_xscale() == axes.get_yscale() == "log"
    conditions = check[f"condition, {dtype}"]
    for name in ("QR form", "root of the factor", "root of the Gram matrix"):
        assert_members(axes, name, conditions, check[f"{name}, {dtype}"])
    u = np.finfo(dtype).eps / 2
    x, y = xy_of(axes, "u condition")
    assert_allclose(y, u * x)
    assert x[0] < conditions[0] < conditions[-1] < x[1]
    x, y = xy_of(axes, "u condition^2")
    assert_allclose(y, u * x**2)
    assert y[-1] <= 1 + 1e-12
    assert axes.get_title(loc="left") == dtype


def test_both_forms_are_named_beside_their_ends(sources: Sources) -> None:
    double, single = gram_and_qr.FIGURE.drawing(sources).axes
    assert double.get_ylim() == single.get_ylim()
    assert {"QR form", "factor's root", "Gram's root"} < set(texts(single))


def test_shares_of_the_tangent_optimum_end_at_full_rank(sources: Sources) -> None:
    axes, _ = tangent_share.FIGURE.drawing(sources).axes
    claim = "lora-muon.split-is-not-tangent-optimum"
    check, full = sources.check(claim), sources.control(claim, "r = n")
    ranks = np.array([1, 2, 4, 8, 16, 24])
    for name in ("split", "unit", "projected"):
        assert_members(axes, name, ranks, np.concatenate([check[name], full[name]]))
    assert_array_equal(xy_of(axes, "optimum")[1], [1, 1])
    low, high = axes.get_ylim()
    assert low < min(check[name].min() for name in ("split", "unit", "projected")) < 1 < high
    assert r"24 \times 24" in axes.get_xlabel()


def test_a_share_far_below_the_others_stays_in_view(sources: Sources) -> None:
    claim = "lora-muon.split-is-not-tangent-optimum"
    split = sources.check(claim)["split"].copy()
    split[0, 0] = 0.1
    axes, _ = tangent_share.FIGURE.drawing(changed(sources, claim, {"check/split": split})).axes
    assert axes.get_ylim()[0] < 0.1


def test_lengths_of_steps_by_rank_over_the_claimed_band(sources: Sources) -> None:
    _, axes = tangent_share.FIGURE.drawing(sources).axes
    claim = "lora-muon.rank-step-scale"
    recordings: dict[str, Recording] = {"LoRA-Muon": sources.check(claim)}
    for name in ("Muon on each factor", "signs"):
        recordings[name] = sources.control(claim, name)
    for name, recording in recordings.items():
        assert_members(axes, name, recording["ranks"], recording["sizes"])
    assert axes.get_xscale() == axes.get_yscale() == "log"
    (band,) = [patch for patch in axes.patches if patch.get_label() == "band"]
    edges = band.get_extents().transformed(axes.transData.inverted())
    assert_allclose([edges.y0, edges.y1], [0.5, 1.0])
    assert texts(axes)[-3:] == ["LoRA-Muon", "Muon on\neach factor", "signs"]


def test_spectron_by_scale_beside_lora_muon(sources: Sources) -> None:
    axes, _ = scale_dependence.FIGURE.drawing(sources).axes
    claim = "spectron.not-invariant"
    check, control = sources.check(claim), sources.control(claim, "LoRA-Muon")
    assert axes.get_xscale() == "log"
    assert_members(axes, "Spectron", check["scales"], check["sizes"])
    assert_members(axes, "LoRA-Muon", control["scales"], control["sizes"])
    assert_array_equal(xy_of(axes, "limit")[1], [1, 1])
    ticks = [tick.get_text() for tick in axes.get_xticklabels()]
    assert ticks == ["1/81", "1/27", "1/9", "1/3", "1", "3", "9", "27", "81"]


def test_first_steps_from_every_start_at_every_rate(sources: Sources) -> None:
    _, axes = scale_dependence.FIGURE.drawing(sources).axes
    claim = "lora-muon.zero-init-kick"
    steps = np.arange(1, 7)
    recordings = {"zero start": sources.check(claim)}
    for name in ("absolute damping", "Gaussian start"):
        recordings[name] = sources.control(claim, name)
    for start, recording in recordings.items():
        for rate, shares in zip(recording["rates"], recording["shares"], strict=True):
            assert_members(axes, f"{start}, eta = {rate:g}", steps, shares)
    # The step that does not move A has no place on the axis, and none is made up for it.
    assert np.isnan(xy_of(axes, "zero start, eta = 0.1")[1][0])
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == list(recordings)


def test_rates_share_a_label_only_where_they_coincide(sources: Sources) -> None:
    claim = "lora-muon.zero-init-kick"
    _, axes = scale_dependence.FIGURE.drawing(sources).axes
    assert texts(axes).count(r"every $\eta$") == 1
    shares = sources.check(claim)["shares"] * np.array([3.0, 2.0, 1.0])[:, None, None]
    apart = changed(sources, claim, {"check/shares": shares})
    _, axes = scale_dependence.FIGURE.drawing(apart).axes
    assert texts(axes).count(r"every $\eta$") == 0
    assert texts(axes).count(r"$\eta = 0.1$") == 3


RANKS, SIZES = "lora-muon.lr-transfer-rank", "lora-muon.lr-transfer-width-depth"
SCALES = "lora-muon.best-rate-rescaling"


def assert_curves(axes: Axes, recording: Recording, texts_expected: list[str]) -> None:
    """Means, seeds and best rates with their intervals, of every line of a sweep."""
    assert axes.get_xscale() == "log"
    for line, text in enumerate(texts_expected):
        tried = ~np.isnan(recording["rates"][line])
        x, mean = xy_of(axes, text)
        assert_array_equal(x, recording["rates"][line, tried])
        assert_array_equal(mean, recording["losses"][line, tried].mean(1))
        assert_array_equal(
            xy_of(axes, f"{text} seeds")[1], recording["losses"][line, tried].ravel()
        )
        rate, low, high = recording["best"][line]
        assert_array_equal(xy_of(axes, f"{text} best")[0], [rate])
        assert_array_equal(xy_of(axes, f"{text} interval")[0], [low, high])
        assert_array_equal(xy_of(axes, f"{text} interval")[1], np.full(2, np.nanmin(mean)))


def test_losses_by_rate_and_rank(sources: Sources) -> None:
    axes = rates_by_rank.FIGURE.drawing(sources).axes
    check = sources.check(RANKS)
    ranks = ["dense", "$r = 2$", "$r = 8$", "$r = 32$"]
    assert_curves(axes[0], check, ranks)
    assert_curves(axes[1], check.within("Muon on each factor"), ranks)
    assert_curves(axes[2], check.within("Spectron"), ranks)
    assert_curves(axes[3], check.within("AdamW"), ranks)
    # The last panel names the curves of all.
    assert [texts(panel) for panel in axes] == [[], [], [], ranks]


def test_variants_of_a_step_look_like_no_other_optimiser() -> None:
    others = {ink.colour for ink in (*tangent_share.CONTROLS.values(), palette.SPECTRON)}
    assert others.isdisjoint(ink.colour for ink, _ in tangent_share.STEPS.values())
    assert {ink.colour for ink in gauge_drift.NUMERICS.values()}.isdisjoint(
        ink.colour for ink in gauge_drift.CONTROLS.values()
    )


def test_losses_by_rate_and_size(sources: Sources) -> None:
    left, right = rates_by_size.FIGURE.drawing(sources).axes
    sizes = ["64 wide, 2 deep", "32 wide, 2 deep", "128 wide, 2 deep", "64 wide, 4 deep"]
    assert_curves(left, sources.check(SIZES), sizes)
    assert_curves(right, sources.control(SIZES, "AdamW"), sizes)


def test_losses_by_rate_and_rescaling(sources: Sources) -> None:
    axes = rates_by_rescaling.FIGURE.drawing(sources).axes
    scales = [f"$c = {c}$" for c in (1, 3, 9, 27)]
    assert_curves(axes[0], sources.check(SCALES), scales)
    assert_curves(axes[1], sources.check(SCALES).within("Spectron"), scales)
    for panel, name in zip(axes[2:], ("Muon on each factor", "AdamW"), strict=True):
        assert_curves(panel, sources.control(SCALES, name), scales)


def test_curves_whose_best_are_alike_are_labelled_in_their_order(sources: Sources) -> None:
    axes = rates_by_rescaling.FIGURE.drawing(sources).axes[-1]
    heights = {text.get_text(): text.xy[1] for text in axes.texts if isinstance(text, Annotation)}
    assert sorted(heights, key=lambda text: -heights[text]) == [f"$c = {c}$" for c in (1, 3, 9, 27)]


@pytest.mark.parametrize(
    "figure", [rates_by_rank.FIGURE, rates_by_size.FIGURE, rates_by_rescaling.FIGURE]
)
def test_the_best_rates_and_their_losses_are_in_view(figure: Figure, sources: Sources) -> None:
    for axes in figure.drawing(sources).axes:
        bottom, top = axes.get_ylim()
        best = [line for line in axes.lines if str(line.get_label()).endswith(" best")]
        assert best
        assert all(bottom < float(np.asarray(line.get_ydata())[0]) < top for line in best)


STEP_TIME = "lora-muon.adapter-step-time"


def test_times_of_steps_where_the_dense_one_was_timed(sources: Sources) -> None:
    axes, _, memory = step_time.FIGURE.drawing(sources).axes
    check = sources.check(STEP_TIME)
    names = list(check["contestants"])
    assert axes.get_xscale() == axes.get_yscale() == "log"
    for name in step_time.TIMED:
        x, y = xy_of(axes, name)
        assert_array_equal(x, check["ranks"])
        # In milliseconds, at the size of the first row: the dense step was timed there alone.
        assert_allclose(y, 1e3 * check["seconds"][0, :, names.index(name)])
    assert_allclose(xy_of(axes, "dense")[1], 190.0)
    assert "1024" in axes.get_title(loc="left")
    for name in ("LoRA-Muon", "LoRA-RITE"):
        assert_allclose(xy_of(memory, name)[1], check["kept"][0, :, names.index(name)])
    assert_allclose(xy_of(memory, "dense")[1], 1024.0**2)
    assert memory.get_yscale() == "log"


def test_ratios_to_the_fastest_qr_form_at_every_size(sources: Sources) -> None:
    _, axes, _ = step_time.FIGURE.drawing(sources).axes
    check = sources.check(STEP_TIME)
    seconds = check["seconds"]
    fastest = seconds[:, :, 2:].min(2)
    for row, size in enumerate((1024, 2048)):
        assert_allclose(xy_of(axes, f"LoRA-Muon, n = {size}")[1], seconds[row, :, 0] / fastest[row])
        products = xy_of(axes, f"LoRA-Muon, matrix products, n = {size}")[1]
        assert_allclose(products, seconds[row, :, 1] / fastest[row])
    assert_array_equal(xy_of(axes, "fastest QR form")[1], [1, 1])


def test_without_a_dense_step_none_is_drawn(sources: Sources) -> None:
    nowhere = {f"check/dense_{name}": np.full(2, np.nan) for name in ("seconds", "kept")}
    times, _, memory = step_time.FIGURE.drawing(changed(sources, STEP_TIME, nowhere)).axes
    assert not lines(times, "dense")
    assert not lines(memory, "dense")
    assert "dense" not in texts(times) + texts(memory)
