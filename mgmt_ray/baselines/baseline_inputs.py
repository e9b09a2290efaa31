"""The baseline models of a study, and their input values for each subject."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from mgmt_ray.base import MgmtError, fingerprint
from mgmt_ray.baselines.first_order import first_order_features
from mgmt_ray.baselines.tumour_measurements import (
    MeasurementOptions,
    TumourMeasurement,
    measure_tumours,
    write_measurements,
)
from mgmt_ray.cluster.progress import show_progress
from mgmt_ray.cohort.cohort import Cohort
from mgmt_ray.cohort.covariates import AGE_SEX, read_covariates
from mgmt_ray.preprocess.volume_store import VolumeStore
from mgmt_ray.splits.split import Split, resolve_labels
from mgmt_ray.study.baseline_config import FEATURE_SCANS, BaselineName, ForestConfig
from mgmt_ray.study.folder import StudyFolder
from mgmt_ray.trials.context import StudyContext

Values: TypeAlias = Mapping[str, tuple[float, ...]]
"""A model's input values by subject."""


@dataclass(frozen=True, slots=True)
class Baselines:
    """The baseline models of a study, and their input values.

    Attributes:
        names: the models.
        forest: hyperparameters of the random forest.
        seed: the study's seed.
        values: by model and subject, the model's input values; only subjects that have the scans
            that the model needs. An unknown age or sex is NaN.
        first_order: the input values of ``first_order``, by modality and subject.
    """

    names: tuple[BaselineName, ...] = ()
    forest: ForestConfig = field(default_factory=ForestConfig)
    seed: int = 0
    values: Mapping[BaselineName, Values] = field(default_factory=dict)
    first_order: Mapping[str, Values] = field(default_factory=dict)

    @property
    def models(self) -> list[tuple[BaselineName, str]]:
        """Name and modality of each model: ``first_order`` has one per modality.

        All others have their name for a modality.
        """
        return [
            (name, modality)
            for name in self.names
            for modality in (self.first_order if name == "first_order" else (name,))
        ]

    def inputs(self, name: BaselineName, modality: str) -> Values:
        """Return the input values of one of :attr:`models`, by subject."""
        return self.first_order[modality] if name == "first_order" else self.values[name]

    @property
    def dependencies(self) -> dict[str, Any]:
        """Everything that their predictions depend on besides the splits, for a fingerprint."""
        by_model: dict[str, Values] = {str(name): rows for name, rows in self.values.items()}
        by_model |= {f"first_order {m}": rows for m, rows in self.first_order.items()}
        values = {
            name: {subject: list(map(repr, numbers)) for subject, numbers in rows.items()}
            for name, rows in by_model.items()
        }
        forest = self.forest.model_dump(mode="json")
        return {"baselines": [list(self.names), forest, self.seed, fingerprint(values)]}

    def num_models(self, splits: Sequence[Split]) -> int:
        """Return how many models are fitted: one per model, split and fold."""
        return len(self.models) * len(list_folds(splits))


NO_BASELINES = Baselines()


def prepare_baselines(context: StudyContext, cohort: Cohort) -> Baselines:
    """Return the study's baseline models with their input values; measure missing ones.

    Raises:
        MgmtError: a scan, a mask or the cohort's table cannot be used.
    """
    study = context.study
    measured: Mapping[str, TumourMeasurement] = {}
    forest = "radiomics_forest" in study.baselines
    if forest or "tumour_volume" in study.baselines:
        options = MeasurementOptions(forest, study.first_recipe.resample, study.cohort.label_map)
        with show_progress("radiomics") as progress:
            measured = measure_tumours(
                cohort, options, context.folder.radiomics, context.resources, progress
            )
        write_measurements(measured, context.folder.radiomics_table)
    values: dict[BaselineName, Values] = {
        name: _values(name, cohort, measured) for name in study.baselines if name != "first_order"
    }
    first_order: dict[str, Values] = {}
    if "first_order" in study.baselines:
        modalities = sorted({m for channels in study.model_inputs for m in channels})
        first_order = {m: _first_order_values(context.folder, m) for m in modalities}
    return Baselines(study.baselines, study.forest, study.seed, values, first_order)


def check_baselines(names: Sequence[BaselineName], cohort: Cohort, splits: Sequence[Split]) -> None:
    """Check, before anything is trained, that the baseline models can be fitted.

    Raises:
        MgmtError: a covariate cannot be read; in some fold, no training subject has a value of a
            covariate; or the training subjects with the features' scans are of one class.
    """
    if "age_sex" in names:
        covariates = read_covariates(cohort.subjects, AGE_SEX)
        for split, fold in list_folds(splits):
            train, _ = split.fold(fold, set(covariates))
            for column, name in enumerate(AGE_SEX):
                if all(math.isnan(covariates[s][column]) for s in train):
                    raise MgmtError(
                        f"baselines: age_sex: no training subject has a value for {name}. Add "
                        "that column to the cohort's table, or remove age_sex from baselines."
                    )
    if "radiomics_forest" in names:
        with_scans = {s.id for s in cohort.subjects if s.has_all(FEATURE_SCANS)}
        for split, fold in list_folds(splits):
            label = resolve_labels(split, cohort)
            train, _ = split.fold(fold, with_scans)
            if len({label[s] for s in train}) < 2:
                raise MgmtError(
                    f"baselines: radiomics_forest: the training subjects of fold {fold} with "
                    f"{', '.join(FEATURE_SCANS)} do not include both classes. Enlarge the "
                    "cohort, or remove radiomics_forest from baselines."
                )


def list_folds(splits: Sequence[Split]) -> list[tuple[Split, int]]:
    """Return each outer split with each of its folds' numbers."""
    return [(split, fold) for split in splits for fold in range(len(split.folds))]


def _values(
    name: BaselineName, cohort: Cohort, measured: Mapping[str, TumourMeasurement]
) -> Values:
    """Return a model's input values, of the subjects that have them."""
    match name:
        case "radiomics_forest":
            features = {s.id: tuple(measured[s.id].features.values()) for s in cohort.subjects}
            return {s: v for s, v in features.items() if not any(map(math.isnan, v))}
        case "age_sex":
            return read_covariates(cohort.subjects, AGE_SEX)
        case "tumour_volume":
            volumes = {s.id: measured[s.id].volumes_ml["tumour_ml"] for s in cohort.subjects}
            return {s: (math.log(volume),) for s, volume in volumes.items()}
        case "prevalence":
            return {s.id: () for s in cohort.subjects}
        case "first_order":
            raise AssertionError("first_order has values for each modality")


def _first_order_values(folder: StudyFolder, modality: str) -> Values:
    """Return the features of each subject's prepared volume, read one by one."""
    store = VolumeStore(folder.volumes, modality)
    return {s: first_order_features(store.load([s], ["original"])[0, 0]) for s in store.ids}
