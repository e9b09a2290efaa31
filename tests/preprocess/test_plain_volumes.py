"""Every voxel of every version against an implementation that shares no step with ours."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from mgmt_ray.base import stream
from mgmt_ray.cohort.subject import Subject
from mgmt_ray.preprocess.recipe import RecipeConfig, versions
from mgmt_ray.preprocess.volumes import make_volumes
from tests.preprocess.conftest import MakeSubject
from tests.reference.plain_volumes import plain_version

SCAN = (24, 32, 28)

FLOAT16 = 2.5e-4
"""Half a step of float16 just below 1 is 2.44e-4; the rest is for float32 before it."""


def assert_same_as_plain(subject: Subject, recipe: RecipeConfig) -> None:
    names = versions(recipe)
    made = make_volumes(subject, dict.fromkeys(subject.scans, names), recipe)
    for modality, (volumes, drawn) in made.items():
        assert volumes.shape == (len(names), *recipe.shape) and volumes.dtype == np.float16
        for name, volume, parameters in zip(names, volumes, drawn, strict=True):
            plain, tumour = plain_version(subject, modality, name, recipe)
            about = f"{subject.id} {modality} {name}"
            np.testing.assert_allclose(volume, plain, rtol=0, atol=FLOAT16, err_msg=about)
            assert (volume[~tumour] == 0).all(), about
            assert parameters["tumour_voxels"] == np.count_nonzero(tumour) > 20, about


def random_blobs(name: str) -> np.ndarray:
    """A ragged tumour of several pieces, some of which touch the window's borders."""
    smooth = ndimage.gaussian_filter(stream(0, "test blobs", name).standard_normal(SCAN), 2)
    blobs = np.zeros(SCAN, bool)
    window = (slice(2, 22), slice(4, 28), slice(2, 26))
    blobs[window] = smooth[window] > np.quantile(smooth[window], 0.85)
    return blobs


@pytest.mark.parametrize("name", ["A", "B", "C", "D"])
def test_all_versions_of_ragged_tumours_are_those_of_the_plain_implementation(
    make_subject: MakeSubject, recipe: RecipeConfig, name: str
) -> None:
    subject = make_subject(name, ("T1", "FLAIR"), mask=random_blobs(name))
    assert_same_as_plain(subject, recipe.model_copy(update={"rounds": 2}))


@pytest.mark.parametrize("lowest", [-1.0, -0.25])
def test_all_versions_of_a_map_with_negative_values_are_those_of_the_plain_implementation(
    make_subject: MakeSubject, recipe: RecipeConfig, lowest: float
) -> None:
    scan = stream(0, "test map", str(lowest)).uniform(lowest, 0.75, SCAN).astype(np.float32)
    assert_same_as_plain(make_subject(scan=scan), recipe)


@pytest.mark.parametrize("shrink", [1, 3])
def test_other_shrinking_and_odd_padding_are_those_of_the_plain_implementation(
    make_subject: MakeSubject, recipe: RecipeConfig, shrink: int
) -> None:
    window = ((2, 23), (4, 28), (2, 26))
    shape = (21 // shrink + 2, 24 // shrink + 1, 24 // shrink + 3)
    other = {"window": window, "shrink": shrink, "shape": shape, "deform_points": 4, "seed": 5}
    assert_same_as_plain(make_subject(), recipe.model_copy(update=other))


def test_all_versions_by_the_papers_recipe_are_those_of_the_plain_implementation(
    make_subject: MakeSubject,
) -> None:
    shape = (155, 240, 240)
    offsets = np.ogrid[tuple(slice(n) for n in shape)]
    # an ellipsoid of 60 × 44 × 36 voxels, off the centre and begun within a block
    squares = [
        ((offset - at) / radius) ** 2
        for offset, at, radius in zip(offsets, (81, 149, 90), (30, 22, 18), strict=True)
    ]
    scan = stream(0, "test scan").integers(1, 2000, shape, dtype=np.int16)
    subject = make_subject(mask=sum(squares) <= 1, scan=scan)
    assert_same_as_plain(subject, RecipeConfig())
