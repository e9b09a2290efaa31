from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK

from mgmt_ray.base import MgmtError
from mgmt_ray.cohort.problem import BadScan
from mgmt_ray.cohort.subject import Subject
from mgmt_ray.preprocess.recipe import RecipeConfig, versions
from mgmt_ray.preprocess.volumes import make_versions, make_volumes, scale_to_unit
from tests.preprocess.conftest import MakeSubject
from tests.reference.plain_volumes import plain_original


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
    drawn = [dict(zip(names, made[m][1], strict=True)) for m in ("T1", "FLAIR")]
    differing = {name for name in names if drawn[0][name] != drawn[1][name]}
    assert differing == {"noise"}  # by the seed of each modality's own noise


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
    with pytest.raises(BadScan, match=r"S9/mask\.nii\.gz: has 32 of its 64"):
        make_versions(subject, "T1", recipe, ["original"])
    allowed = recipe.model_copy(update={"allow_clipping": True})
    made, drawn = make_versions(subject, "T1", allowed, ["original"])
    assert drawn[0] == {"clipped_voxels": 32, "tumour_voxels": 4}
    np.testing.assert_allclose(made[0], plain_original(subject, "T1", recipe)[0], atol=2.5e-4)


def test_a_tumour_moved_off_the_grid_is_refused(make_subject: MakeSubject) -> None:
    mask = np.zeros((8, 4, 40), np.uint8)
    mask[4, 2, 0:3] = 1
    flat = RecipeConfig(window=((0, 8), (0, 4), (0, 40)), shrink=1, shape=(8, 4, 40))
    with pytest.raises(MgmtError, match="version rotate moves the whole tumour off the grid"):
        make_versions(make_subject(mask=mask), "T1", flat, ["rotate"])


@pytest.mark.parametrize(
    ("mask", "scan", "message"),
    [
        (np.zeros((24, 32, 28)), None, "S1/mask.nii.gz: the mask marks no tumour"),
        (np.ones((10, 10, 10)), None, "S1/mask.nii.gz: .* reaches beyond the scan of 10×10×10"),
        (None, np.eye(32, 28, dtype=np.int16)[None], r"S1/T1.nii.gz: is not on the grid"),
        (
            None,
            np.indices((24, 32, 28), np.int16)[0] // 23,
            "S1/T1.nii.gz: every tumour voxel is 0",
        ),
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


def with_margin(subject: Subject, margin: tuple[int, int, int], folder: Path) -> Subject:
    """The subject with more (or fewer) planes before its T1's first, at the same position."""
    image = SimpleITK.ReadImage(str(subject.scans["T1"]))
    voxels = SimpleITK.GetArrayFromImage(image)
    voxels = voxels[tuple(slice(max(0, -m), None) for m in margin)]
    voxels = np.pad(voxels, [(max(0, m), 0) for m in margin], constant_values=999)
    moved = SimpleITK.GetImageFromArray(voxels)
    moved.SetOrigin([-float(m) for m in reversed(margin)])
    path = folder / "other_grid.nii.gz"
    SimpleITK.WriteImage(moved, str(path))
    return replace(subject, scans={"T1": path})


def test_a_scan_on_another_grid_is_refused_or_resampled_to_the_same_volumes(
    make_subject: MakeSubject, recipe: RecipeConfig, tmp_path: Path
) -> None:
    subject = make_subject()
    elsewhere = with_margin(subject, (2, 3, 1), tmp_path)
    with pytest.raises(BadScan, match="is not on the grid of its mask") as error:
        make_versions(elsewhere, "T1", recipe, ["original"])
    assert error.value.kind == "other_grid"
    resampling = recipe.model_copy(update={"resample": True})
    names = versions(recipe)
    made, drawn = make_versions(elsewhere, "T1", resampling, names)
    expected, drawn_then = make_versions(subject, "T1", recipe, names)
    np.testing.assert_array_equal(made, expected)
    assert drawn == drawn_then


def test_where_a_resampled_scan_does_not_reach_a_volume_is_zero(
    make_subject: MakeSubject, recipe: RecipeConfig, tmp_path: Path
) -> None:
    # the tumour spans depths 5 to 17 of the scan, which begins at 10, plane 4 of the volume
    elsewhere = with_margin(make_subject(), (-10, 0, 0), tmp_path)
    resampling = recipe.model_copy(update={"resample": True})
    (volume,), (drawn,) = make_versions(elsewhere, "T1", resampling, ["original"])
    assert (volume[:4] == 0).all() and (volume[4:8].max(axis=(1, 2)) > 0).all()
    assert np.count_nonzero(volume) < drawn["tumour_voxels"]


def test_a_recorded_seed_draws_the_same_again(
    make_subject: MakeSubject, recipe: RecipeConfig
) -> None:
    subject = make_subject()
    names = ["original", "flip", "rotate", "noise", "deform"]
    drawn = dict(zip(names, make_versions(subject, "T1", recipe, names)[1], strict=True))
    assert "seed" not in drawn["original"] and "seed" not in drawn["flip"]
    angle = np.random.default_rng(int(drawn["rotate"]["seed"])).uniform(-180, 180)
    assert angle == drawn["rotate"]["angle_degrees"]
    assert len({drawn[name]["seed"] for name in ("rotate", "noise", "deform")}) == 3


T1 = Path("S1_T1.nii.gz")
MASK = np.array([[[True, True, False]]])


def volume(*values: float) -> np.ndarray:
    return np.array([[values]], np.float32)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((2, 8, 0), (0.25, 1, 0)),  # a positive volume is divided by its maximum
        ((-4, 12, 0), (0, 1, 0)),  # the background stays 0
        ((-4, -1, 0), (0, 0.75, 0)),  # and counts for the range of a negative map
    ],
)
def test_a_volume_is_scaled_by_its_range(
    values: tuple[float, ...], expected: tuple[float, ...]
) -> None:
    np.testing.assert_array_equal(scale_to_unit(volume(*values), MASK, T1), volume(*expected))


@pytest.mark.parametrize(
    ("values", "kind"),
    [((0, 0, 0), "constant"), ((1, np.nan, 0), "not_finite"), ((1, np.inf, 0), "not_finite")],
)
def test_a_volume_without_a_range_is_refused_by_name(values: tuple[float, ...], kind: str) -> None:
    with pytest.raises(BadScan, match="S1_T1") as error:
        scale_to_unit(volume(*values), MASK, T1)
    assert error.value.kind == kind
