"""What comparison models take: which of them a study has, and the numbers of each subject."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mgmt_ray.base import MgmtError, fingerprint
from mgmt_ray.baselines.tumour_measurements import (
    MeasurementOptions,
    TumourMeasurement,
    measure_tumours,
)
from mgmt_ray.cluster.progress import show_progress
from mgmt_ray.cluster.resources import Resources
from mgmt_ray.cohort.cohort import Cohort
from mgmt_ray.cohort.covariates import Covariate, read_covariates
from mgmt_ray.splits.split import Split, resolve_labels
from mgmt_ray.study.baseline_config import FEATURE_SCANS, BaselineName, ForestConfig
from mgmt_ray.study.folder import StudyFolder
from mgmt_ray.study.study_config import StudyConfig

COVARIATES: tuple[Covariate, ...] = ("age", "sex")


@dataclass(frozen=True, slots=True)
class Baselines:
    """The comparison models of a study, and the numbers that they take.

    Attributes:
        names: of the models.
        forest: how the forest is grown.
        seed: of the study.
        values: by model, the numbers of each subject that has what the model takes. An age or a sex
            that is not known is NaN.
    """

    names: tuple[BaselineName, ...] = ()
    forest: ForestConfig = field(default_factory=ForestConfig)
    seed: int = 0
    values: Mapping[BaselineName, Mapping[str, tuple[float, ...]]] = field(default_factory=dict)

    @property
    def facts(self) -> dict[str, Any]:
        """What their predictions follow from, beside the splits."""
        values = {
            name: {subject: list(map(repr, numbers)) for subject, numbers in rows.items()}
            for name, rows in self.values.items()
        }
        forest = self.forest.model_dump(mode="json")
        return {"baselines": [list(self.names), forest, self.seed, fingerprint(values)]}

    def num_models(self, splits: Sequence[Split]) -> int:
        """How many models are fitted."""
        return len(self.names) * len(list_folds(splits))


NO_BASELINES = Baselines()


def prepare_baselines(
    study: StudyConfig, cohort: Cohort, folder: StudyFolder, resources: Resources
) -> Baselines:
    """The study's comparison models with the numbers that they take; measures what is missing.

    Raises:
        MgmtError: a file or a table cannot be used.
    """
    measured: Mapping[str, TumourMeasurement] = {}
    forest = "radiomics_forest" in study.baselines
    if forest or "tumour_volume" in study.baselines:
        recipe = study.recipe if study.takes_volumes else study.slices
        wanted = MeasurementOptions(features=forest, resample=recipe.resample)
        with show_progress("radiomics") as step:
            measured = measure_tumours(cohort, wanted, folder.radiomics, resources, step)
    values = {name: _values(name, cohort, measured) for name in study.baselines}
    return Baselines(study.baselines, study.forest, study.seed, values)


def check_baselines(names: Sequence[BaselineName], cohort: Cohort, splits: Sequence[Split]) -> None:
    """Refuse, before anything is trained, comparison models that could not be fitted.

    Raises:
        MgmtError: a covariate cannot be read, or no training subject of some fold has it; or those
            with the scans that features take are of one class.
    """
    if "age_sex" in names:
        known = read_covariates(cohort.subjects, COVARIATES)
        for split, fold in list_folds(splits):
            train, _ = split.fold(fold, set(known))
            for column, name in enumerate(COVARIATES):
                if all(math.isnan(known[s][column]) for s in train):
                    raise MgmtError(
                        f"baselines: age_sex: no training subject has a value for {name}. Give "
                        "the cohort's table that column, or take age_sex out of baselines."
                    )
    if "radiomics_forest" in names:
        having = {s.id for s in cohort.subjects if s.has_all(FEATURE_SCANS)}
        for split, fold in list_folds(splits):
            label = resolve_labels(split, cohort)
            train, _ = split.fold(fold, having)
            if len({label[s] for s in train}) < 2:
                raise MgmtError(
                    f"baselines: radiomics_forest: the training subjects of fold {fold} with "
                    f"{', '.join(FEATURE_SCANS)} are not of two classes. Enlarge the cohort, or "
                    "take radiomics_forest out of baselines."
                )


def list_folds(splits: Sequence[Split]) -> list[tuple[Split, int]]:
    """Each outer split with each of its folds."""
    return [(split, fold) for split in splits for fold in range(len(split.folds))]


def _values(
    name: BaselineName, cohort: Cohort, measured: Mapping[str, TumourMeasurement]
) -> dict[str, tuple[float, ...]]:
    """The numbers that a model takes, of the subjects that have them."""
    match name:
        case "radiomics_forest":
            found = {s.id: tuple(measured[s.id].features.values()) for s in cohort.subjects}
            return {s: v for s, v in found.items() if not any(map(math.isnan, v))}
        case "age_sex":
            return read_covariates(cohort.subjects, COVARIATES)
        case "tumour_volume":
            volumes = {s.id: measured[s.id].volumes_ml["tumour_ml"] for s in cohort.subjects}
            return {s: (math.log(volume),) for s, volume in volumes.items()}
        case "prevalence":
            return {s.id: () for s in cohort.subjects}
