from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mgmt_ray.base import MgmtError, stream
from mgmt_ray.preprocess.histogram_matching import (
    PERCENTILES,
    StandardHistogram,
    learn_standard,
    normalise_slices,
    z_score,
)
from tests.reference.plain_histogram import (
    plain_landmarks,
    plain_matched,
    plain_standard,
    plain_z_scores,
)

ROUNDING = 1e-9
"""Both sides compute numbers near 1 in float64 from the same float32 values."""


def slices_of(name: str, num_slices: int = 3) -> np.ndarray:
    """Brain of two tissues on another scale for each name, in a background of 0."""
    draws = stream(0, "test histogram", name)
    shape = (num_slices, 12, 14)
    white, other = draws.normal(3, 0.4, shape), draws.gamma(6, 1, shape)
    tissue = np.where(draws.random(shape) < 0.4, white, other)
    images = (draws.uniform(50, 900) + draws.uniform(5, 80) * tissue).astype(np.float32)
    images[:, :2] = 0
    images[:, :, -3:] = 0
    return images


def standard_of(*names: str) -> StandardHistogram:
    return learn_standard((name, slices_of(name)) for name in names)


def test_standard_and_matched_images_are_those_of_the_plain_implementation() -> None:
    names = ("A", "B", "C")
    standard = standard_of(*names)
    plain = plain_standard([slices_of(name).ravel().tolist() for name in names])
    assert standard.landmarks[0] == pytest.approx(plain, abs=ROUNDING)
    for name in ("A", "new"):
        images = slices_of(name)
        flat = images.ravel().tolist()
        matched = standard.apply(images, images != 0, name).ravel()
        expected = plain_matched(flat, plain)
        np.testing.assert_allclose(matched, expected, rtol=0, atol=ROUNDING)
        scores = normalise_slices(images, standard, name).ravel()
        # rounded to float32, scores of up to 10
        np.testing.assert_allclose(scores, plain_z_scores(expected, flat), rtol=1e-6, atol=1e-6)


def test_an_images_own_landmarks_are_moved_to_those_of_the_standard() -> None:
    standard = standard_of("A", "B")
    images = slices_of("new")
    matched = standard.apply(images, images != 0, "new")
    landmarks = np.percentile(matched[images != 0], PERCENTILES)
    # a percentile between two voxels lies on their line, unless a landmark bends it between them:
    # by less than the gap between neighbours among 360 voxels
    np.testing.assert_allclose(landmarks, standard.landmarks[0], atol=0.02)
    assert matched[images != 0].min() < 0 and matched[images != 0].max() > 1, "none extrapolated"


def test_each_modality_of_an_input_is_scaled_by_its_own_standard() -> None:
    def pair(name: str) -> np.ndarray:
        return np.stack([slices_of(name), slices_of(f"{name} in another modality")], axis=1)

    both = learn_standard((name, pair(name)) for name in ("A", "B"))
    alone = [
        learn_standard((name, pair(name)[:, channel]) for name in ("A", "B")) for channel in (0, 1)
    ]
    assert both.landmarks == (alone[0].landmarks[0], alone[1].landmarks[0])
    assert both.landmarks[0] != both.landmarks[1] and both.learnt_from == ("A", "B")
    assert StandardHistogram.from_json(json.loads(json.dumps(both.to_json()))) == both
    of_brain = np.array([True, True, False])
    for channel, standard in enumerate(alone):
        np.testing.assert_array_equal(
            normalise_slices(pair("new"), both, "new", of_brain)[:, channel],
            normalise_slices(pair("new")[:, channel], standard, "new", of_brain),
        )


def test_subjects_on_any_linear_scale_become_the_same() -> None:
    standard = standard_of("A", "B", "C")
    images = slices_of("new")
    louder = np.where(images != 0, 3 * images + 500, 0).astype(np.float32)
    # float32 of intensities near 3000 in steps of 2.4e-4, whose deviation is above 15
    np.testing.assert_allclose(
        normalise_slices(louder, standard, "new"),
        normalise_slices(images, standard, "new"),
        atol=1e-4,
    )


def test_each_training_subject_weighs_the_same_however_many_slices_it_has() -> None:
    many = np.concatenate([slices_of("B", 3)] * 40)
    both = learn_standard([("A", slices_of("A")), ("B", many)]).landmarks[0]
    own_a, own_b = (np.array(plain_landmarks(i.ravel().tolist())) for i in (slices_of("A"), many))
    mean = [((x - x[0]) / (x[-1] - x[0])) for x in (own_a, own_b)]
    np.testing.assert_allclose(both, (mean[0] + mean[1]) / 2, atol=ROUNDING)


