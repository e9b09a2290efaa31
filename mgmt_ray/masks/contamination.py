"""Whom the models of this study or the segmentations of another know, under whatever name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mgmt_ray.base import MgmtError
from mgmt_ray.cohort.cohort import Cohort
from mgmt_ray.cohort.persons import (
    Crosswalk,
    PersonRef,
    SubjectKey,
    find_persons,
    find_shared_names,
    find_shared_voxels,
)
from mgmt_ray.masks.segmentation_study import Segmentations
from mgmt_ray.preprocess.scan_inspection import read_inspection
from mgmt_ray.selection.predictions import shorten_list
from mgmt_ray.study.folder import StudyFolder
from mgmt_ray.study.trial import Trial

OTHER_STUDY = "the segmentation's study"
"""Stands for a cohort's name; no study can give it."""

THIS_STUDY = ""
"""The study's own cohort."""


def contamination_reason(
    folder: StudyFolder,
    cohort: Cohort,
    members: Sequence[Trial],
    people: Sequence[PersonRef],
    images: Mapping[SubjectKey, Mapping[str, str]],
    crosswalk: Crosswalk = (),
) -> dict[SubjectKey, str]:
    """Why a finished study's models may know some of the people, by cohort and subject.

    They may know the whole cohort, and whom a model that one started from was trained or chosen on.
    Who is the same person is as of :func:`segmenter_exposure`, but that of the latter persons names
    alone are known, not scans.

    Args:
        folder: of the finished study.
        cohort: of that study.
        members: its models.
        people: who are not of its cohort as far as their reader knows.
        images: hashes of their scans' voxels, by modality.
        crosswalk: rows of ids of one person.

    Raises:
        MgmtError: what the study saw of its scans is lost.
    """
    told = (folder.read_trial(trial.id)["persons"] for trial in members)
    seen = {name for persons in told for role in ("trained", "chosen") for name in persons[role]}
    here = _study_persons(THIS_STUDY, cohort, seen)
    pairs = [
        pair[:2]
        for pair in find_shared_voxels({**images, **kept_images(THIS_STUDY, cohort, folder)})
    ]
    person = find_persons([*people, *here], crosswalk, [*pairs, *find_shared_names(people, here)])
    before = "is {}, on whom a model that ours started from was trained or chosen"
    own = "is {} of the study's own cohort, whom its models may know"
    ids = {s.id for s in cohort.subjects}
    # of one person the cohort's own name is told
    inner = sorted(here, key=lambda one: one.id in ids)
    why = {person[one.key]: (own if one.id in ids else before).format(one.id) for one in inner}
    return {one.key: why[person[one.key]] for one in people if person[one.key] in why}


@dataclass(frozen=True, slots=True)
class SegmenterExposure:
    """What a study's segmentations know of a person, by their ids.

    Attributes:
        eligible: those that know nothing.
        trained: those that learnt from a scan.
    """

    eligible: tuple[str, ...]
    trained: tuple[str, ...]


def segmenter_exposure(
    segmentations: Segmentations,
    people: Sequence[PersonRef],
    images: Mapping[SubjectKey, Mapping[str, str]],
    crosswalk: Crosswalk = (),
) -> dict[SubjectKey, SegmenterExposure]:
    """Which segmentations know each person, by cohort and subject.

    Known are the persons that a segmentation trained on, and those by whose given masks its epoch
    was chosen: of each fold that a person does not validate, cross-fitted networks leave one. The
    same person are all who have an id or a person's name in common, whatever cohort they are from,
    who are connected by a crosswalk of either study, or who share a scan's voxels.

    Args:
        segmentations: of another study.
        people: whom they may be asked to outline, and everybody who may connect these.
        images: hashes of their scans' voxels, by modality.
        crosswalk: rows of ids of one person.

    Raises:
        MgmtError: what the other study saw of its scans is lost.
    """
    cohort, metadata = segmentations.cohort, segmentations.metadata
    there = _study_persons(
        OTHER_STUDY, cohort, {n for told in metadata.values() for n in _exposed_persons(told)}
    )
    there_images = kept_images(OTHER_STUDY, cohort, segmentations.folder)
    rows = [*segmentations.crosswalk, *crosswalk]
    pairs = [pair[:2] for pair in find_shared_voxels({**images, **there_images})]
    person = find_persons([*people, *there], rows, [*pairs, *find_shared_names(people, there)])

    def persons(names: set[str]) -> set[str]:
        return {person[one.key] for one in there if {one.id, one.person} & names}

    seen = {network: persons(_exposed_persons(told)) for network, told in metadata.items()}
    trained = {network: persons(_training_persons(told)) for network, told in metadata.items()}
    return {
        one.key: SegmenterExposure(
            tuple(n for n, some in seen.items() if person[one.key] not in some),
            tuple(n for n, some in trained.items() if person[one.key] in some),
        )
        for one in people
    }


def _study_persons(place: str, cohort: Cohort, seen: Iterable[str]) -> list[PersonRef]:
    """Everybody of a study, also those seen whom its cohort does not name any more."""
    known = [PersonRef(place, s.id, s.person) for s in cohort.subjects]
    names = {name for one in known for name in (one.id, one.person)}
    return [*known, *(PersonRef(place, name, name) for name in sorted({*seen} - names))]


def _training_persons(metadata: Mapping[str, Any]) -> set[str]:
    """Persons and ids whose scans a segmentation learnt from."""
    return {*metadata["persons"]["trained"], *metadata["standard_histogram"]["learnt_from"]}


def _exposed_persons(metadata: Mapping[str, Any]) -> set[str]:
    """The same, and the persons by whom its epoch was chosen."""
    return {*_training_persons(metadata), *metadata["persons"]["chosen"]}


def kept_images(
    place: str, cohort: Cohort, folder: StudyFolder
) -> dict[SubjectKey, Mapping[str, str]]:
    """Hashes of a study's scans as it saw them, by subject and modality.

    Args:
        place: stands for the study in keys.
        cohort: of the study.
        folder: of the study.

    Raises:
        MgmtError: what it saw is lost.
    """
    found: dict[SubjectKey, Mapping[str, str]] = {}
    lost: list[str] = []
    for subject in cohort.subjects:
        # scans without a given mask are seen first without any
        places = (folder.inspections, folder.masks / "scans")
        seen = next(filter(None, (read_inspection(p, subject.id) for p in places)), None)
        if seen is None:
            lost.append(subject.id)
        else:
            found[place, subject.id] = seen.hashes
    if lost:
        raise MgmtError(
            f"{folder.inspections}: nothing of {shorten_list(lost)}, so copies of scans that "
            "trained "
            "cannot be told. Repeat `mgmt-ray cohort` of that study."
        )
    return found
