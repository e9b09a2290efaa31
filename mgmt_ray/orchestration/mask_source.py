"""The finished slices study whose segmentations predict masks, and whom each has never seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mgmt_ray.base import MgmtError, file_checksum
from mgmt_ray.cohort.cohort import Cohort, read_cohort
from mgmt_ray.cohort.persons import (
    Crosswalk,
    Key,
    Known,
    by_voxels,
    find_persons,
    read_crosswalk,
    same_names,
)
from mgmt_ray.nets.build import SegmentationConfig
from mgmt_ray.preprocess.inspection import read_inspection
from mgmt_ray.preprocess.slice_recipe import SliceRecipe
from mgmt_ray.selection.predictions import name_some
from mgmt_ray.splits.split import read_splits
from mgmt_ray.study.config import StudyConfig, load_study
from mgmt_ray.study.folder import StudyFolder
from mgmt_ray.study.pipeline import SlicePipelineConfig
from mgmt_ray.study.plan import make_plan
from mgmt_ray.study.segmentation import MaskSource
from mgmt_ray.study.trial import Trial

DEFAULT_MODALITY = "FLAIR"

THERE = "the segmentation's study"
"""Stands for a cohort's name; no study can give it."""


@dataclass(frozen=True, slots=True)
class Segmentations:
    """Finished segmentations of one modality.

    Attributes:
        folder: of their study.
        network: its name there.
        modality: that they segment.
        recipe: of their slices.
        trials: by id, in the plan's order.
        facts: their ``trial.json``, by id.
        cohort: of their study.
        crosswalk: of their study.
    """

    folder: StudyFolder
    network: str
    modality: str
    recipe: SliceRecipe
    trials: Mapping[str, Trial]
    facts: Mapping[str, Mapping[str, Any]]
    cohort: Cohort
    crosswalk: Crosswalk

    @property
    def checksums(self) -> dict[str, str]:
        """Of the weights, by trial."""
        return {name: facts["weights"] for name, facts in self.facts.items()}


def find_segmentations(source: MaskSource, modalities: Sequence[str]) -> Segmentations:
    """The segmentations that a study names, which must all be finished.

    Args:
        source: as the study names it.
        modalities: that the study reads.

    Raises:
        MgmtError: no such study, none with such a network or modality, or it is not finished.
    """
    folder = StudyFolder(source.study)
    path = folder.study_file
    if not path.is_file():
        raise MgmtError(
            f"segmentation.study: {source.study} is no study's folder (no study.yaml). Give the "
            "folder of a finished slices study, which its --out named."
        )
    study = load_study(path)
    network = _network(source, study)
    modality = _modality(source, study, modalities)
    trials = _finished(folder, study, network, modality)
    facts = {name: folder.read_trial(name) for name in trials}
    trained = {name: told for name, told in facts.items() if told["weights"] is not None}
    if not trained:
        raise MgmtError(
            f"segmentation.study: every segmentation of {modality} in {source.study} diverged. "
            f"Lower networks.{network}.segmentation.learning_rate there and run it again."
        )
    rows = read_crosswalk(study.cohort.crosswalk) if study.cohort.crosswalk else ()
    return Segmentations(
        folder,
        network,
        modality,
        study.slices,
        {name: trials[name] for name in trained},
        trained,
        read_cohort(folder.root),
        rows,
    )


def refuse_changed_segmentations(segmentations: Segmentations) -> None:
    """Raise MgmtError where weights are not those that a training left."""
    for name, checksum in segmentations.checksums.items():
        path = segmentations.folder.weights(name)
        if not path.is_file() or file_checksum(path) != checksum:
            raise MgmtError(
                f"{path}: its checksum is not the one in trial.json, so it was changed or lost. "
                "Delete that trial's folder and run its study again."
            )


