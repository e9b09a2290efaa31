from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from mgmt_ray.base import stream
from mgmt_ray.cluster.resources import Resources
from mgmt_ray.cohort.cohort import Cohort
from mgmt_ray.cohort.subject import Subject
from mgmt_ray.data.prepare_stores import prepare_slices
from mgmt_ray.nets.myronenko import SegmentationNetwork
from mgmt_ray.preprocess.histogram_matching import StandardHistogram
from mgmt_ray.preprocess.recipe import SliceRecipe
from mgmt_ray.preprocess.slice_rotation import ANGLES_DEGREES, rotate_images
from mgmt_ray.preprocess.slice_store import SliceStore
from mgmt_ray.study.folder import StudyFolder
from mgmt_ray.trials.segmenter import Segmenter, segment_scan
from mgmt_ray.trials.slice_data import segmentation_sets, slices_to_classify
from tests.preprocess.conftest import ball, write_scan

SHAPE = (8, 28, 30)
RECIPE = SliceRecipe(shape=(32, 32), shrink=1, least_tumour_voxels=8, least_brain_voxels=20)


def make_store(folder: Path, names: tuple[str, ...]) -> SliceStore:
    subjects = []
    for number, name in enumerate(names):
        scans = {}
        for modality in ("FLAIR", "T1GD"):
            values = stream(0, "test pair", name, modality).normal(100, 20, SHAPE)
            scans[modality] = folder / f"{name}_{modality}.nii.gz"
            write_scan(scans[modality], np.where(ball(SHAPE, (4, 14, 15), 10), values, 0))
        mask = folder / f"{name}_mask.nii.gz"
        write_scan(mask, ball(SHAPE, (4, 12 + number, 15), 3).astype(np.uint8))
        subjects.append(Subject(name, number % 2, scans, mask))
    study = StudyFolder(folder / "study")
    pair = (("FLAIR", "T1GD"),)
    resources = Resources("in-process")
    prepare_slices("x", Cohort(tuple(subjects)), pair, RECIPE, study, resources, verify=False)
    return SliceStore(study.slices, "FLAIR+T1GD")


def test_two_modalities_are_trained_on_segmented_and_classified_together(tmp_path: Path) -> None:
    names = ("S1", "S2", "S3")
    store = make_store(tmp_path, names)
    training, validation, metadata = segmentation_sets(store, names[:2], names[2:], "cpu")
    assert training.data.volumes.shape[1:] == validation.data.volumes.shape[1:] == (2, 32, 32)
    original = training.originals().data.volumes.float().numpy()
    for angle in ANGLES_DEGREES:
        rows = np.flatnonzero(training.angles == angle)
        rotated = training.data.volumes[rows].float().numpy()
        # both were rounded to float16, numbers of up to 4
        np.testing.assert_allclose(rotated, rotate_images(original, angle), atol=8e-3)
    standard = StandardHistogram.from_json(metadata["standard_histogram"])
    assert len(standard.landmarks) == 2 and standard.learnt_from == names[:2]

    torch.manual_seed(0)
    network = SegmentationNetwork(8, modalities=2).eval()
    segmenter = Segmenter(network, standard, "fp32")
    label = dict.fromkeys(names, 1)
    classified = slices_to_classify(
        store, dict.fromkeys(names, segmenter), segmenter, label, "cpu"
    ).data
    assert classified.volumes.shape[1:] == (5, 128, 128)
    flair, t1gd, probability, *products = classified.volumes.float().unbind(1)
    for image, product in zip((flair, t1gd), products, strict=True):
        # float16 of products of up to 4
        torch.testing.assert_close(product, image * probability, rtol=0, atol=8e-3)
    (slices,) = store.load(("S3",))
    assert segment_scan([segmenter], slices).shape == SHAPE
