"""Alternate masks of test subjects: predicted where the study uses given ones, or vice versa."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mgmt_ray.cluster.parallel_map import parallel_map
from mgmt_ray.cluster.progress import show_progress
from mgmt_ray.cluster.resources import Resources
from mgmt_ray.cohort.cohort import Cohort
from mgmt_ray.cohort.persons import PersonRef, read_crosswalk
from mgmt_ray.cohort.scan import Scan, read_mask
from mgmt_ray.cohort.subject import ScanConventions, Subject
from mgmt_ray.data.inspect_files import inspect_cohort
from mgmt_ray.masks.contamination import THIS_STUDY, cached_scan_hashes, segmenter_exposure
from mgmt_ray.masks.mask_files import ALTERNATE_MASKS
from mgmt_ray.masks.predicted_masks import PREDICTED_LABELS, segment_eligible
from mgmt_ray.masks.segmentation_study import load_segmentations
from mgmt_ray.preprocess.spatial import resample, whole_window
from mgmt_ray.study.study_config import MaskSource
from mgmt_ray.training.mask_overlap import dice
from mgmt_ray.trials.context import TrialInputs


@dataclass(frozen=True, slots=True)
class AlternateMasks:
    """Test subjects with their alternate mask.

    Attributes:
        subjects: each with the other kind of mask than the study uses, sorted by id.
        reasons: why the remaining test subjects have no usable alternate mask, by id.
    """

    subjects: tuple[Subject, ...]
    reasons: Mapping[str, str]


def alternate_masks(inputs: TrialInputs, source: MaskSource) -> AlternateMasks:
    """Find or predict the alternate masks of all test subjects, and inspect them.

    Args:
        inputs: of a study on given or predicted masks.
        source: the study whose segmentations predict masks.

    Raises:
        MgmtError: the segmentations cannot be read, or inspections of scans are missing.
    """
    study, resources = inputs.study, inputs.resources
    tested = {subject for split in inputs.splits for subject in split.test}
    subjects = [s for s in inputs.cohort.subjects if s.id in tested]
    reasons: dict[str, str] = {}
    alternates: dict[str, Subject] = {}
    for subject in (s for s in subjects if s.mask_kind == "predicted"):
        if subject.given_mask is None:
            reasons[subject.id] = "no given mask"
        else:
            alternates[subject.id] = replace(subject, mask=subject.given_mask, mask_kind="given")
    given = [s for s in subjects if s.mask_kind == "given"]
    if given:
        segmentations = load_segmentations(source, study.modalities)
        persons = [PersonRef(THIS_STUDY, s.id, s.person) for s in inputs.cohort.subjects]
        hashes = cached_scan_hashes(THIS_STUDY, inputs.cohort, inputs.folder)
        crosswalk = read_crosswalk(study.cohort.crosswalk)
        exposure = segmenter_exposure(segmentations, persons, hashes, crosswalk)
        eligible = {s.id: exposure[THIS_STUDY, s.id].eligible for s in given}
        settings = (eligible, segmentations, inputs.folder.masks, resources, ALTERNATE_MASKS)
        predicted, without = segment_eligible("masks of test subjects", given, *settings)
        alternates |= {s.id: s for s in predicted}
        reasons |= without
    usable = []
    for kind, labels in (("given", study.cohort.known_labels), ("predicted", PREDICTED_LABELS)):
        of_kind = [s for s in alternates.values() if s.mask_kind == kind]
        with show_progress(f"check {kind} masks of test subjects") as progress:
            cache = inputs.folder.mask_effect.inspections
            inspections = inspect_cohort(of_kind, study.recipe, labels, cache, resources, progress)
        for subject in of_kind:
            problems = inspections[subject.id].problems
            if problems:
                reasons[subject.id] = f"{kind} mask: {problems[0].found}"
            else:
                usable.append(subject)
    return AlternateMasks(tuple(sorted(usable, key=lambda s: s.id)), reasons)


def mask_agreement(
    alternate: AlternateMasks, cohort: Cohort, resources: Resources
) -> dict[str, float]:
    """Return the Dice coefficient of the study's and the alternate mask, 0 to 1, by subject.

    Masks on different grids are compared in physical space.

    Args:
        alternate: subjects with their alternate mask.
        cohort: the study's, with the masks that it uses.
    """
    of_study = {s.id: s.required_mask for s in cohort.subjects}
    pairs = {s.id: (of_study[s.id], s.required_mask, s.conventions) for s in alternate.subjects}
    return dict(parallel_map(_mask_dice, [*pairs], pairs, resources))


def _mask_dice(subject: str, masks: Mapping[str, tuple[Path, Path, ScanConventions]]) -> float:
    """Return the Dice coefficient of two masks, on the grid of the first."""
    *paths, conventions = masks[subject]
    first, second = (read_mask(path, conventions) for path in paths)
    tumour = Scan((second.voxels > 0).astype(np.float32), second.grid)
    resampled = resample(tumour, first.grid, whole_window(first.grid.shape))
    return dice(resampled >= 0.5, first.voxels > 0)
