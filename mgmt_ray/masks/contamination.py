"""Contamination: persons that a study's models or segmentations were trained or chosen on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

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
"""Cohort name of the segmentations' study in keys; no study can have it."""

THIS_STUDY = ""
"""Cohort name of the study's own cohort."""


def contamination_reason(
    folder: StudyFolder,
    cohort: Cohort,
    members: Sequence[Trial],
    persons: Sequence[PersonRef],
    hashes: Mapping[SubjectKey, Mapping[str, str]],
    crosswalk: Crosswalk = (),
) -> dict[SubjectKey, str]:
    """Return why a finished study's models must not predict some persons, by cohort and subject.

    These are the persons of the study's whole cohort, and those that a model which one of its
    models started from was trained or chosen on. Persons are matched as in
    :func:`segmenter_exposure`; of the latter only names are known, not scans.

    Args:
        hashes: of their scans' voxels, by modality.
        crosswalk: each row has the ids of one person.

    Raises:
        MgmtError: inspections of the study's scans are missing.
    """
    used = (folder.read_trial(trial.id)["persons"] for trial in members)
    exposed = {name for roles in used for role in ("trained", "chosen") for name in roles[role]}
    own = _study_persons(THIS_STUDY, cohort, exposed)
    all_hashes = {**hashes, **cached_scan_hashes(THIS_STUDY, cohort, folder)}
    pairs = [pair[:2] for pair in find_shared_voxels(all_hashes)]
    identity = find_persons([*persons, *own], crosswalk, [*pairs, *find_shared_names(persons, own)])
    in_cohort = "is {} of the study's own cohort, which its models may have been trained on"
    in_source = (
        "is {}, and a model that this study's models started from was trained or chosen on this "
        "person"
    )
    ids = {s.id for s in cohort.subjects}
    # cohort subjects last: of several names of one person the cohort's own is reported
    ordered = sorted(own, key=lambda person: person.id in ids)
    reasons = {
        identity[person.key]: (in_cohort if person.id in ids else in_source).format(person.id)
        for person in ordered
    }
    return {
        person.key: reasons[identity[person.key]]
        for person in persons
        if identity[person.key] in reasons
    }


@dataclass(frozen=True, slots=True)
class SegmenterExposure:
    """The segmentations of a study that a person may, or must not, be segmented by.

    Attributes:
        eligible: ids of those that were neither trained nor chosen on the person.
        trained: ids of those that were trained on a scan of the person.
    """

    eligible: tuple[str, ...]
    trained: tuple[str, ...]


def segmenter_exposure(
    segmentations: Segmentations,
    persons: Sequence[PersonRef],
    hashes: Mapping[SubjectKey, Mapping[str, str]],
    crosswalk: Crosswalk = (),
) -> dict[SubjectKey, SegmenterExposure]:
    """Find the segmentations that were trained or chosen on each person, by cohort and subject.

    A segmentation is trained on its training subjects and chosen by the given masks of others (the
    subjects that its epoch was selected on). For each fold in which a person is not a validation
    subject, one cross-fitted network remains that is neither. Subjects are the same person if they
    have an id or a person's name in common, whatever their cohort, if a crosswalk of either study
    connects them, or if they share a scan's voxels.

    Args:
        hashes: of their scans' voxels, by modality.
        crosswalk: each row has the ids of one person.

    Raises:
        MgmtError: inspections of the other study's scans are missing.
    """
    cohort, metadata = segmentations.cohort, segmentations.metadata
    # persons and ids whose scans a segmentation was trained on, and those its epoch was chosen on
    training_names = {
        name: {*trial["persons"]["trained"], *trial["standard_histogram"]["learnt_from"]}
        for name, trial in metadata.items()
    }
    exposed_names = {
        name: training_names[name] | {*trial["persons"]["chosen"]}
        for name, trial in metadata.items()
    }
    others = _study_persons(OTHER_STUDY, cohort, set().union(*exposed_names.values()))
    other_hashes = cached_scan_hashes(OTHER_STUDY, cohort, segmentations.folder)
    rows = [*segmentations.crosswalk, *crosswalk]
    pairs = [pair[:2] for pair in find_shared_voxels({**hashes, **other_hashes})]
    shared_names = find_shared_names(persons, others)
    identity = find_persons([*persons, *others], rows, [*pairs, *shared_names])

    def identities(names: set[str]) -> set[str]:
        return {identity[person.key] for person in others if {person.id, person.person} & names}

    exposed = {network: identities(names) for network, names in exposed_names.items()}
    trained = {network: identities(names) for network, names in training_names.items()}
    return {
        person.key: SegmenterExposure(
            tuple(n for n, known in exposed.items() if identity[person.key] not in known),
            tuple(n for n, known in trained.items() if identity[person.key] in known),
        )
        for person in persons
    }


def _study_persons(
    cohort_name: str, cohort: Cohort, exposed_names: Iterable[str]
) -> list[PersonRef]:
    """Return all persons of a study, and those its models used who are not in its cohort now."""
    in_cohort = [PersonRef(cohort_name, s.id, s.person) for s in cohort.subjects]
    names = {name for person in in_cohort for name in (person.id, person.person)}
    further = sorted({*exposed_names} - names)
    return [*in_cohort, *(PersonRef(cohort_name, name, name) for name in further)]


def cached_scan_hashes(
    cohort_name: str, cohort: Cohort, folder: StudyFolder
) -> dict[SubjectKey, Mapping[str, str]]:
    """Read the hashes of a study's scans from its inspections, by subject and modality.

    Raises:
        MgmtError: inspections are missing or damaged.
    """
    hashes: dict[SubjectKey, Mapping[str, str]] = {}
    missing: list[str] = []
    for subject in cohort.subjects:
        inspection = read_inspection(folder.inspections, subject.id)
        if inspection is None:
            missing.append(subject.id)
        else:
            hashes[cohort_name, subject.id] = inspection.hashes
    if missing:
        raise MgmtError(
            f"{folder.inspections}: no inspection of {shorten_list(missing)}, so copies of "
            "training scans cannot be recognised. Rerun `mgmt-ray cohort` for that study."
        )
    return hashes
