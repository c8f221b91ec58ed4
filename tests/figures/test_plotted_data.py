"""What is drawn is what was recorded: the plotted data is compared, not pixels."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.lines import Line2D
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray

from figures import (
    arrivals,
    discretisation,
    equal_rate,
    l2,
    lockstep,
    order_boundary,
    saddles_and_rates,
    singular_values,
)
from figures.figure import Figure, Sources
from figures.order_boundary import cell_edges


def axes_of(figure: Figure, sources: Sources) -> list[Axes]:
    return figure.drawing(sources).axes


def lines(axes: Axes, label: str) -> list[Line2D]:
    return [line for line in axes.lines if line.get_label() == label]


def line(axes: Axes, label: str) -> Line2D:
    (found,) = lines(axes, label)
    return found


def y_of(found: Line2D) -> NDArray[np.float64]:
    return np.asarray(found.get_ydata())


def x_of(found: Line2D) -> NDArray[np.float64]:
    return np.asarray(found.get_xdata())


def texts(axes: Axes) -> str:
    return " | ".join(text.get_text() for text in axes.texts)


def test_singular_values_of_every_seed_and_their_median(sources: Sources) -> None:
    panels = axes_of(singular_values.FIGURE, sources)
    recordings = (
        sources.check("usg.smallest-first"),
        sources.control("usg.smallest-first", "gradient flow"),
    )
    for axes, recording in zip(panels, recordings, strict=True):
        values = recording["singular_values"]
        seeds, _, modes = values.shape
        thin = lines(axes, "_seed")
        assert len(thin) == seeds * modes
        drawn = np.array([y_of(seed) for seed in thin]).reshape(modes, seeds, -1)
        assert_array_equal(drawn, values.transpose(2, 0, 1))
        for mode in range(modes):
            median = line(axes, f"s_{mode + 1}")
            assert_array_equal(x_of(median), recording["times"])
            assert_array_equal(y_of(median), np.median(values[:, :, mode], axis=0))
        targets = [y_of(target)[0] for target in lines(axes, "_target")]
        assert_array_equal(targets, recording["targets"])


@pytest.mark.parametrize(("panel", "first", "word"), [(0, 1.0, "smallest"), (1, 5.0, "largest")])
def test_arrivals_are_numbered_in_order(
    sources: Sources, panel: int, first: float, word: str
) -> None:
    axes = axes_of(singular_values.FIGURE, sources)[panel]
    assert_allclose(y_of(line(axes, "arrival 1")), [0.9 * first])
    assert f"{word} first" in axes.get_title(loc="left")


def test_the_title_says_what_was_measured_not_what_was_hoped(sources: Sources) -> None:
    targets = np.array([3.0, 2.0, 1.0])
    order = singular_values.order_of_arrival
    assert order(np.array([3.0, 2.0, 1.0]), targets) == "smallest first"
    assert order(np.array([1.0, 3.0, 2.0]), targets) == "no one order"
    assert order(np.array([np.inf, 2.0, 1.0]), targets) == "not all arrive"


def test_a_mode_that_never_arrives_is_not_marked(sources: Sources) -> None:
    arrays = dict(sources.arrays["usg.smallest-first"])
    times = arrays["check/arrival_times"].copy()
    times[:3, 0] = np.nan  # three of five seeds: the median seed does not arrive
    changed = Sources({"usg.smallest-first": arrays | {"check/arrival_times": times}})
    axes = axes_of(singular_values.FIGURE, changed)[0]
    marks = [found for found in axes.lines if str(found.get_label()).startswith("arrival")]
    assert sorted(float(y_of(mark)[0]) for mark in marks) == pytest.approx([0.9, 1.8, 2.7, 3.6])


def test_equal_rate_growth_window_and_unit_line(sources: Sources) -> None:
    growth, _ = axes_of(equal_rate.FIGURE, sources)
    recording = sources.check("usg.equal-rate")
    for mode in range(5):
        expected = np.median(recording["sqrt_mode_values"][:, :, mode], axis=0)
        assert_array_equal(y_of(line(growth, f"mode {mode + 1}")), expected)
    guide = line(growth, "unit rate")
    assert np.diff(y_of(guide)) == pytest.approx(np.diff(x_of(guide)))
    (window,) = [patch for patch in growth.patches if patch.get_label() == "window"]
    edges = window.get_extents().transformed(growth.transData.inverted())
    assert_allclose([edges.x0, edges.x1], recording["window"])
    control = sources.control("usg.equal-rate", "gradient flow")["sqrt_mode_values"]
    drawn = np.array([y_of(found) for found in lines(growth, "gradient flow")])
    assert_array_equal(drawn, np.median(control, axis=0).T)


def test_equal_rate_deviation_of_every_seed_with_slope_and_interval(sources: Sources) -> None:
    _, axes = axes_of(equal_rate.FIGURE, sources)
    recording = sources.check("usg.equal-rate")
    assert axes.get_xscale() == axes.get_yscale() == "log"
    drawn = np.array([y_of(found) for found in lines(axes, "seeds")])
    assert_array_equal(drawn, recording["max_deviation"])
    guide = line(axes, "slope 2")
    slope = np.diff(np.log(y_of(guide))) / np.diff(np.log(x_of(guide)))
    assert slope == pytest.approx([2.0])
    assert "slope 1.99  [1.96, 2.03]" in texts(axes)


def test_arrival_times_predicted_and_measured(sources: Sources) -> None:
    (axes,) = axes_of(arrivals.FIGURE, sources)
    assert axes.get_yscale() == "log"
    for name, claim in (
        ("spectral gradient flow", "usg.smallest-first"),
        ("gradient flow", "usg.gf-largest-first"),
    ):
        recording = sources.check(claim)
        order = np.argsort(recording["targets"])
        predicted = line(axes, f"{name} predicted")
        assert_array_equal(x_of(predicted), recording["targets"][order])
        assert_array_equal(y_of(predicted), recording["predicted_arrivals"][order])
        drawn = np.array([y_of(found) for found in lines(axes, f"{name} seeds")])
        assert_array_equal(drawn, recording["arrival_times"])
        median = y_of(line(axes, f"{name} median"))
        assert_array_equal(median, np.median(recording["arrival_times"], axis=0))


def test_order_boundary_cells_curve_and_surprises(sources: Sources) -> None:
    axes, _ = axes_of(order_boundary.FIGURE, sources)
    recording = sources.check("usg.smallest-first-limit")
    (mesh,) = [found for found in axes.collections if isinstance(found, QuadMesh)]
    assert_array_equal(np.asarray(mesh.get_array()), recording["measured_fraction"].T)
    corners = np.asarray(mesh.get_coordinates(), dtype=float)
    assert_allclose(corners[0, :, 0], cell_edges(recording["betas"]))
    assert_allclose(corners[:, 0, 1], cell_edges(recording["gammas"]))
    boundary = line(axes, "predicted boundary")
    assert_array_equal(x_of(boundary), recording["boundary_betas"])
    assert_array_equal(y_of(boundary), recording["boundary_gammas"])
    surprises = line(axes, "against the prediction")
    wrong = recording["predicted_smallest_first"] != (recording["measured_fraction"] > 0.5)
    assert wrong.sum() == len(x_of(surprises)) == 1
    assert (x_of(surprises)[0], y_of(surprises)[0]) == (
        recording["betas"][4],
        recording["gammas"][0],
    )


def test_cell_edges_lie_halfway_on_a_logarithmic_axis() -> None:
    assert_allclose(cell_edges(np.array([1.0, 100.0])), [0.1, 10.0, 1000.0])
    assert len(cell_edges(np.array([1.0]))) == 2


def test_escape_times_and_their_predicted_slopes(sources: Sources) -> None:
    axes, _ = axes_of(saddles_and_rates.FIGURE, sources)
    recording = sources.check("usg.saddle-escape")
    for index, slope in enumerate(recording["predicted_slope"]):
        measured = line(axes, f"escape {index}")
        assert_array_equal(x_of(measured), recording["log_inverse_offset"])
        assert_array_equal(y_of(measured), recording["escape_times"][index])
        guide = line(axes, f"predicted {index}")
        assert np.diff(y_of(guide)) / np.diff(x_of(guide)) == pytest.approx([slope])
    assert r"$\beta = 0.05,\ |\lambda| = 1$" in texts(axes)


def test_decay_near_the_optimum_in_units_of_beta(sources: Sources) -> None:
    _, axes = axes_of(saddles_and_rates.FIGURE, sources)
    recording = sources.check("usg.local-rate")
    assert axes.get_yscale() == "log"
    measured = [found for found in axes.lines if r"\beta" in str(found.get_label())]
    for index, (found, beta) in enumerate(zip(measured, recording["beta"], strict=True)):
        assert_allclose(x_of(found) * beta, recording["times"][index])
        assert_array_equal(y_of(found), recording["gradient_norms"][index])
        guide = line(axes, f"predicted {index}")
        rate = -np.diff(np.log(y_of(guide))) / np.diff(x_of(guide) * beta)
        assert_allclose(rate, recording["predicted_rate"][index])
    assert "rate 9.9988  (10)" in str(measured[0].get_label())


def test_descent_is_drawn_only_where_it_has_iterates(sources: Sources) -> None:
    axes = axes_of(discretisation.FIGURE, sources)[0]
    recording = sources.check("usg.specgd-tracks-flow")
    times, descents = recording["trajectory_times"], recording["specgd_sqrt_mode_values"]
    (corner,) = axes.child_axes
    assert isinstance(corner, Axes)
    for panel in (axes, corner):  # the magnified corner shows the same data
        for index, step in enumerate(recording["drawn_steps"]):
            taken = ~np.isnan(descents[index]).all(axis=1)
            drawn = lines(panel, f"eta {step:g}")
            assert_array_equal(x_of(drawn[0]), times[taken])
            assert_array_equal([y_of(found) for found in drawn], descents[index][taken].T)
        flow = [y_of(found) for found in lines(panel, "flow")]
        assert_array_equal(flow, recording["specgf_sqrt_mode_values"].T)


def test_distance_and_loss_with_slope_and_bound(sources: Sources) -> None:
    _, distance, loss = axes_of(discretisation.FIGURE, sources)
    recording = sources.check("usg.specgd-tracks-flow")
    drawn = np.array([y_of(found) for found in lines(distance, "seeds")])
    assert_array_equal(drawn, recording["distance_to_flow"])
    fit = line(distance, "fit")
    slope = np.diff(np.log(y_of(fit))) / np.diff(np.log(x_of(fit)))
    assert slope == pytest.approx([1.004])
    assert "slope 1.00  [0.98, 1.02]" in texts(distance)
    assert_array_equal([y_of(found) for found in lines(loss, "_seed")], recording["loss"])
    assert_array_equal(y_of(line(loss, "bound")), [3e-3, 3e-3])
    assert "bound" in texts(loss)


def test_l2_imbalance_spectrum_and_control(sources: Sources) -> None:
    imbalance, spectrum = axes_of(l2.FIGURE, sources)
    check = sources.check("usg.l2-convergence")
    control = sources.control("usg.l2-convergence", "decoupled decay")
    assert imbalance.get_yscale() == "log"
    for label, recording in (("coupled", check), ("decoupled decay", control)):
        median = y_of(line(imbalance, label))
        assert_array_equal(median, np.median(recording["imbalance"], axis=0))
    shrunk = [y_of(found)[0] for found in lines(spectrum, "shrunk target")]
    assert_array_equal(shrunk, check["shrunk_targets"])
    for mode in range(5):
        expected = np.median(check["singular_values"][:, :, mode], axis=0)
        assert_array_equal(y_of(line(spectrum, f"s_{mode + 1}")), expected)
    drawn = np.array([y_of(found) for found in lines(spectrum, "decoupled decay")])
    assert_array_equal(drawn, np.median(control["singular_values"], axis=0).T)


def test_an_imbalance_of_exactly_zero_does_not_break_the_log_axis(sources: Sources) -> None:
    arrays = dict(sources.arrays["usg.l2-convergence"])
    imbalance = arrays["check/imbalance"].copy()
    imbalance[:, -40:] = 0.0
    changed = Sources({"usg.l2-convergence": arrays | {"check/imbalance": imbalance}})
    axes, _ = axes_of(l2.FIGURE, changed)
    bottom, top = axes.get_ylim()
    assert 0 < bottom < top < 10


def test_modes_of_the_optimisers_and_of_the_flow(sources: Sources) -> None:
    axes, _, _ = axes_of(lockstep.FIGURE, sources)
    recording = sources.check("usg.lockstep")
    for label, key in (("flow", "specgf"), ("specgd", "specgd"), ("newton_schulz",) * 2):
        drawn = lines(axes, label)
        assert_array_equal(
            np.array([y_of(mode) for mode in drawn]).T, recording[f"{key}_sqrt_mode_values"]
        )
        assert all(np.array_equal(x_of(mode), recording["times"]) for mode in drawn)
    assert not lines(axes, "momentum")


def test_distances_of_the_optimisers_from_the_flow(sources: Sources) -> None:
    _, lora, aligned = axes_of(lockstep.FIGURE, sources)
    recording = sources.check("usg.lockstep")
    assert lora.get_yscale() == aligned.get_yscale() == "log"
    assert lora.get_ylim() == aligned.get_ylim()
    seeds = np.array([y_of(seed) for seed in lines(lora, "_seed")])
    names = ("specgd", "newton_schulz", "momentum")
    expected = [recording[f"{name}_distance"] for name in names]
    assert_array_equal(seeds, np.concatenate(expected))
    for name, distance in zip(names, expected, strict=True):
        assert_array_equal(y_of(line(lora, name)), np.median(distance, axis=0))
        of_aligned = recording[f"{name}_aligned_distance"]
        # No distance at the start, which a logarithmic axis has no place for.
        assert_array_equal(y_of(line(aligned, name))[1:], of_aligned[1:])
        assert np.isnan(y_of(line(aligned, name))[0])
    assert_array_equal(y_of(line(aligned, "bound")), recording["aligned_bound"])
    assert "SpecGD" in texts(aligned)
    assert "bound" in texts(aligned)
