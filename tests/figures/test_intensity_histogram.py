from __future__ import annotations

import numpy as np
import pytest
from matplotlib.collections import LineCollection

from mgmt_ray.base import stream
from mgmt_ray.figures import style
from mgmt_ray.figures.contact_sheet import ScanPreview
from mgmt_ray.figures.intensity_histogram import (
    find_outliers,
    intensity_figure,
    matching_figure,
    quantiles,
)
from mgmt_ray.preprocess.scan_preview import BINS, PICTURE, View


def histogram(values: np.ndarray) -> View:
    low, high = float(values.min()), float(values.max())
    counts, _ = np.histogram(values, BINS, (low, high))
    blank = np.zeros((PICTURE, PICTURE), np.uint8)
    return View("T1", blank, blank > 0, 0, low, high, counts)


def scans(number: int = 40, scale: float = 1.0, shift: float = 0.0) -> list[ScanPreview]:
    """Tumours of 4000 voxels about 500, with scanners that differ by a tenth."""
    draws = stream(0, "intensities")
    return [
        ScanPreview(f"C-{i:03d}", i % 2, histogram(tumour(draws) * scale + shift))
        for i in range(number)
    ]


def tumour(draws: np.random.Generator) -> np.ndarray:
    return np.exp(draws.normal(0, 0.1)) * draws.normal(500, 60, 4000)


def changed(
    seen: list[ScanPreview], number: int, factor: float, shift: float = 0.0
) -> list[ScanPreview]:
    old = seen[number]
    values = tumour(stream(1, "changed", number)) * factor + shift
    return [
        *seen[:number],
        ScanPreview(old.subject, old.label, histogram(values)),
        *seen[number + 1 :],
    ]


def test_quantiles_are_those_of_the_values_to_within_a_bin() -> None:
    values = stream(2).normal(3.0, 1.0, 10_000)
    view = histogram(values)
    np.testing.assert_allclose(
        quantiles(view, (0.0, 0.25, 0.5, 1.0)),
        np.quantile(values, (0.0, 0.25, 0.5, 1.0)),
        rtol=0,
        atol=(view.high - view.low) / BINS,
    )


def test_scans_of_another_scale_are_found_and_no_others() -> None:
    assert find_outliers("T1", scans()) == []
    seen = changed(changed(scans(), 7, 1000.0), 20, 0.01)
    # normalised: half the values are below 0
    seen = changed(seen, 33, 1 / 60, -500 / 60)
    found = find_outliers("T1", seen)
    assert [(o.subject, o.modality) for o in found] == [
        ("C-007", "T1"),
        ("C-020", "T1"),
        ("C-033", "T1"),
    ]
    first = found[0]
    # the usual median is 500 to within a tenth over the root of 40, four times
    assert first.typical_median == pytest.approx(500, rel=0.064)
    assert 500_000 * 0.7 < first.median < 500_000 * 1.4
    # quartiles of a normal distribution are 1.349 deviations apart; a bin is a fifth of one
    assert first.typical_spread == pytest.approx(1.349 * 60, rel=0.15)
    assert first.spread > 500 * first.typical_spread


def test_values_around_zero_are_compared_by_their_distance() -> None:
    seen = scans(shift=-500.0)
    assert find_outliers("T1", seen) == []
    seen = changed(seen, 5, 1.0, 5000.0)
    assert [o.subject for o in find_outliers("T1", seen)] == ["C-005"]


def test_small_differences_among_equal_scans_are_no_outliers() -> None:
    values = stream(3).normal(500, 60, 4000)
    seen = [ScanPreview(f"C-{i}", 0, histogram(values)) for i in range(20)]
    assert find_outliers("T1", [*seen, ScanPreview("D", 0, histogram(values * 1.5))]) == []
    found = find_outliers("T1", [*seen, ScanPreview("D", 0, histogram(values * 2.5))])
    assert [o.subject for o in found] == ["D"]


def test_among_few_scans_none_is_an_outlier() -> None:
    few = changed(scans(7), 3, 1000.0)
    assert find_outliers("T1", few) == []
    faulty = [ScanPreview(f"X{i}", 0, None, "truncated") for i in range(10)]
    assert find_outliers("T1", [*few, *faulty]) == []


