"""Checks that train: permuted labels, a planted signal, and isolation of the test set."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mgmt_ray.audit.altered_data import (
    DARK_FACTORS,
    masked_scan,
    plant_signal,
    replace_by_noise,
    share_store,
)
from mgmt_ray.audit.audited_study import (
    LEVELS,
    AuditContext,
    Check,
    permute_labels,
    replace_labels,
)
from mgmt_ray.base import MgmtError
from mgmt_ray.baselines.first_order import first_order_features, fit_first_order
from mgmt_ray.cluster.progress import log
from mgmt_ray.cohort.cohort import Cohort, write_cohort
from mgmt_ray.pipeline.stages import ensemble, train
from mgmt_ray.selection.predictions import read_table, shorten_list
from mgmt_ray.splits.draw import make_splits
from mgmt_ray.splits.split import Split, resolve_labels, write_splits
from mgmt_ray.statistics.intervals import read_interval
from mgmt_ray.statistics.leak_detection import associate_numbers, familywise_p
from mgmt_ray.statistics.planted_signal import is_found
from mgmt_ray.study.folder import StudyFolder
from mgmt_ray.study.plan import make_plan
from mgmt_ray.study.study_config import StudyConfig, write_study
from mgmt_ray.study.trial import Trial
from mgmt_ray.training.metrics import auc, unit_weights
from mgmt_ray.trials.context import StudyContext

PERMUTATIONS = 2000
LEVEL = LEVELS["permuted labels"]

TEST_INDEPENDENT_TABLES: dict[str, tuple[str, ...]] = {
    "members.csv": (),
    "validation_members.csv": (),
    "validation_predictions.csv": (),
    "best_ensembles.csv": (),
    "forward_selection.csv": (),
    "operating_points.csv": ("threshold",),
    "calibration.csv": ("temperature", "prior_shift"),
    "baselines.csv": (),
}
"""Tables that no test subject may affect, with the columns that are compared; none: all."""

COMMAND = "mgmt-ray audit STUDY"
_RESTART = f"Delete the study's folder audit/ and rerun `{COMMAND}`."
_BY_CHANCE = "By chance, one sound study in 100 fails this check: rerun with another --seed first."

TEST_SET_VARIANTS = ("test_set_a", "test_set_b")
"""Folders of the two sub-studies whose test sets differ."""


def run_sub_study(
    audit: AuditContext, name: str, study: StudyConfig, cohort: Cohort, splits: tuple[Split, ...]
) -> tuple[StudyFolder, list[Trial]]:
    """Train and evaluate a small study below the audited one; finished trials are kept.

    Its volumes or slices must be in its folder (see :mod:`mgmt_ray.audit.altered_data`). Labels,
    splits and test-set access log are its own.
    """
    folder = StudyFolder(audit.work_folder / name)
    context = StudyContext(study, folder, audit.context.resources)
    write_cohort(cohort, folder.root)
    write_study(study, folder.study_file)
    write_splits(splits, folder.splits)
    trials = make_plan(study, splits)
    inputs = context.inputs(cohort, splits)
    log(f"audit: {name}, {len(trials)} trials of {', '.join(study.networks)}")
    train(trials, inputs)
    ensemble(trials, inputs, {})
    return folder, trials


def permuted_studies(audit: AuditContext) -> dict[str, StudyConfig]:
    """Return the studies that are run on permuted labels, by folder.

    The cheapest network is trained as in the study; the cheapest of each other kind once, in the
    modality that the fewest subjects have, on one split into two folds.
    """
    studies = {"permuted": audit.reduced_study(audit.study.modalities)}
    for kind, name in audit.cheapest_by_kind.items():
        if name != audit.cheapest_network:
            study = audit.reduced_study((audit.smallest_modality,), name)
            split = {"outer_folds": 0, "drop_rest": False, "folds": 2}
            studies[f"permuted-{kind}"] = study.model_copy(
                update={"split": study.split.model_copy(update=split)}
            )
    return studies


def check_permuted_labels(audit: AuditContext) -> Check:
    """Run the whole pipeline on labels permuted among persons: all AUCs must be at chance.

    Tested for each kind of network by the family-wise permutation p-value of the AUC farthest from
    0.5, not by intervals: in a sound study, one of 20 independent 95 % intervals excludes 0.5. How
    many do is reported.
    """
    name = "permuted labels"
    studies = permuted_studies(audit)
    level = LEVEL / len(studies)
    names = ", ".join(network for study in studies.values() for network in study.networks)
    expected = f"no AUC of {names} differs from 0.5 (family-wise p ≥ {level:.2g})"
    cohort = permute_labels(audit.cohort, audit.random_stream("permuted labels"))
    found, extreme = [], {}
    for folder_name, study in studies.items():
        try:
            splits = make_splits(cohort, study.split, study.modalities)
        except MgmtError as error:
            return Check(name, "not done", expected, f"permuted labels cannot be split ({error})")
        share_store(audit, folder_name)
        folder, _ = run_sub_study(audit, folder_name, study, cohort, splits)
        metrics = read_table(folder.ensembles / "metrics.csv", COMMAND)
        predictions = read_table(folder.ensembles / "predictions.csv", COMMAND)
        farthest, p = _most_extreme_auc(predictions, audit)
        extreme[p] = farthest
        rows = metrics.to_dict("records")
        num_excluding = sum(read_interval(row, "auc").excludes(0.5) for row in rows)
        found.append(
            f"{', '.join(study.networks)}: AUC {metrics['auc'].min():.2f} to "
            f"{metrics['auc'].max():.2f} on {int(metrics['num_subjects'].max())} test subjects, "
            f"{num_excluding} of {len(rows)} 95 % intervals exclude 0.5, family-wise permutation "
            f"p = {p:.3f}"
        )
    text = "; ".join(found) + _not_trained(audit)
    p = min(extreme)
    if p >= level:
        return Check(name, "passed", expected, text)
    return Check(name, "failed", expected, text, f"{remedy_for_permuted(extreme[p])} {_BY_CHANCE}")


def _not_trained(audit: AuditContext) -> str:
    """Say which kinds of network were not trained, if any."""
    missing = [
        name
        for name, config in audit.study.networks.items()
        if config.kind not in audit.cheapest_by_kind
    ]
    return f"; not trained: {', '.join(missing)}" if missing else ""


def remedy_for_permuted(auc: float) -> str:
    """Return what to do about an AUC on permuted labels that differs from chance.

    Examples:
        >>> remedy_for_permuted(0.8)
        'Labels are predicted without the images, or test subjects are used in training.'
    """
    if auc > 0.5:
        return "Labels are predicted without the images, or test subjects are used in training."
    return (
        f"The AUC farthest from 0.5 is {auc:.2f}, below it: no leakage, which would raise it. "
        "Labels are predicted the wrong way round: look for classes exchanged between training "
        "and prediction, and for splits that test more of a class where they train on fewer."
    )


def check_planted_signal(audit: AuditContext) -> Check:
    """Permute the labels, plant patterns in the tumours of one class, and see which are found.

    No real label is used, so that only a planted pattern can be found. The easy one must be; the
    others, and what :mod:`.first_order` features make of each, say what the study could find.
    """
    modality = audit.smallest_modality
    study = audit.reduced_study((modality,))
    study = study.model_copy(
        update={"split": study.split.model_copy(update={"outer_folds": 0, "drop_rest": False})}
    )
    name = "planted signal"
    expected = (
        f"{audit.cheapest_network} finds the easy signal in {modality}: its AUC's interval lies "
        "above 0.5, or its AUC is 1"
    )
    cohort = permute_labels(audit.cohort, audit.random_stream("planted signal"))
    try:
        (split,) = make_splits(cohort, study.split, study.modalities)
    except MgmtError as error:
        return Check(name, "not done", expected, f"permuted labels cannot be split ({error})")
    label = resolve_labels(split, cohort)
    methylated = {s for s, value in label.items() if value == 1}
    aucs, found = {}, []
    for strength in DARK_FACTORS:
        folder_name = f"planted-{strength}"
        plant_signal(audit, folder_name, modality, methylated, strength)
        folder, _ = run_sub_study(audit, folder_name, study, cohort, (split,))
        metrics = read_table(folder.ensembles / "metrics.csv", COMMAND)
        rows = metrics[
            (metrics["ensemble"] == modality) & (metrics["network"] == audit.cheapest_network)
        ]
        aucs[strength] = read_interval(rows.iloc[0].to_dict(), "auc")
        simple = first_order_auc(audit, folder_name, modality, split, label)
        found.append(f"{strength}: AUC {aucs[strength]} (first-order features: {simple:.2f})")
    text, easy = "; ".join(found), aucs["easy"]
    if is_found(easy):
        return Check(name, "passed", expected, text)
    remedy = (
        "This training misses an obvious signal, so its AUC near chance says nothing about MGMT. "
        "Look at epochs.csv of its trials: try more epochs or another learning rate."
    )
    if easy.high < 0.5:
        remedy = "Classes are predicted the wrong way round: look for exchanged labels."
    return Check(name, "failed", expected, text, remedy)


def first_order_auc(
    audit: AuditContext, name: str, modality: str, split: Split, label: Mapping[str, int]
) -> float:
    """Return the test AUC of a logistic regression on first-order features of a sub-study's data.

    Args:
        name: of the sub-study's folder, with its copy of the modality.
    """
    scanned = set(audit.subjects_with(modality))

    def rows(ids: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
        kept = [s for s in ids if s in scanned]
        features = [first_order_features(masked_scan(audit, name, modality, s)) for s in kept]
        return np.array(features), np.array([label[s] for s in kept], dtype=np.int64)

    (values, labels), (test_values, test_labels) = rows(split.training), rows(split.test)
    model = fit_first_order(values, labels)
    predicted = model.predict(test_values)
    return float(auc(test_labels, predicted, unit_weights(len(test_labels)))[0])


def check_test_set_isolation(audit: AuditContext) -> Check:
    """Run the same trainings twice, with other test subjects: all that is fitted must be equal.

    Only the modality that the fewest subjects have, the cheapest network and outer split 0 are
    trained. Baseline models are not fitted, and covariates of test subjects are not changed.
    """
    name = "test-set isolation"
    expected = "weights, epochs, members and thresholds do not depend on test subjects, bit for bit"
    modality = audit.smallest_modality
    split = audit.splits[0]
    scanned = set(audit.subjects_with(modality))
    test_subjects = [s for s in split.test if s in scanned]
    cohorts = dict(zip(TEST_SET_VARIANTS, _cohort_variants(audit, split), strict=True))
    share_store(audit, TEST_SET_VARIANTS[0])
    replace_by_noise(audit, TEST_SET_VARIANTS[1], modality, test_subjects)
    study = audit.reduced_study((modality,))
    (first, trials), (second, _) = (
        run_sub_study(audit, folder, study, cohort, (split,)) for folder, cohort in cohorts.items()
    )
    differences = list_differences(first, second, trials)
    scope = (
        f"{len(trials)} trials of {audit.cheapest_network} in {modality} alone, outer split "
        f"{split.outer_fold}, {len(test_subjects)} test subjects replaced by noise with opposite "
        "labels (covariates not changed, baseline models not fitted)"
    )
    if any(subject.mask_kind == "predicted" for subject in audit.cohort.subjects):
        scope += "; predicted masks are not checked for networks trained on test subjects"
    if not differences:
        return Check(name, "passed", expected, f"{scope}: no differences")
    found = f"{scope}: {shorten_list(differences)} differ"
    if audit.context.resources.device != "cpu":
        remedy = "A GPU may round differently from run to run: rerun on the CPU (without --gpus)."
        return Check(name, "warning", expected, found, remedy)
    remedy = (
        "Something is fitted on test subjects: find out what these files depend on, "
        f"in {audit.work_folder}."
    )
    return Check(name, "failed", expected, found, remedy)


def list_differences(first: StudyFolder, second: StudyFolder, trials: list[Trial]) -> list[str]:
    """Return the trials and tables that differ between two studies but must not.

    Args:
        first: folder of one study.
        second: folder of another study with the same trials and other test subjects.

    Raises:
        MgmtError: a table or a column is missing in one of them; two missing ones are not equal.
    """
    differences = []
    for trial in trials:
        values = [_fitted_values(folder.read_trial(trial.id)) for folder in (first, second)]
        if values[0] != values[1]:
            differences.append(f"trial {trial.id}")
    for file, columns in TEST_INDEPENDENT_TABLES.items():
        contents = [_content(folder.ensembles / file, columns) for folder in (first, second)]
        if contents[0] != contents[1]:
            differences.append(file)
    return differences


def _fitted_values(trial_metadata: Mapping[str, Any]) -> dict[str, Any]:
    keys = ("weights_sha256", "selection", "status", "covariates", "standard_histogram")
    return {key: trial_metadata.get(key) for key in keys}


def _content(path: Path, columns: tuple[str, ...]) -> str:
    """Return a table's text, or that of some of its columns."""
    if not path.exists():
        raise MgmtError(f"{path}: does not exist, so it cannot be compared. {_RESTART}")
    if not columns:
        return path.read_text(encoding="utf-8")
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    missing = [name for name in columns if name not in table]
    if missing or table.empty:
        fault = f"no column {', '.join(missing)}" if missing else "no rows"
        raise MgmtError(f"{path}: {fault}, so it cannot be compared. {_RESTART}")
    return str(table[list(columns)].to_csv(index=False))


