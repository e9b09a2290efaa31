"""Whom the models of this study or the segmentations of another know, under whatever name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mgmt_ray.base import MgmtError
from mgmt_ray.cohort.cohort import Cohort
from mgmt_ray.cohort.persons import Crosswalk, Key, Known, by_voxels, find_persons, same_names
from mgmt_ray.orchestration.mask_source import Segmentations
from mgmt_ray.preprocess.inspection import read_inspection
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
    Who is the same person is as of :func:`who_may_outline`, but that of the latter persons names
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
    pairs = [pair[:2] for pair in by_voxels({**images, **_images(HERE, cohort, folder)})]
    person = find_persons([*people, *here], crosswalk, [*pairs, *same_names(people, here)])
    before = "is {}, on whom a model that ours started from was trained or chosen"
    own = "is {} of the study's own cohort, whom its models may know"
    ids = {s.id for s in cohort.subjects}
    # of one person the cohort's own name is told
    inner = sorted(here, key=lambda one: one.id in ids)
    why = {person[one.key]: (own if one.id in ids else before).format(one.id) for one in inner}
    return {one.key: why[person[one.key]] for one in people if person[one.key] in why}


def who_may_outline(
    segmentations: Segmentations,
    people: Sequence[Known],
    images: Mapping[Key, Mapping[str, str]],
    crosswalk: Crosswalk = (),
) -> dict[Key, tuple[str, ...]]:
    """The segmentations that know nothing of a person, by cohort and subject.

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
    seen = {name: _seen(facts) for name, facts in segmentations.facts.items()}
    knowing = _who_knows(seen, segmentations, people, images, crosswalk)
    return {key: tuple(n for n in seen if n not in some) for key, some in knowing.items()}


def who_trained(
    segmentations: Segmentations,
    people: Sequence[Known],
    images: Mapping[Key, Mapping[str, str]],
    crosswalk: Crosswalk = (),
) -> dict[Key, tuple[str, ...]]:
    """The segmentations that trained on each person; arguments as of :func:`who_may_outline`."""
    trained = {name: _trained(facts) for name, facts in segmentations.facts.items()}
    return _who_knows(trained, segmentations, people, images, crosswalk)


def _who_knows(
    names: Mapping[str, set[str]],
    segmentations: Segmentations,
    people: Sequence[Known],
    images: Mapping[Key, Mapping[str, str]],
    crosswalk: Crosswalk,
) -> dict[Key, tuple[str, ...]]:
    """The segmentations that know each person, if they know the persons and ids given by each."""
    cohort = segmentations.cohort
    there = _people(THERE, cohort, {n for f in segmentations.facts.values() for n in _seen(f)})
    there_images = _images(THERE, cohort, segmentations.folder)
    rows = [*segmentations.crosswalk, *crosswalk]
    pairs = [pair[:2] for pair in by_voxels({**images, **there_images})]
    person = find_persons([*people, *there], rows, [*pairs, *same_names(people, there)])
    known_to = {
        network: {person[one.key] for one in there if {one.id, one.person} & own}
        for network, own in names.items()
    }
    return {
        one.key: tuple(n for n, persons in known_to.items() if person[one.key] in persons)
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


def _images(place: str, cohort: Cohort, folder: StudyFolder) -> dict[Key, Mapping[str, str]]:
    """Hashes of a study's scans, by subject and modality."""
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