def test_each_panel_has_a_line_per_subject_and_the_mean_of_each_label() -> None:
    seen = [*changed(scans(), 7, 1000.0), ScanPreview("C-900", 0, None, "truncated")]
    seen.append(ScanPreview("C-901", None, scans(1)[0].view))
    figure = intensity_figure({"T1": seen, "FA": scans(10, 0.001)})
    first, second = figure.axes
    assert first.get_title(loc="left") == "T1 (41 subjects)"
    thin = [c for c in first.collections if isinstance(c, LineCollection)]
    assert sorted(len(c.get_segments()) for c in thin) == [1, 20, 20]
    means = {line.get_color(): line for line in first.get_lines()}
    assert means.keys() == {style.LABEL_COLOURS[0], style.LABEL_COLOURS[1]}
    assert len({line.get_linestyle() for line in means.values()}) == 2
    for line in means.values():
        x, density = line.get_data()
        # up to 1 % lies outside the axis at each end
        assert np.sum(density) * (x[1] - x[0]) == pytest.approx(1, abs=0.03)
    # the outlier is listed; it neither stretches the axis nor flattens the mean
    assert [t.get_text() for t in first.texts] == ["unusual:\n007"]
    assert first.get_xlim()[1] < 1000
    assert second.get_xlim()[1] < 1
    assert not second.texts


def test_subjects_whose_label_each_split_fits_are_drawn_together() -> None:
    seen = [ScanPreview(s.subject, "fitted", s.view) for s in scans(10)]
    figure = intensity_figure({"T1": seen})
    (axes,) = figure.axes
    assert [line.get_color() for line in axes.get_lines()] == [style.LABEL_COLOURS["fitted"]]
    (thin,) = (c for c in axes.collections if isinstance(c, LineCollection))
    assert len(thin.get_segments()) == 10
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["labelled by each split"]


def test_subjects_whose_label_is_hidden_have_one_mean_and_one_colour() -> None:
    figure = intensity_figure({"T1": [ScanPreview(s.subject, "hidden", s.view) for s in scans(10)]})
    (axes,) = figure.axes
    (mean,) = axes.get_lines()
    assert mean.get_color() == style.LABEL_COLOURS["hidden"]
    (thin,) = (c for c in axes.collections if isinstance(c, LineCollection))
    assert len(thin.get_segments()) == 10
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [
        "labels are hidden until the test set has been opened"
    ]


def test_a_modality_without_a_sound_scan_has_an_empty_panel() -> None:
    figure = intensity_figure({"T1": [ScanPreview("A", 1, None, "truncated")], "FA": scans(3)})
    assert figure.axes[0].get_title(loc="left") == "T1 (0 subjects)"
    assert not figure.axes[0].collections


def test_eleven_modalities_of_the_public_cohort_are_named_beside_each_other() -> None:
    many = scans(262)
    for number in range(0, 60, 10):
        many = changed(many, number, 100.0)
    figure = intensity_figure(dict.fromkeys("abcdefghijk", many))
    figure.draw_without_rendering()
    assert len(figure.axes) == 12
    (named,) = figure.axes[0].texts
    assert named.get_text() == "unusual:\n000\n010\n020\n030\nand 2 more"
    box, panel = named.get_window_extent(), figure.axes[0].get_window_extent()
    assert panel.x0 < box.x0 and box.x1 < panel.x1 and panel.y0 < box.y0


def test_densities_before_and_after_matching_are_drawn_of_both_scans() -> None:
    random = np.random.default_rng(0)
    before = {"A": random.normal(100, 10, 5000), "B": random.normal(900, 90, 5000)}
    after = {name: (v - v.mean()) / (6 * v.std()) + 0.5 for name, v in before.items()}
    left, right = matching_figure(before, after).axes
    peaks = [
        [line.get_xdata()[np.argmax(line.get_ydata())] for line in panel.get_lines()]
        for panel in (left, right)
    ]
    assert peaks[0] == pytest.approx([100, 900], rel=0.15)
    assert abs(peaks[1][0] - peaks[1][1]) < 0.1