def _cohort_variants(audit: AuditContext, split: Split) -> tuple[Cohort, Cohort]:
    """Return cohorts with permuted labels of the test subjects, and with the opposite of these."""
    test = [s for s in audit.cohort.subjects if s.id in set(split.test)]
    order = audit.random_stream("test labels").permutation(len(test))
    permuted = {s.id: (test[i].label, test[i].score) for s, i in zip(test, order, strict=True)}
    cutoff = 0.0 if split.cutoff is None else split.cutoff
    opposite = {
        subject: (1 - label, None if score is None else 2 * cutoff - score)
        for subject, (label, score) in permuted.items()
    }
    return replace_labels(audit.cohort, permuted), replace_labels(audit.cohort, opposite)


def _most_extreme_auc(predictions: pd.DataFrame, audit: AuditContext) -> tuple[float, float]:
    """Return the AUC farthest from 0.5 of all ensembles, and its p corrected for their number."""
    wide = predictions.pivot(
        index=["network", "ensemble"], columns="subject", values="probability"
    ).dropna(axis=0)
    label = predictions.drop_duplicates("subject").set_index("subject")["label"]
    labels = label[wide.columns].to_numpy(dtype=np.int64)
    random = audit.random_stream("permutation test")
    permuted = np.stack([random.permutation(labels) for _ in range(PERMUTATIONS)])
    association = associate_numbers(wide.to_numpy(dtype=float), labels, permuted)
    distances = np.abs(association.aucs - 0.5)
    farthest = int(distances.argmax())
    p = familywise_p(float(distances[farthest]), association.null_distances)
    return float(association.aucs[farthest]), p