def who_may_outline(
    segmentations: Segmentations,
    people: Sequence[Known],
    images: Mapping[Key, Mapping[str, str]],
    crosswalk: Crosswalk = (),
) -> dict[Key, tuple[str, ...]]:
    """The segmentations that trained on no scan of a person, by cohort and subject.

    The same person are all who have an id or a person's name in common, whatever cohort they are
    from, who are connected by a crosswalk of either study, or who share a scan's voxels.

    Args:
        segmentations: of another study.
        people: whom they may be asked to outline, and everybody who may connect these.
        images: hashes of their scans' voxels, by modality.
        crosswalk: rows of ids of one person.

    Raises:
        MgmtError: what the other study saw of its scans is lost.
    """
    there = _people(segmentations)
    rows = [*segmentations.crosswalk, *crosswalk]
    pairs = [pair[:2] for pair in by_voxels({**images, **_images(segmentations)})]
    person = find_persons([*people, *there], rows, [*pairs, *same_names(people, there)])
    learnt = {
        name: {person[known.key] for known in there if _has_trained(known, facts)}
        for name, facts in segmentations.facts.items()
    }
    return {
        known.key: tuple(name for name in learnt if person[known.key] not in learnt[name])
        for known in people
    }


def _finished(
    folder: StudyFolder, study: StudyConfig, network: str, modality: str
) -> dict[str, Trial]:
    """All segmentations that a study plans of a modality, by id, if they are finished."""
    remedy = f"Finish it with `mgmt-ray run` of its study file and --out {folder.root}."
    if not folder.splits.is_file():
        raise MgmtError(f"segmentation.study: {folder.root} has no splits yet. {remedy}")
    plan = make_plan(study, read_splits(folder.splits))
    trials = {t.id: t for t in plan if _is_meant(t, network, modality)}
    missing = [name for name in trials if not folder.is_finished(name)]
    if missing:
        raise MgmtError(
            f"segmentation.study: {len(missing)} of {len(trials)} segmentations of {modality} in "
            f"{folder.root} are not finished, like {missing[0]}. {remedy}"
        )
    return trials


def _network(source: MaskSource, study: StudyConfig) -> str:
    names = [n for n, config in study.networks.items() if isinstance(config, SlicePipelineConfig)]
    if not names:
        raise MgmtError(
            f"segmentation.study: {source.study} has no network of kind slices. Give the folder of "
            "a study like jobs/studies/chen2020.yaml."
        )
    if source.network is None and len(names) > 1:
        raise MgmtError(
            f"segmentation.network: {source.study} has several ({', '.join(names)}). Name one."
        )
    if source.network is not None and source.network not in names:
        raise MgmtError(
            f"segmentation.network: {source.network} is no network of kind slices of "
            f"{source.study}, which has {', '.join(names)}."
        )
    return source.network or names[0]


def _modality(source: MaskSource, study: StudyConfig, read_here: Sequence[str]) -> str:
    segmented = [channels[0] for channels in study.model_inputs]
    default = DEFAULT_MODALITY if DEFAULT_MODALITY in segmented else segmented[0]
    modality = source.modality or default
    if modality not in segmented:
        raise MgmtError(
            f"segmentation.modality: {source.study} segments {', '.join(segmented)}, not "
            f"{modality}. Name one of them."
        )
    if modality not in read_here:
        raise MgmtError(
            f"segmentation.modality: {source.study} segments {modality}, which this study does not "
            f"read. Add {modality} to cohort.modalities, or name another segmentation.modality."
        )
    return modality


def _is_meant(trial: Trial, network: str, modality: str) -> bool:
    is_segmentation = isinstance(trial.network_config, SegmentationConfig)
    return is_segmentation and trial.network == network and trial.channels == (modality,)


def _people(segmentations: Segmentations) -> list[Known]:
    """Everybody of the other study, also whom its cohort does not name any more."""
    known = [Known(THERE, s.id, s.person) for s in segmentations.cohort.subjects]
    names = {name for one in known for name in (one.id, one.person)}
    trained = {name for facts in segmentations.facts.values() for name in _trained(facts)}
    return [*known, *(Known(THERE, name, name) for name in sorted(trained - names))]


def _trained(facts: Mapping[str, Any]) -> set[str]:
    """Persons and ids whose scans a segmentation learnt from."""
    return {*facts["persons"]["trained"], *facts["standard_histogram"]["learnt_from"]}


def _has_trained(known: Known, facts: Mapping[str, Any]) -> bool:
    return bool({known.id, known.person} & _trained(facts))


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
