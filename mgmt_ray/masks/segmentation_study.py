"""Loading the finished slices study whose segmentations predict masks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mgmt_ray.base import MgmtError
from mgmt_ray.cohort.cohort import Cohort, read_cohort
from mgmt_ray.cohort.persons import Crosswalk, read_crosswalk
from mgmt_ray.nets.build import SegmentationConfig
from mgmt_ray.preprocess.recipe import SliceRecipe
from mgmt_ray.splits.split import read_splits
from mgmt_ray.study.folder import StudyFolder
from mgmt_ray.study.search_choice import chosen_plan
from mgmt_ray.study.study_config import MaskSource, StudyConfig, load_study
from mgmt_ray.study.trial import Trial

DEFAULT_MODALITY = "FLAIR"
"""Modality to segment if the study does not name one."""


@dataclass(frozen=True, slots=True)
class Segmentations:
    """Finished segmentations of one input.

    Attributes:
        folder: of their study.
        network: its name in that study.
        channels: modalities that are segmented together.
        recipe: of their slices.
        trials: by id, in the plan's order.
        metadata: content of their ``trial.json``, by id.
        cohort: of their study.
        crosswalk: of their study.
    """

    folder: StudyFolder
    network: str
    channels: tuple[str, ...]
    recipe: SliceRecipe
    trials: Mapping[str, Trial]
    metadata: Mapping[str, Mapping[str, Any]]
    cohort: Cohort
    crosswalk: Crosswalk

    @property
    def modality(self) -> str:
        """Name of the input, as of a trial."""
        return "+".join(self.channels)

    @property
    def checksums(self) -> dict[str, str]:
        """SHA-256 of the weights, by trial."""
        return {name: metadata["weights_sha256"] for name, metadata in self.metadata.items()}


def load_segmentations(source: MaskSource, modalities: Sequence[str]) -> Segmentations:
    """Load the segmentations that a study names as the source of its masks.

    Args:
        source: the finished study, its network and the modality to segment.
        modalities: of the study that uses the masks; the segmented one must be among them.

    Raises:
        MgmtError: the study does not exist, has no such network or modality, is not finished, or
            all its segmentations diverged.
    """
    folder = StudyFolder(source.study)
    path = folder.study_file
    if not path.is_file():
        raise MgmtError(
            f"mask_source.study: {source.study} is not a study folder (it has no study.yaml). Give "
            "the folder of a finished slices study (its --out)."
        )
    folder.check_version()
    study = load_study(path)
    network = _network(source, study)
    channels = _channels(source, study, modalities)
    trials = _finished_trials(folder, study, network, channels)
    metadata = {name: folder.read_trial(name) for name in trials}
    trained = {
        name: trial for name, trial in metadata.items() if trial["weights_sha256"] is not None
    }
    if not trained:
        raise MgmtError(
            f"mask_source.study: every segmentation of {'+'.join(channels)} in {source.study} "
            f"diverged. Lower networks.{network}.segmentation.learning_rate there and run it again."
        )
    return Segmentations(
        folder,
        network,
        channels,
        study.slices,
        {name: trials[name] for name in trained},
        trained,
        read_cohort(folder.root),
        read_crosswalk(study.cohort.crosswalk),
    )


def _finished_trials(
    folder: StudyFolder, study: StudyConfig, network: str, channels: tuple[str, ...]
) -> dict[str, Trial]:
    """Return all segmentations of an input that a study plans, by id; they must be finished."""
    remedy = f"Finish that study with `mgmt-ray run` (its study file, --out {folder.root})."
    if not folder.splits.is_file():
        raise MgmtError(f"mask_source.study: {folder.root} has no splits yet. {remedy}")
    plan = chosen_plan(study, folder, read_splits(folder.splits))
    trials = {t.id: t for t in plan if _matches(t, network, channels)}
    missing = [name for name in trials if not folder.is_finished(name)]
    if missing:
        raise MgmtError(
            f"mask_source.study: {len(missing)} of {len(trials)} segmentations of "
            f"{'+'.join(channels)} in {folder.root} are not finished, for example {missing[0]}. "
            f"{remedy}"
        )
    return trials


def _network(source: MaskSource, study: StudyConfig) -> str:
    names = [*study.networks_of("slices")]
    if not names:
        raise MgmtError(
            f"mask_source.study: {source.study} has no network of kind slices. Give the folder of "
            "a study like jobs/studies/chen2020.yaml."
        )
    if source.network is None and len(names) > 1:
        raise MgmtError(
            f"mask_source.network: {source.study} has several networks of kind slices "
            f"({', '.join(names)}). Name one."
        )
    if source.network is not None and source.network not in names:
        raise MgmtError(
            f"mask_source.network: {source.network} is not a network of kind slices of "
            f"{source.study}, which has {', '.join(names)}. Name one of these."
        )
    return source.network or names[0]


def _channels(source: MaskSource, study: StudyConfig, modalities: Sequence[str]) -> tuple[str, ...]:
    segmented = {"+".join(channels): channels for channels in study.model_inputs}
    default = DEFAULT_MODALITY if DEFAULT_MODALITY in segmented else next(iter(segmented))
    modality = source.modality or default
    if modality not in segmented:
        raise MgmtError(
            f"mask_source.modality: {source.study} segments {', '.join(segmented)}, not "
            f"{modality}. Name one of them."
        )
    missing = ", ".join(m for m in segmented[modality] if m not in modalities)
    if missing:
        raise MgmtError(
            f"mask_source.modality: {source.study} segments {missing}, which this study does not "
            f"use. Add {missing} to cohort.modalities, or name another mask_source.modality."
        )
    return segmented[modality]


def _matches(trial: Trial, network: str, channels: tuple[str, ...]) -> bool:
    is_segmentation = isinstance(trial.network_config, SegmentationConfig)
    return is_segmentation and trial.network == network and trial.channels == channels