def test_the_standard_records_its_training_subjects_and_does_not_depend_on_their_order() -> None:
    standard = standard_of("B", "A")
    assert standard.learnt_from == ("A", "B")
    assert standard == standard_of("A", "B") != standard_of("A", "C")


def test_a_standard_survives_its_file_without_loss() -> None:
    standard = standard_of("A", "B")
    text = json.dumps(standard.to_json())
    assert StandardHistogram.from_json(json.loads(text)) == standard
    other = {**standard.to_json(), "percentiles": [1, 50, 99]}
    with pytest.raises(MgmtError, match="percentiles"):
        StandardHistogram.from_json(other)


@settings(deadline=None)
@given(
    seed=st.integers(0, 10_000),
    num_levels=st.integers(2, 12),
    evenness=st.floats(0.3, 30),
    offset=st.sampled_from([-6.5, 0.0, 1000.0]),
)
def test_matching_never_turns_the_order_of_intensities_even_of_few_grey_levels(
    seed: int, num_levels: int, evenness: float, offset: float
) -> None:
    draws = np.random.default_rng(seed)
    levels = draws.choice(num_levels, 150, p=draws.dirichlet([evenness] * num_levels)) + 1
    levels[:4], levels[-4:] = 1, num_levels  # neither end is rarer than 1 %
    images = np.append([0.0, 0.0], levels + offset).astype(np.float32)[None, None]
    matched = standard_of("A", "B").apply(images, images != 0, "few")[0, 0]
    assert np.isfinite(matched).all() and (matched[:2] == 0).all()
    rises = np.diff(matched[2:][np.argsort(levels, kind="stable")])
    # float64 rounding where two segments meet
    assert (rises >= -1e-12).all()
    assert (rises > 1e-6).any()


@settings(deadline=None)
@given(seed=st.integers(0, 10_000), num_valued=st.integers(100, 168))
def test_scores_have_mean_zero_and_standard_deviation_one_over_valued_voxels(
    seed: int, num_valued: int
) -> None:
    draws = np.random.default_rng(seed)
    images = np.zeros((1, 12, 14), np.float32)
    images.ravel()[draws.permutation(168)[:num_valued]] = draws.gamma(3, 100, num_valued) + 1
    scores = normalise_slices(images, standard_of("A", "B"), "S1")
    assert scores.dtype == np.float32
    assert (scores[images == 0] == 0).all()
    valued = scores[images != 0].astype(np.float64)
    # 168 roundings to float32 of numbers below 13
    assert valued.mean() == pytest.approx(0, abs=1e-6)
    assert valued.std() == pytest.approx(1, abs=1e-6)


def test_a_voxel_that_is_matched_to_zero_still_counts_as_valued() -> None:
    images = slices_of("A")
    standard = standard_of("A")
    # an intensity that lies exactly on the 1st percentile, which the standard has at 0
    low = np.percentile(images[images != 0].astype(np.float64), 1)
    images[images == images[images != 0].min()] = np.float32(low)
    standard = learn_standard([("A", images)])
    matched = standard.apply(images, images != 0, "A")
    at = np.unravel_index(np.argmin(np.where(images != 0, abs(matched), 1)), images.shape)
    scores = normalise_slices(images, standard, "A")
    assert abs(matched[at]) < 1e-3 and scores[at] < -1


def use_in_learning(images: np.ndarray) -> None:
    learn_standard([("fine", slices_of("A")), ("S7", images)])


def use_in_matching(images: np.ndarray) -> None:
    normalise_slices(images, standard_of("A"), "S7")


@pytest.mark.parametrize("use", [use_in_learning, use_in_matching])
@pytest.mark.parametrize(
    ("num_valued", "values", "found"),
    [
        (0, 1.0, "only 0 voxels differ from 0"),
        (99, 1.0, "only 99 voxels differ from 0; 100 are needed"),
        (100, 0.0, "99th percentile of its intensities are both 7"),
    ],
)
def test_tiny_and_constant_images_are_refused_with_their_subject(
    use: Callable[[np.ndarray], None], num_valued: int, values: float, found: str
) -> None:
    images = np.zeros((2, 10, 10), np.float32)
    images.ravel()[:num_valued] = 7 + values * np.arange(num_valued)
    with pytest.raises(MgmtError, match="subject S7") as error:
        use(images)
    assert found in str(error.value) and "cohort.exclude" in str(error.value)


def test_scores_of_one_intensity_are_refused() -> None:
    with pytest.raises(MgmtError, match="S7"):
        z_score(np.full((1, 4, 4), 3.0, np.float32), np.ones((1, 4, 4), bool), "S7")
