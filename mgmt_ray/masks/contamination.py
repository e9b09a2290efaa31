"""Whom the models of this study or the segmentations of another know, under whatever name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mgmt_ray.base import MgmtError
from mgmt_ray.cohort.cohort import Cohort
from mgmt_ray.cohort.persons import Crosswalk, Key, Known, by_voxels, find_persons, same_names
from mgmt_ray.masks.segmentation_study import Segmentations
from mgmt_ray.preprocess.scan_inspection import read_inspection
from mgmt_ray.selection.predictions import name_some
from mgmt_ray.study.folder import StudyFolder
from mgmt_ray.study.trial import Trial

THERE = "the segmentation's study"
"""Stands for a cohort's name; no study can give it."""

HERE = ""
"""The study's own cohort."""


def why_known(
    folder: StudyFolder,
    cohort: Cohort,
    members: Sequence[Trial],
    people: Sequence[Known],
    images: Mapping[Key, Mapping[str, str]],
    crosswalk: Crosswalk = (),
) -> dict[Key, str]:
    """Why a finished study's models may know some of the people, by cohort and subject.

    They may know the whole cohort, and whom a model that one started from was trained or chosen on.
    Who is the same person is as of :func:`who_knows`, but that of the latter persons names
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
    here = _people(HERE, cohort, seen)
    pairs = [pair[:2] for pair in by_voxels({**images, **kept_images(HERE, cohort, folder)})]
    person = find_persons([*people, *here], crosswalk, [*pairs, *same_names(people, here)])
    before = "is {}, on whom a model that ours started from was trained or chosen"
    own = "is {} of the study's own cohort, whom its models may know"
    ids = {s.id for s in cohort.subjects}
    # of one person the cohort's own name is told
    inner = sorted(here, key=lambda one: one.id in ids)
    why = {person[one.key]: (own if one.id in ids else before).format(one.id) for one in inner}
    return {one.key: why[person[one.key]] for one in people if person[one.key] in why}


@dataclass(frozen=True, slots=True)
class Knowing:
    """What a study's segmentations know of a person, by their ids.

    Attributes:
        may_outline: those that know nothing.
        trained: those that learnt from a scan.
    """

    may_outline: tuple[str, ...]
    trained: tuple[str, ...]


def who_knows(
    segmentations: Segmentations,
    people: Sequence[Known],
    images: Mapping[Key, Mapping[str, str]],
    crosswalk: Crosswalk = (),
) -> dict[Key, Knowing]:
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
    cohort, facts = segmentations.cohort, segmentations.facts
    there = _people(THERE, cohort, {n for told in facts.values() for n in _seen(told)})
    there_images = kept_images(THERE, cohort, segmentations.folder)
    rows = [*segmentations.crosswalk, *crosswalk]
    pairs = [pair[:2] for pair in by_voxels({**images, **there_images})]
    person = find_persons([*people, *there], rows, [*pairs, *same_names(people, there)])

    def persons(names: set[str]) -> set[str]:
        return {person[one.key] for one in there if {one.id, one.person} & names}

    seen = {network: persons(_seen(told)) for network, told in facts.items()}
    trained = {network: persons(_trained(told)) for network, told in facts.items()}
    return {
        one.key: Knowing(
            tuple(n for n, some in seen.items() if person[one.key] not in some),
            tuple(n for n, some in trained.items() if person[one.key] in some),
        )
        for one in people
    }


def _people(place: str, cohort: Cohort, seen: Iterable[str]) -> list[Known]:
    """Everybody of a study, also those seen whom its cohort does not name any more."""
    known = [Known(place, s.id, s.person) for s in cohort.subjects]
    names = {name for one in known for name in (one.id, one.person)}
    return [*known, *(Known(place, name, name) for name in sorted({*seen} - names))]


def _trained(facts: Mapping[str, Any]) -> set[str]:
    """Persons and ids whose scans a segmentation learnt from."""
    return {*facts["persons"]["trained"], *facts["standard_histogram"]["learnt_from"]}


def _seen(facts: Mapping[str, Any]) -> set[str]:
    """The same, and the persons by whom its epoch was chosen."""
    return {*_trained(facts), *facts["persons"]["chosen"]}


def kept_images(place: str, cohort: Cohort, folder: StudyFolder) -> dict[Key, Mapping[str, str]]:
    """Hashes of a study's scans as it saw them, by subject and modality.

    Args:
        place: stands for the study in keys.
        cohort: of the study.
        folder: of the study.

    Raises:
        MgmtError: what it saw is lost.
    """
    found: dict[Key, Mapping[str, str]] = {}
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
            f"{folder.inspections}: nothing of {name_some(lost)}, so copies of scans that trained "
            "cannot be told. Repeat `mgmt-ray cohort` of that study."
        )
    return found
