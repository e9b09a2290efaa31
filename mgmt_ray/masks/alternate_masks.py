"""The other mask of test subjects: a predicted one where a given one is used, or the reverse."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mgmt_ray.base import MgmtError
from mgmt_ray.cluster.parallel_map import parallel_map
from mgmt_ray.cluster.progress import show_progress
from mgmt_ray.cluster.resources import Resources
from mgmt_ray.cohort.cohort import Cohort
from mgmt_ray.cohort.persons import PersonRef, read_crosswalk
from mgmt_ray.cohort.scan import Scan, read_scan
from mgmt_ray.cohort.subject import Subject
from mgmt_ray.data.inspect_files import inspect_cohort
from mgmt_ray.masks.contamination import THIS_STUDY, kept_images, segmenter_exposure
from mgmt_ray.masks.mask_files import mask_path
from mgmt_ray.masks.predicted_masks import PREDICTED_LABELS, segment_subjects
from mgmt_ray.masks.segmentation_study import load_segmentations
from mgmt_ray.preprocess.spatial import resample
from mgmt_ray.study.study_config import MaskSource, StudyConfig
from mgmt_ray.training.mask_overlap import dice
from mgmt_ray.trials.context import TrialInputs


@dataclass(frozen=True, slots=True)
class AlternateMasks:
    """Test subjects with their other mask.

    Attributes:
        subjects: each with the other kind of mask, sorted by id.
        reasons: by id of every other test subject, why there is no other mask to use.
    """

    subjects: tuple[Subject, ...]
    reasons: Mapping[str, str]


def alternate_masks(
    inputs: TrialInputs, study: StudyConfig, source: MaskSource, resources: Resources
) -> AlternateMasks:
    """Find or predict the other masks, and look at them as if they were to be used.

    Args:
        inputs: of the study.
        study: on given or predicted masks.
        source: of predicted ones.
        resources: with backend "ray", Ray must be connected.

    Raises:
        MgmtError: the segmentations cannot be read, or what was seen of the scans is lost.
    """
    tested = {subject for split in inputs.splits for subject in split.test}
    subjects = [s for s in inputs.cohort.subjects if s.id in tested]
    reasons: dict[str, str] = {}
    others: dict[str, Subject] = {}
    for subject in (s for s in subjects if s.mask_kind == "predicted"):
        if subject.given_mask is None:
            reasons[subject.id] = "no given mask"
        else:
            others[subject.id] = replace(subject, mask=subject.given_mask, mask_kind="given")
    given = [s for s in subjects if s.mask_kind == "given"]
    if given:
        outlined = _predict_masks(given, inputs, study, source, resources, reasons)
        others |= {s.id: s for s in outlined}
    usable = []
    for kind, labels in (("given", study.cohort.mask_labels), ("predicted", PREDICTED_LABELS)):
        some = [s for s in others.values() if s.mask_kind == kind]
        with show_progress(f"check {kind} masks of test subjects") as step:
            kept = inputs.folder.mask_effect.inspections
            seen = inspect_cohort(some, study.recipe, labels, kept, resources, step)
        problems = {s.id: seen[s.id].problems for s in some}
        reasons |= {
            name: f"{kind} mask: {found[0].found}" for name, found in problems.items() if found
        }
        usable += [s for s in some if not problems[s.id]]
    return AlternateMasks(tuple(sorted(usable, key=lambda s: s.id)), reasons)


def _predict_masks(
    subjects: Sequence[Subject],
    inputs: TrialInputs,
    study: StudyConfig,
    source: MaskSource,
    resources: Resources,
    reasons: dict[str, str],
) -> list[Subject]:
    """Those for whom a tumour was found, with that mask; why it was not goes to the reasons."""
    segmentations = load_segmentations(source, study.modalities)
    people = [PersonRef(THIS_STUDY, s.id, s.person) for s in inputs.cohort.subjects]
    images = kept_images(THIS_STUDY, inputs.cohort, inputs.folder)
    crosswalk = read_crosswalk(study.cohort.crosswalk)
    by_key = segmenter_exposure(segmentations, people, images, crosswalk)
    eligible = {s.id: by_key[THIS_STUDY, s.id].eligible for s in subjects}
    for subject in subjects:
        if segmentations.modality not in subject.scans:
            reasons[subject.id] = f"no {segmentations.modality} to predict a mask from"
        elif not eligible[subject.id]:
            reasons[subject.id] = "every segmentation was trained or chosen on this person"
    some = [s for s in subjects if s.id not in reasons]
    masks = inputs.folder.masks
    done = segment_subjects(
        "masks of test subjects", some, eligible, segmentations, masks, resources
    )
    for name, told in done.items():
        if isinstance(told, MgmtError):
            reasons[name] = str(told)
        elif not told.tumour_voxels:
            reasons[name] = "the segmentations find no tumour"
    return [
        replace(s, mask=mask_path(masks, s.id), mask_kind="predicted")
        for s in some
        if s.id not in reasons
    ]


def mask_agreement(
    alternate: AlternateMasks, cohort: Cohort, resources: Resources
) -> dict[str, float]:
    """Dice of both masks of each subject that has two, in space.

    Args:
        alternate: subjects with their other mask.
        cohort: the same with their own.
        resources: with backend "ray", Ray must be connected.
    """
    own = {s.id: s.required_mask for s in cohort.subjects}
    pairs = {s.id: (own[s.id], s.required_mask) for s in alternate.subjects}
    return dict(parallel_map(_mask_dice, [*pairs], pairs, resources))


def _mask_dice(subject: str, masks: Mapping[str, tuple[Path, Path]]) -> float:
    """Dice of two masks, on the grid of the first."""
    first, second = (read_scan(path) for path in masks[subject])
    tumour = Scan((second.voxels > 0).astype(np.float32), second.grid)
    depth, height, width = first.grid.shape
    moved = resample(tumour, first.grid, ((0, depth), (0, height), (0, width)))
    return dice(moved >= 0.5, first.voxels > 0)
