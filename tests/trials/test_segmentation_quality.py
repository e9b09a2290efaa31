"""Whole scans from files to their row: cut, segmented by brightness, measured."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
import torch

from mgmt_ray.base import stream
from mgmt_ray.nets.myronenko import Segmentation, SegmentationNetwork
from mgmt_ray.preprocess.axial_slices import SliceSource, SubjectSlices, make_slices
from mgmt_ray.preprocess.histogram_matching import learn_standard
from mgmt_ray.preprocess.recipe import SliceRecipe
from mgmt_ray.trials.segmentation_quality import (
    SegmentationExample,
    average_examples,
    measure_scan,
)
from mgmt_ray.trials.segmenter import Segmenter, segment_scan, select_tumour_slices

GRID = (12, 40, 36)
SPACING_MM = (5.0, 0.8, 0.9)
RECIPE = SliceRecipe(shape=(16, 16), shrink=2, least_tumour_voxels=4, least_brain_voxels=50)
CUBE = (slice(3, 9), slice(12, 24), slice(12, 24))


class Bright(SegmentationNetwork):
    """Tumour is what is brighter than twice the deviation above the mean."""

    def forward(
        self,
        images: torch.Tensor,
        noise: torch.Tensor | None = None,
        keep: torch.Tensor | None = None,
    ) -> Segmentation:
        return Segmentation(50 * (images - 1.5), None)


@dataclass
class Patient:
    """A brain with a cube of tumour in it, and what looks like tumour, on disk."""

    folder: Path

    def slices(self, bright: np.ndarray, mask: np.ndarray | None) -> SubjectSlices:
        image = np.zeros(GRID, np.float32)
        image[1:11, 4:36, 2:34] = stream(0, "test brain").normal(100, 1, (10, 32, 32))
        image[bright] += 100
        arrays = {"scan": image} if mask is None else {"scan": image, "mask": mask.astype(np.uint8)}
        for name, array in arrays.items():
            volume = SimpleITK.GetImageFromArray(array)
            volume.SetSpacing(SPACING_MM[::-1])
            SimpleITK.WriteImage(volume, str(self.folder / f"{name}.nii.gz"))
        outlined = None if mask is None else self.folder / "mask.nii.gz"
        return make_slices(SliceSource("S1", (self.folder / "scan.nii.gz",), outlined), RECIPE)


@pytest.fixture
def patient(tmp_path: Path) -> Patient:
    return Patient(tmp_path)


def boolean(*boxes: tuple[slice, ...]) -> np.ndarray:
    mask = np.zeros(GRID, bool)
    for box in boxes:
        mask[box] = True
    return mask


def by_brightness(slices: SubjectSlices) -> Segmenter:
    standard = learn_standard([("A", slices.images)])
    return Segmenter(Bright(8).eval(), standard, "fp32")


def measured(slices: SubjectSlices) -> dict[str, float]:
    segmenter = by_brightness(slices)
    predicted = segmenter.predict(segmenter.normalise(slices)) >= 0.5
    return measure_scan(slices, predicted, RECIPE)


def test_a_tumour_found_whole_is_measured_so(patient: Patient) -> None:
    slices = patient.slices(boolean(CUBE), boolean(CUBE))
    assert len(slices.depths) == 10 and slices.scan_mask is not None
    mask = segment_scan([by_brightness(slices)], slices)
    np.testing.assert_array_equal(mask, slices.scan_mask)
    assert measured(slices) == {
        "num_slices": 6,
        "predicted_voxels": 6 * 12 * 12,
        "dice_slices": 1,
        "dice_patient": 1,
        "dice_volume": 1,
        "hd95_mm": 0,
    }


@pytest.mark.parametrize(
    ("axis", "voxels", "distance_mm"), [(0, 2, 10.0), (1, 4, 3.2), (2, 6, 5.4)]
)
def test_the_distance_of_a_shifted_tumour_is_the_shift_in_mm(
    axis: int, voxels: int, distance_mm: float, patient: Patient
) -> None:
    shifted = np.roll(boolean(CUBE), voxels, axis)
    row = measured(patient.slices(shifted, boolean(CUBE)))
    # spacings are stored as float32
    assert row["hd95_mm"] == pytest.approx(distance_mm, rel=1e-6)
    kept = 1 - voxels / (6, 12, 12)[axis]
    assert row["dice_volume"] == pytest.approx(kept)


def test_tumour_found_where_there_is_none_counts_in_the_volume_alone(patient: Patient) -> None:
    elsewhere = (slice(9, 11), slice(20, 30), slice(20, 30))
    row = measured(patient.slices(boolean(CUBE, elsewhere), boolean(CUBE)))
    tumour, false = 6 * 12 * 12, 2 * 10 * 10
    assert row["dice_slices"] == row["dice_patient"] == 1 and row["num_slices"] == 6
    assert row["predicted_voxels"] == tumour + false
    assert row["dice_volume"] == pytest.approx(2 * tumour / (2 * tumour + false))


def test_without_a_mask_nothing_is_compared_and_slices_are_those_of_the_predicted_tumour(
    patient: Patient,
) -> None:
    bright = boolean(CUBE)
    given = patient.slices(bright, bright)
    bare = patient.slices(bright, None)
    row = measured(bare)
    assert row["predicted_voxels"] == bright.sum() and row["num_slices"] == 0
    assert all(np.isnan(row[name]) for name in ("dice_slices", "dice_volume", "hd95_mm"))
    segmenter = by_brightness(bare)
    with_mask, without = (
        select_tumour_slices(slices, segmenter, segmenter, RECIPE) for slices in (given, bare)
    )
    np.testing.assert_array_equal(without.depths, np.arange(3, 9))
    np.testing.assert_array_equal(without.depths, with_mask.depths)
    np.testing.assert_array_equal(without.images, with_mask.images)
    np.testing.assert_array_equal(without.tumour, with_mask.tumour)


def test_of_several_segmentations_the_mean_decides(patient: Patient) -> None:
    class Sure(Bright):
        def forward(self, images: torch.Tensor, *rest: torch.Tensor | None) -> Segmentation:
            return Segmentation(torch.full_like(images, self.logit), None)

        logit = 0.0

    slices = patient.slices(boolean(CUBE), boolean(CUBE))
    standard = learn_standard([("A", slices.images)])
    probabilities = (0.2, 0.4, 0.8)
    networks = [Sure(8).eval() for _ in probabilities]
    for network, probability in zip(networks, probabilities, strict=True):
        network.logit = float(np.log(probability / (1 - probability)))
    segmenters = [Segmenter(network, standard, "fp32") for network in networks]
    assert not segment_scan(segmenters, slices).any()  # 1.4 / 3; most of 0.8 alone
    assert segment_scan(segmenters[1:], slices)[1:11].any()


def test_examples_are_means_over_segmentations_of_a_split() -> None:
    def example(subject: str, outer: int, value: float) -> SegmentationExample:
        image = np.full((2, 3), value, np.float32)
        given = np.ones((2, 3), np.uint8)
        return SegmentationExample(subject, "chen", "T1GD", outer, 4, image, given, image / 4)

    arrays = average_examples([example("B", 0, 1), example("A", 0, 5), example("B", 0, 2)])
    assert arrays["subject"].tolist() == ["B", "A"] and arrays["depth"].tolist() == [4, 4]
    assert arrays["image"][:, 0, 0].tolist() == [1.5, 5]
    assert arrays["probability"][:, 0, 0].tolist() == [0.375, 1.25]
    assert (arrays["image"].dtype, arrays["given"].dtype) == (np.float16, np.uint8)
    apart = average_examples([example("B", 0, 1), example("B", 1, 2)])
    assert apart["outer_fold"].tolist() == [0, 1] and apart["image"][:, 0, 0].tolist() == [1, 2]
