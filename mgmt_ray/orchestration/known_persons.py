"""Whom the segmentations of another study know, under whatever name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mgmt_ray.base import MgmtError
from mgmt_ray.cohort.persons import Crosswalk, Key, Known, by_voxels, find_persons, same_names
from mgmt_ray.orchestration.mask_source import Segmentations
from mgmt_ray.preprocess.inspection import read_inspection
from mgmt_ray.selection.predictions import name_some

THERE = "the segmentation's study"
"""Stands for a cohort's name; no study can give it."""


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
    there = _people(segmentations)
    rows = [*segmentations.crosswalk, *crosswalk]
    pairs = [pair[:2] for pair in by_voxels({**images, **_images(segmentations)})]
    person = find_persons([*people, *there], rows, [*pairs, *same_names(people, there)])
    known_to = {
        network: {person[one.key] for one in there if {one.id, one.person} & own}
        for network, own in names.items()
    }
    return {
        one.key: tuple(n for n, persons in known_to.items() if person[one.key] in persons)
        for one in people
    }


def _people(segmentations: Segmentations) -> list[Known]:
    """Everybody of the other study, also whom its cohort does not name any more."""
    known = [Known(THERE, s.id, s.person) for s in segmentations.cohort.subjects]
    names = {name for one in known for name in (one.id, one.person)}
    seen = {name for facts in segmentations.facts.values() for name in _seen(facts)}
    return [*known, *(Known(THERE, name, name) for name in sorted(seen - names))]


def _trained(facts: Mapping[str, Any]) -> set[str]:
    """Persons and ids whose scans a segmentation learnt from."""
    return {*facts["persons"]["trained"], *facts["standard_histogram"]["learnt_from"]}


def _seen(facts: Mapping[str, Any]) -> set[str]:
    """The same, and the persons by whom its epoch was chosen."""
    return {*_trained(facts), *facts["persons"]["chosen"]}


def _images(segmentations: Segmentations) -> dict[Key, Mapping[str, str]]:
    """Hashes of the other study's scans, by subject and modality."""
    found: dict[Key, Mapping[str, str]] = {}
    lost: list[str] = []
    for subject in segmentations.cohort.subjects:
        seen = read_inspection(segmentations.folder.inspections, subject.id)
        if seen is None:
            lost.append(subject.id)
        else:
            found[THERE, subject.id] = seen.hashes
    if lost:
        raise MgmtError(
            f"{segmentations.folder.inspections}: nothing of {name_some(lost)}, so copies of scans "
            "that trained cannot be told. Repeat `mgmt-ray cohort` of that study."
        )
    return found
