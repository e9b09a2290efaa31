"""What networks of volumes and of slices do differently, behind one protocol."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from mgmt_ray.cluster.resources import Resources
from mgmt_ray.cohort.cohort import Cohort
from mgmt_ray.preprocess.recipe import RecipeConfig, SliceRecipe
from mgmt_ray.preprocess.slice_store import SliceStore
from mgmt_ray.preprocess.volume_store import VolumeStore
from mgmt_ray.study.folder import StudyFolder
from mgmt_ray.study.held_out_set import HeldOutSet
from mgmt_ray.study.study_config import PipelineName, StudyConfig
from mgmt_ray.study.trial import Trial
from mgmt_ray.trials.context import TrialInputs
from mgmt_ray.trials.slices_pipeline import SlicesPipeline
from mgmt_ray.trials.trial_data import FoldSubjects, TrialSets
from mgmt_ray.trials.volumes_pipeline import VolumesPipeline


class Pipeline(Protocol):
    """From a cohort's scans to the training of a trial and the prediction of held-out subjects."""

    @property
    def needs_masks(self) -> bool:
        """Whether every subject needs a tumour mask."""

    @property
    def prepare(self) -> Callable[..., None]:
        """The function that brings one store up to date."""

    def recipe(self, study: StudyConfig, *, augmented: bool) -> RecipeConfig | SliceRecipe:
        """Return how a study's scans become what is stored."""

    def open_store(self, folder: StudyFolder, modality: str) -> VolumeStore | SliceStore:
        """Open what was prepared of a modality, or of another part."""

    def parts(self, trial: Trial) -> tuple[str, ...]:
        """Return the parts of the store that a trial reads."""

    def input_checksums(self, trial: Trial, folder: StudyFolder) -> dict[str, Any]:
        """Return checksums of what a trial reads besides the pretrained weights."""

    def describe(self, trial: Trial) -> dict[str, Any]:
        """Return the entries of ``trial.json`` that only trials of this pipeline have."""

    def load_sets(
        self, trial: Trial, inputs: TrialInputs, fold: FoldSubjects, device: str
    ) -> TrialSets:
        """Load a trial's training and validation data onto a device.

        Raises:
            MgmtError: files were changed.
            Diverged: a segmentation that the trial needs diverged.
        """

    def unfit_scans(
        self, trial: Trial, held_out: HeldOutSet, folder: StudyFolder
    ) -> dict[str, str]:
        """Return why a member must not predict some held-out subjects, by id."""


PIPELINES: dict[PipelineName, Pipeline] = {"volumes": VolumesPipeline(), "slices": SlicesPipeline()}


def pipelines_of(study: StudyConfig) -> tuple[Pipeline, ...]:
    """Return the pipelines of a study's networks."""
    return tuple(PIPELINES[name] for name in study.pipelines)


def prepare_stores(
    name: str,
    cohort: Cohort,
    study: StudyConfig,
    folder: StudyFolder,
    resources: Resources,
    *,
    augmented: bool = False,
    verify: bool = False,
) -> None:
    """Bring a cohort's stores that a study's networks read up to date, and log the result.

    Args:
        name: what log lines begin with.
        cohort: the study's own, or one of subjects that are only predicted.
        study: its networks, recipes and modalities decide.
        augmented: whether volumes are augmented, as training needs them.
        verify: whether all that is stored is read again and compared with its checksums; loading
            compares them anyway.

    Raises:
        UnusableFiles: files of some subjects cannot be used; the others are prepared.
    """
    inputs = dict.fromkeys([*((m,) for m in study.modalities), *study.model_inputs])
    if not augmented:
        inputs = {c: None for c in inputs if any(s.has_all(c) for s in cohort.subjects)}
    for pipeline in pipelines_of(study):
        recipe = pipeline.recipe(study, augmented=augmented)
        pipeline.prepare(name, cohort, tuple(inputs), recipe, folder, resources, verify=verify)


def pipeline_of(trial: Trial) -> Pipeline:
    """Return the pipeline of a trial's network."""
    return PIPELINES[trial.pipeline]


def unfit_scans(tasks: Sequence[tuple[Trial, HeldOutSet]], folder: StudyFolder) -> dict[str, str]:
    """Return why members must not predict some of their subjects, by id; the first reason each."""
    problems: dict[str, str] = {}
    for trial, held_out in tasks:
        for subject, problem in pipeline_of(trial).unfit_scans(trial, held_out, folder).items():
            problems.setdefault(subject, problem)
    return problems
