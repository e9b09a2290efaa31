from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mgmt_ray.base import MgmtError, parse, stream
from mgmt_ray.cohort.cohort import Cohort
from mgmt_ray.cohort.problem import BadScan
from mgmt_ray.preprocess.axial_slices import (
    SliceSource,
    SubjectSlices,
    cut_slices,
    make_slices,
    slice_sources,
)
from mgmt_ray.preprocess.histogram_matching import learn_standard, normalise_slices
from mgmt_ray.preprocess.recipe import SliceRecipe
from mgmt_ray.preprocess.slice_geometry import paste_onto_scan, slice_window, sum_blocks
from tests.preprocess.conftest import MakeSubject, ball, write_scan
from tests.reference.plain_slices import plain_slices

SHAPE = (10, 24, 20)
SOURCE = SliceSource("S7", (Path("S7_FLAIR.nii.gz"),), Path("S7_mask.nii.gz"))
RECIPE = SliceRecipe(shape=(12, 10), least_tumour_voxels=4, least_brain_voxels=10)


def brain(centre: tuple[float, float, float] = (4, 11, 9)) -> np.ndarray:
    """A ball of noise about 100 in a background of 0."""
    draws = stream(0, "test brain", *map(str, centre))
    inside = ball(SHAPE, centre, 8)
    return np.where(inside, draws.normal(100, 20, SHAPE), 0).astype(np.float32)


def tumour() -> np.ndarray:
    return ball(SHAPE, (4, 13, 8), 3.5)


def cut(image: np.ndarray, mask: np.ndarray | None, **changes: object) -> SubjectSlices:
    recipe = RECIPE.model_copy(update=changes)
    return cut_slices(SOURCE, [image], mask, (5.0, 1.0, 0.9), recipe)


