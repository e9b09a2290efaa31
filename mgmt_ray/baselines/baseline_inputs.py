"""The baseline models of a study, and their input values for each subject."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

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

ModelKey: TypeAlias = tuple[BaselineName, str]
"""Name and modality: ``first_order`` has a model of each; all others have their name for one."""


@dataclass(frozen=True, slots=True)
class Baselines:
    """The baseline models of a study, and their input values.

    Attributes:
        forest: hyperparameters of the random forest.
        seed: the study's seed.
        values: by model and subject, the model's input values; only subjects that have the scans
            that the model needs. An unknown age or sex is NaN.
    """

    forest: ForestConfig = field(default_factory=ForestConfig)
    seed: int = 0
    values: Mapping[ModelKey, Values] = field(default_factory=dict)

    @property
    def dependencies(self) -> dict[str, Any]:
        """Everything that their predictions depend on besides the splits, for a fingerprint."""
        values = {
            " ".join(dict.fromkeys(model)): {s: list(map(repr, row)) for s, row in rows.items()}
            for model, rows in self.values.items()
        }
        forest = self.forest.model_dump(mode="json")
        names = list(dict.fromkeys(name for name, _ in self.values))
        return {"baselines": [names, forest, self.seed, fingerprint(values)]}

    def num_models(self, splits: Sequence[Split]) -> int:
        """Return how many models are fitted: one per model, split and fold."""
        return len(self.values) * len(list_folds(splits))


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
    values: dict[ModelKey, Values] = {}
    for name in study.baselines:
        if name == "first_order":
            modalities = sorted({m for channels in study.model_inputs for m in channels})
            values |= {(name, m): _first_order_values(context.folder, m) for m in modalities}
        else:
            values[name, name] = _values(name, cohort, measured)
    return Baselines(study.forest, study.seed, values)


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
    name: Literal["radiomics_forest", "age_sex", "tumour_volume", "prevalence"],
    cohort: Cohort,
    measured: Mapping[str, TumourMeasurement],
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


def _first_order_values(folder: StudyFolder, modality: str) -> Values:
    """Return the features of each subject's prepared volume, read one by one."""
    store = VolumeStore(folder.volumes, modality)
    return {s: first_order_features(store.load([s], ["original"])[0, 0]) for s in store.ids}
