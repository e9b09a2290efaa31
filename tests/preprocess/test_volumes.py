from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import SimpleITK

from mgmt_ray.base import MgmtError
from mgmt_ray.cohort.check import BadScan
from mgmt_ray.cohort.subject import Subject
from mgmt_ray.preprocess.recipe import RecipeConfig, versions
from mgmt_ray.preprocess.spatial import ClippedTumour
from mgmt_ray.preprocess.volumes import make_versions, make_volumes

MakeSubject = Callable[..., Subject]


def array_of(path: object) -> np.ndarray:
    return SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path)))


def plain_original(
    subject: Subject, modality: str, recipe: RecipeConfig
) -> tuple[np.ndarray, np.ndarray]:
    """The original and its mask by the paper's steps in their order, whole and voxel by voxel."""
    scan = array_of(subject.scans[modality]).astype(float)
    mask = array_of(subject.mask) > 0
    (d0, d1), (h0, h1), (w0, w1) = recipe.window
    scan, mask = scan[d0:d1, h0:h1, w0:w1], mask[d0:d1, h0:h1, w0:w1]
    n = recipe.shrink
    small = np.zeros([size // n for size in scan.shape])
    tumour = np.zeros(small.shape, bool)
    for d, h, w in np.ndindex(small.shape):
        block = (slice(d * n, d * n + n), slice(h * n, h * n + n), slice(w * n, w * n + n))
        if mask[block].any():
            small[d, h, w] = scan[block][mask[block]].mean()
            tumour[d, h, w] = True
    missing = [want - have for want, have in zip(recipe.shape, small.shape, strict=True)]
    pads = [(number // 2, number - number // 2) for number in missing]
    small, tumour = np.pad(small, pads), np.pad(tumour, pads)
    scaled = (small - small.min()) / (small.max() - small.min())
    return np.where(tumour, scaled, 0), tumour


@pytest.mark.parametrize("lowest", [1, -500])
def test_the_original_is_that_of_a_plain_implementation(
    make_subject: MakeSubject, recipe: RecipeConfig, lowest: int
) -> None:
    scan = np.random.default_rng(0).integers(lowest, 2000, (24, 32, 28)).astype(np.int16)
    subject = make_subject(scan=scan)
    made, drawn = make_versions(subject, "T1", recipe, ["original"])
    expected, tumour = plain_original(subject, "T1", recipe)
    assert made.shape == (1, 10, 12, 14) and made.dtype == np.float16
    # float16 has 11 bits: half a step at 1 is 2.4e-4
    np.testing.assert_allclose(made[0], expected, atol=2.5e-4)
    assert (made[0][~tumour] == 0).all()
    assert drawn == [{"clipped_voxels": 0, "tumour_voxels": np.count_nonzero(tumour)}]


def test_the_papers_recipe_gives_the_papers_shape(make_subject: MakeSubject) -> None:
    recipe = RecipeConfig()
    mask = np.zeros((155, 240, 240), np.uint8)
    mask[60:95, 80:130, 60:100] = 4
    mask[0, 39, 44] = mask[139, 210, 207] = 1  # the window's first and last voxel
    subject = make_subject(mask=mask)
    made, drawn = make_versions(subject, "T1", recipe, versions(recipe))
    assert made.shape == (5, 70, 86, 86)
    assert all(volume.min() == 0 and volume.max() <= 1 for volume in made)
    original = made[0]
    assert original.max() == 1
    assert original[0, 0, 2] > 0 and original[69, 85, 83] > 0
    assert (original[:, :, :2] == 0).all() and (original[:, :, 84:] == 0).all()
    # the box's height range 80:130 begins in the middle of a block of the window 39:211
    assert drawn[0]["tumour_voxels"] == 18 * 26 * 20 + 2


def test_every_version_has_a_background_of_exactly_zero(
    make_subject: MakeSubject, recipe: RecipeConfig
) -> None:
    made, drawn = make_versions(make_subject(), "T1", recipe, versions(recipe))
    for volume, parameters in zip(made, drawn, strict=True):
        # scans are positive, and so are tumour voxels but those that the noise took to 0
        filled = np.count_nonzero(volume)
        assert filled <= parameters["tumour_voxels"]
        assert filled >= 0.9 * parameters["tumour_voxels"]
        assert volume.max() <= 1


def test_versions_differ_from_each_other(make_subject: MakeSubject, recipe: RecipeConfig) -> None:
    recipe = recipe.model_copy(update={"rounds": 2})
    made, _ = make_versions(make_subject(), "T1", recipe, versions(recipe))
    names = versions(recipe)
    equal = {
        (names[a], names[b])
        for a in range(len(names))
        for b in range(a)
        if np.array_equal(made[a], made[b])
    }
    assert equal == {("flip-2", "flip")}


def test_modalities_share_the_movement_but_not_the_noise(
    make_subject: MakeSubject, recipe: RecipeConfig
) -> None:
    scan = np.random.default_rng(0).integers(1, 2000, (24, 32, 28)).astype(np.int16)
    subject = make_subject(modalities=("T1", "FLAIR"), scan=scan)
    names = versions(recipe)
    made = make_volumes(subject, {"T1": names, "FLAIR": names}, recipe)
    same = [np.array_equal(a, b) for a, b in zip(made["T1"][0], made["FLAIR"][0], strict=True)]
    assert dict(zip(names, same, strict=True)) == {
        "original": True,
        "flip": True,
        "rotate": True,
        "noise": False,
        "deform": True,
    }
    assert made["T1"][1] == made["FLAIR"][1]


def test_a_version_does_not_depend_on_what_else_is_made(
    make_subject: MakeSubject, recipe: RecipeConfig
) -> None:
    subject = make_subject(modalities=("T1", "FLAIR"))
    names = versions(recipe)
    together = make_volumes(subject, {"T1": names, "FLAIR": names}, recipe)["FLAIR"]
    for i, name in enumerate(names):
        made, drawn = make_versions(subject, "FLAIR", recipe, [name])
        np.testing.assert_array_equal(made[0], together[0][i])
        assert drawn[0] == together[1][i]


def test_subjects_and_seeds_have_draws_of_their_own(
    make_subject: MakeSubject, recipe: RecipeConfig
) -> None:
    other_seed = recipe.model_copy(update={"seed": 1})
    angles = {
        make_versions(subject, "T1", its_recipe, ["rotate"])[1][0]["angle_degrees"]
        for subject in (make_subject("S1"), make_subject("S2"))
        for its_recipe in (recipe, other_seed)
    }
    assert len(angles) == 4


def test_a_clipped_tumour_is_refused_unless_the_recipe_allows_it(
    make_subject: MakeSubject, recipe: RecipeConfig
) -> None:
    mask = np.zeros((24, 32, 28), np.uint8)
    mask[8:12, 10:14, 24:28] = 1
    subject = make_subject("S9", mask=mask)
    with pytest.raises(ClippedTumour, match="subject S9: 32 of its 64"):
        make_versions(subject, "T1", recipe, ["original"])
    allowed = recipe.model_copy(update={"allow_clipping": True})
    made, drawn = make_versions(subject, "T1", allowed, ["original"])
    assert drawn[0] == {"clipped_voxels": 32, "tumour_voxels": 4}
    np.testing.assert_allclose(made[0], plain_original(subject, "T1", recipe)[0], atol=2.5e-4)


def test_a_tumour_wholly_outside_the_window_is_always_refused(
    make_subject: MakeSubject, recipe: RecipeConfig
) -> None:
    mask = np.zeros((24, 32, 28), np.uint8)
    mask[8, 0, 0] = mask[8, 31, 27] = 1  # its box covers the window, its voxels do not
    allowed = recipe.model_copy(update={"allow_clipping": True})
    with pytest.raises(ClippedTumour, match="2 of its 2"):
        make_versions(make_subject(mask=mask), "T1", allowed, ["original"])


def test_a_tumour_moved_off_the_grid_is_refused(make_subject: MakeSubject) -> None:
    mask = np.zeros((8, 4, 40), np.uint8)
    mask[4, 2, 0:3] = 1
    flat = RecipeConfig(window=((0, 8), (0, 4), (0, 40)), shrink=1, shape=(8, 4, 40))
    with pytest.raises(MgmtError, match="version rotate moves the whole tumour off the grid"):
        make_versions(make_subject(mask=mask), "T1", flat, ["rotate"])


@pytest.mark.parametrize(
    ("mask", "scan", "message"),
    [
        (np.zeros((24, 32, 28)), None, "subject S1: the tumour mask .* is empty"),
        (np.ones((10, 10, 10)), None, "subject S1: .* reaches beyond the scan of 10×10×10"),
        (None, np.eye(32, 28, dtype=np.int16)[None], r"S1/T1.nii.gz: is not on the grid"),
        (None, np.indices((24, 32, 28), np.int16)[0] // 23, "subject S1, T1: every voxel is 0"),
    ],
)
def test_unusable_scans_are_refused_and_named(
    make_subject: MakeSubject,
    recipe: RecipeConfig,
    mask: np.ndarray | None,
    scan: np.ndarray | None,
    message: str,
) -> None:
    subject = make_subject(mask=mask, scan=scan)
    with pytest.raises(MgmtError, match=message):
        make_versions(subject, "T1", recipe, ["original"])


def test_a_truncated_scan_is_refused(make_subject: MakeSubject, recipe: RecipeConfig) -> None:
    subject = make_subject()
    path = subject.scans["T1"]
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(BadScan, match="truncated"):
        make_versions(subject, "T1", recipe, ["original"])