@pytest.mark.parametrize("shrink", [1, 2, 3])
@pytest.mark.parametrize("centre", [(4, 11, 9), (5, 9, 12), (4, 15, 7)])
def test_slices_are_those_of_the_plain_implementation(
    shrink: int, centre: tuple[float, float, float]
) -> None:
    shape = (32 // shrink, 26 // shrink + 1)
    recipe = RECIPE.model_copy(update={"shrink": shrink, "shape": shape})
    made = cut_slices(SOURCE, [brain(centre)], tumour(), (5.0, 1.0, 0.9), recipe)
    images, masks, depths = plain_slices(brain(centre), tumour(), recipe)
    # rounded once to float32, numbers of up to 200
    np.testing.assert_allclose(made.images, images, rtol=1e-7)
    np.testing.assert_array_equal(made.images == 0, images == 0)
    np.testing.assert_array_equal(made.masks, masks)
    assert made.depths.tolist() == depths and made.masks.any(axis=(1, 2)).sum() >= 3
    assert not made.masks.any(axis=(1, 2)).all()
    assert (made.images.dtype, made.masks.dtype) == (np.float32, np.uint8)


def test_slices_hold_the_whole_brain_and_record_their_spacing() -> None:
    made = cut(brain(), tumour(), shrink=1, shape=(24, 22))
    assert len(made.images) > 3
    for image, depth in zip(made.images, made.depths, strict=True):
        plane = brain()[depth]
        np.testing.assert_array_equal(np.sort(image[image != 0]), np.sort(plane[plane != 0]))
    assert made.frame.spacing_mm == (5.0, 1.0, 0.9)
    coarse = cut(brain(), tumour()).frame
    assert coarse.spacing_mm == (5.0, 2.0, 1.8) and coarse.scan_spacing_mm == (5.0, 1.0, 0.9)


def test_a_brain_is_centred_wherever_it_lies_in_the_scan() -> None:
    centred = cut(brain(), tumour())
    moved = cut(np.roll(brain(), (2, 1), (1, 2)), np.roll(tumour(), (2, 1), (1, 2)))
    np.testing.assert_array_equal(moved.images, centred.images)
    np.testing.assert_array_equal(moved.masks, centred.masks)
    assert (moved.frame.top, moved.frame.left) == (centred.frame.top + 2, centred.frame.left + 1)


def test_the_brains_rim_is_not_darkened_and_integers_do_not_overflow() -> None:
    image = np.where(ball(SHAPE, (4, 11, 9), 8), 30_000, 0).astype(np.int16)
    made = cut(image, tumour())
    assert set(np.unique(made.images)) == {0, 30_000}


def test_what_the_slices_cover_is_the_same_in_all_depths() -> None:
    image = np.zeros(SHAPE, np.float32)
    image[2:6, 4:20, 4:16] = 1
    image[3, 4, 4:16] = 0
    mask = np.zeros(SHAPE, bool)
    mask[2:5, 8:12, 8:12] = True
    made = cut(image, mask)
    assert (made.masks[:3] == made.masks[0]).all() and made.depths.tolist() == [2, 3, 4, 5]
    assert made.masks[0].any() and not made.masks[3].any()


def test_all_slices_with_enough_brain_are_kept() -> None:
    made = cut(brain(), None, most_slices=1)
    area = [np.count_nonzero(image) for image in made.images]
    assert min(area) >= 10 and not made.annotated and not made.masks.any()
    fewer = cut(brain(), None, least_brain_voxels=50)
    assert 1 < len(fewer.depths) < len(made.depths)
    for mask in (None, tumour()):
        with pytest.raises(
            BadScan, match=r"500 voxels of brain .*lower slices\.least_brain_voxels"
        ):
            cut(brain(), mask, least_brain_voxels=500)


def test_a_mask_changes_neither_images_nor_what_they_are_normalised_to() -> None:
    given, bare = cut(brain(), tumour()), cut(brain(), None)
    assert given.annotated and given.masks.any() and not bare.annotated
    assert not given.masks.any(axis=(1, 2)).all(), "no slices without tumour"
    np.testing.assert_array_equal(given.depths, bare.depths)
    standard = learn_standard([("A", cut(brain((5, 9, 12)), None).images)])
    normal = [normalise_slices(made.images, standard, "S7") for made in (given, bare)]
    np.testing.assert_array_equal(*normal)


def test_slices_with_any_tumour_are_kept_however_little_brain_they_show() -> None:
    mask = tumour()
    mask[9, 10:14, 8:10] = True
    image = brain()
    image[9] = 0
    image[9, 10:14, 8:10] = 5
    made = cut(image, mask, least_brain_voxels=30)
    assert made.depths[-1] == 9 and 0 < np.count_nonzero(made.images[-1]) < 30
    coarse = paste_onto_scan(made.masks, made.depths, made.frame)
    assert coarse[9].any(), "a given mask is whole in the slices"
    bare = cut(image, None, least_brain_voxels=30)
    assert made.depths.tolist() == [*bare.depths, 9] and bare.of_brain.all()
    assert made.of_brain.tolist() == [True] * len(bare.depths) + [False]
    standard = learn_standard([("A", bare.images)])
    normal = normalise_slices(made.images, standard, "S7", made.of_brain)
    np.testing.assert_array_equal(
        normal[:-1], normalise_slices(bare.images, standard, "S7", bare.of_brain)
    )
    assert (normal[-1] != 0).sum() == (made.images[-1] != 0).sum()
    assert (normalise_slices(made.images, standard, "S7")[:-1] != normal[:-1]).any()


def test_a_tumour_that_is_too_small_is_reported_when_slices_are_cut() -> None:
    most = int(cut(brain(), tumour()).masks.sum(axis=(1, 2)).max())
    assert cut(brain(), tumour(), least_tumour_voxels=most).annotated
    with pytest.raises(BadScan, match=f"S7 has {most + 1} voxels of tumour") as error:
        cut(brain(), tumour(), least_tumour_voxels=most + 1)
    assert error.value.kind == "small_tumour" and "S7_mask.nii.gz" in str(error.value)


@pytest.mark.parametrize("clipped", [np.s_[3, 0:2, 3], np.s_[0, 0, 0]], ids=["", "not chosen"])
def test_a_tumour_that_slices_would_cut_is_refused_with_its_subject(clipped: tuple) -> None:
    mask = tumour()
    mask[clipped] = True
    with pytest.raises(BadScan) as error:
        cut(brain(), mask, shape=(8, 10))
    assert error.value.kind == "clipped"
    number = int(np.sum(mask & ~tumour()))
    for part in (f"{number} of the {mask.sum()} tumour", "S7", "8×10", "slices.shape"):
        assert part in str(error.value)


def test_a_brain_that_slices_would_cut_is_refused_without_a_mask() -> None:
    image = np.zeros(SHAPE, np.float32)
    image[:, 2:22, 4:16] = 5
    image[4, 22, 4:16] = 5  # 12 of 2412 voxels, 0.5 %, below the 20 rows that slices hold
    assert not cut(image, None, shape=(10, 10)).annotated
    image[5:7, 22, 4:16] = 5
    with pytest.raises(BadScan, match=r"1\.5% of the 2436 voxels of subject S7") as error:
        cut(image, None, shape=(10, 10))
    assert error.value.kind == "clipped" and "S7_FLAIR.nii.gz" in str(error.value)
    assert (
        "10×10 voxels of 2×2 each. Look at it in a viewer, and fix it, or enlarge slices.shape"
        in str(error.value)
    )
    assert cut(image, tumour(), shape=(10, 10)).annotated


def test_empty_scans_and_masks_are_refused_with_their_subject() -> None:
    with pytest.raises(BadScan, match="S7 is 0 everywhere"):
        cut(np.zeros(SHAPE, np.float32), tumour())
    with pytest.raises(BadScan, match="S7 marks no tumour"):
        cut(brain(), np.zeros(SHAPE, bool))


@settings(deadline=None)
@given(
    height=st.integers(3, 20), width=st.integers(3, 20), shrink=st.integers(1, 3), data=st.data()
)
def test_slices_put_back_onto_their_scan_lie_where_they_were(
    height: int, width: int, shrink: int, data: st.DataObject
) -> None:
    at = tuple(data.draw(st.integers(0, n - 1)) for n in SHAPE)
    image = np.zeros(SHAPE, np.float32)
    image[at] = 5
    image[:, 3:20, 2:19] = 7
    # a mask, since brain beyond the slices is refused without one; it fills their window
    mask = np.zeros(SHAPE, bool)
    window = [
        slice(max(0, (low + high - size * shrink) // 2), max(0, (low + high + size * shrink) // 2))
        for low, high, size in (
            (min(3, at[1]), max(20, at[1] + 1), height),
            (min(2, at[2]), max(19, at[2] + 1), width),
        )
    ]
    mask[:, window[0], window[1]] = True
    less = {"least_brain_voxels": 1, "least_tumour_voxels": 1}
    made = cut(image, mask, shape=(height, width), shrink=shrink, **less)
    back = paste_onto_scan(made.images, made.depths, made.frame)
    assert back.shape == SHAPE
    if shrink == 1:
        np.testing.assert_array_equal(back[back != 0], image[back != 0])
    if height * shrink >= SHAPE[1] and width * shrink >= SHAPE[2]:
        assert (back[image != 0] != 0).all()
        assert abs(back - image)[image == 7].max() <= 2
    assert set(np.unique(back)) <= set(np.unique(made.images)) | {0}


def test_a_mask_put_back_covers_the_tumour_to_within_a_voxel() -> None:
    made = cut(brain(), tumour(), least_tumour_voxels=1)
    back = paste_onto_scan(made.masks, made.depths, made.frame).astype(bool)
    near = np.zeros(SHAPE, bool)
    for row, column in np.ndindex(3, 3):
        near |= np.roll(tumour(), (row - 1, column - 1), (1, 2))
    assert back.dtype == bool and not (back & ~near).any()
    # halves count as tumour, so a radius of 3.5 may grow by half a voxel
    assert 1 <= back.sum() / tumour().sum() < (4 / 3.5) ** 2


def test_modalities_of_an_input_are_sliced_at_the_same_planes_and_positions() -> None:
    scans = [brain((1, 11, 9)), brain((8, 12, 11))]
    source = SliceSource("S7", (Path("S7_FLAIR.nii.gz"), Path("S7_T1GD.nii.gz")), SOURCE.mask)
    recipe = RECIPE.model_copy(update={"shrink": 2})
    made = cut_slices(source, scans, tumour(), (5.0, 1.0, 0.9), recipe)
    assert made.images.shape == (len(made.depths), 2, *RECIPE.shape)
    alone = [cut(scan, tumour(), shrink=2) for scan in scans]
    of_brain = [{*own.depths[own.of_brain]} for own in alone]
    assert {*made.depths[made.of_brain]} == set.intersection(*of_brain) != of_brain[0]
    for channel, scan in enumerate(scans):
        here, window = made.images[:, channel], slice_window(scan, made.frame, recipe.shape)
        blocks = sum_blocks(window, 2) / np.maximum(sum_blocks(window != 0, 2), 1)
        # rounded once to float32
        np.testing.assert_allclose(here, blocks[made.depths], rtol=1e-6)
    np.testing.assert_array_equal(made.brain, (made.images != 0).any(axis=1))


def test_modalities_without_a_common_plane_or_grid_are_refused(
    make_subject: MakeSubject,
) -> None:
    below, above = brain(), brain()
    below[5:], above[:5] = 0, 0
    source = SliceSource("S7", (Path("S7_FLAIR.nii.gz"), Path("S7_T1GD.nii.gz")), None)
    with pytest.raises(BadScan, match=r"shows brain both here and in S7_T1GD\.nii\.gz"):
        cut_slices(source, [below, above], None, (5.0, 1.0, 0.9), WHOLE)
    (pair,) = slice_sources(Cohort((make_subject("S1", ("FLAIR", "T1")),)), "T1", "FLAIR")
    recipe = SliceRecipe(shape=(18, 16), least_tumour_voxels=3, least_brain_voxels=20)
    assert make_slices(pair, recipe).images.shape[1] == 2
    write_scan(pair.scans[1], np.pad(np.ones((24, 30, 24), np.int16), ((0, 0), (1, 1), (1, 1))))
    bare = replace(pair, mask=None)
    with pytest.raises(BadScan, match=r"not on the grid of the scan .*T1.*: size"):
        make_slices(bare, recipe)
    resampled = make_slices(bare, recipe.model_copy(update={"resample": True, "shape": (32, 32)}))
    assert resampled.frame.scan_shape == (24, 32, 28)


def test_files_are_read_and_their_grids_compared(make_subject: MakeSubject, tmp_path: Path) -> None:
    cohort = Cohort((make_subject("S1", ("FLAIR", "T1")), make_subject("S2", ("T1",))))
    (source,) = slice_sources(cohort, "FLAIR")
    recipe = SliceRecipe(shape=(18, 16), least_tumour_voxels=3, least_brain_voxels=20)
    made = make_slices(source, recipe)
    assert made.id == "S1" and made.annotated and len(made.images) > 5
    assert made.frame.scan_shape == (24, 32, 28)
    (bare,) = slice_sources(cohort, "FLAIR", masks=False)
    assert bare.mask is None and not make_slices(bare, recipe).annotated
    write_scan(source.scans[0], np.pad(np.ones((24, 30, 24), np.int16), ((0, 0), (1, 1), (1, 1))))
    with pytest.raises(BadScan, match="not on the grid") as error:
        make_slices(source, recipe)
    assert "recipe.resample" in str(error.value)
    resampled = make_slices(source, recipe.model_copy(update={"resample": True}))
    assert resampled.frame.scan_shape == (24, 32, 28) and set(np.unique(resampled.images)) == {0, 1}


def test_the_default_recipe_is_the_papers_and_invalid_ones_are_refused() -> None:
    recipe = SliceRecipe()
    assert (recipe.shape, recipe.shrink, recipe.most_slices) == ((128, 128), 2, None)
    with pytest.raises(MgmtError, match="least_tumor_voxels: unknown key"):
        parse(SliceRecipe, {"least_tumor_voxels": 3}, "study.yaml")
    with pytest.raises(MgmtError, match="shape"):
        parse(SliceRecipe, {"shape": [0, 128]}, "study.yaml")


def brain_in_air(air: float = 0.0) -> np.ndarray:
    """A brain that touches the border of a tight box, and fills its lowest plane."""
    brain = ball((12, 40, 40), (0, 19.5, 19.5), 20)
    values = np.random.default_rng(0).uniform(50, 100, brain.shape)
    return np.where(brain, values, air).astype(np.float32)


WHOLE = SliceRecipe(shape=(40, 40), shrink=1, least_brain_voxels=20)
BARE = SliceSource("S7", (Path("S7_FLAIR.nii.gz"),), None)


@pytest.mark.parametrize("air", [-1024.0, -1.0, 0.5, 120.25])
def test_a_background_that_is_not_0_is_a_problem_that_names_it(air: float) -> None:
    spacing = (5.0, 1.0, 1.0)
    sound = cut_slices(BARE, [brain_in_air()], None, spacing, WHOLE)
    assert np.count_nonzero(sound.images) == np.count_nonzero(brain_in_air()[sound.depths])
    with pytest.raises(BadScan) as error:
        cut_slices(BARE, [brain_in_air(air)], None, spacing, WHOLE)
    assert error.value.kind == "background"
    assert error.value.found == f"its background is {air:g}, not 0"
    assert f"set cohort.background: {air:g}" in error.value.setting


def test_a_background_of_noise_is_a_problem() -> None:
    image = brain_in_air()
    noise = np.random.default_rng(1).rayleigh(5, image.shape).astype(np.float32)
    with pytest.raises(BadScan, match="at its border are not 0, and of many values"):
        cut_slices(BARE, [np.where(image > 0, image, noise)], None, (5.0, 1.0, 1.0), WHOLE)
