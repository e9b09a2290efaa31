"""A small study below the audited one: its own labels, splits and trainings."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mgmt_ray.audit.altered_data import plant_signal, replace_by_noise, share_store
from mgmt_ray.audit.audited_study import AuditContext, Check, permute_labels, replace_labels
from mgmt_ray.base import MgmtError
from mgmt_ray.cluster.progress import log
from mgmt_ray.cohort.cohort import Cohort, write_cohort
from mgmt_ray.pipeline.stages import ensemble, train
from mgmt_ray.selection.predictions import read_table, shorten_list
from mgmt_ray.splits.draw import make_splits
from mgmt_ray.splits.split import Split, resolve_labels, write_splits
from mgmt_ray.statistics.intervals import read_interval
from mgmt_ray.statistics.leak_detection import associate_numbers, familywise_p
from mgmt_ray.study.folder import StudyFolder
from mgmt_ray.study.plan import make_plan
from mgmt_ray.study.study_config import StudyConfig, write_study
from mgmt_ray.study.trial import Trial
from mgmt_ray.trials.context import StudyContext


def run_sub_study(
    audit: AuditContext, name: str, study: StudyConfig, cohort: Cohort, splits: tuple[Split, ...]
) -> tuple[StudyFolder, list[Trial]]:
    """Train, choose, average and measure as a study does; what is finished is not done again.

    What it reads is in place already (see ``training_data.py``). Its log of test openings is its
    own, and so are its labels.

    Args:
        audit: the study above.
        name: of the folder.
        study: what to run.
        cohort: with the labels to believe in.
        splits: of it.

    Returns:
        Its folder and plan.
    """
    folder = StudyFolder(audit.work_folder / name)
    context = StudyContext(study, folder, audit.context.resources)
    write_cohort(cohort, folder.root)
    write_study(study, folder.study_file)
    write_splits(splits, folder.splits)
    trials = make_plan(study, splits)
    inputs = context.inputs(cohort, splits)
    log(f"audit: {name}, {len(trials)} trials of {audit.cheapest_network}")
    train(context, trials, inputs)
    ensemble(context, trials, inputs, {})
    return folder, trials


PERMUTATIONS = 2000
LEVEL = 0.05

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
"""Tables that only training and validation may move, with their columns; none means all."""

RUN_AGAIN = "mgmt-ray audit STUDY"
_RESTART = f"Delete the study's folder audit/ and run `{RUN_AGAIN}` again."


def check_permuted_labels(audit: AuditContext) -> Check:
    """Labels dealt anew among persons, the whole pipeline: nothing may be told.

    Judged by one family-wise permutation p of the AUC farthest from 0.5, and not, as "intervals
    must contain .5" would have it, by each interval: of many 95 % intervals one in 20 misses 0.5 in
    a sound study. How many do is told.
    """
    name = "permuted labels"
    study = audit.reduced_study(audit.study.modalities)
    expected = f"no AUC of {audit.cheapest_network} differs from 0.5 (family-wise p ≥ {LEVEL})"
    cohort = permute_labels(audit.cohort, audit.random_stream("permuted labels"))
    try:
        splits = make_splits(cohort, study.split, study.modalities)
    except MgmtError as error:
        return Check(name, "not done", expected, f"permuted labels cannot be split ({error})")
    share_store(audit, "permuted")
    folder, _ = run_sub_study(audit, "permuted", study, cohort, splits)
    metrics = read_table(folder.ensembles / "metrics.csv", RUN_AGAIN)
    farthest, p = _most_extreme_auc(
        read_table(folder.ensembles / "predictions.csv", RUN_AGAIN), audit
    )
    rows = metrics.to_dict("records")
    apart = sum(read_interval(row, "auc").excludes(0.5) for row in rows)
    found = (
        f"AUC {metrics['auc'].min():.2f} to {metrics['auc'].max():.2f} on "
        f"{int(metrics['num_subjects'].max())} test subjects, {apart} of {len(rows)} 95 % "
        f"intervals exclude 0.5, family-wise permutation p = {p:.3f}"
    )
    if p >= LEVEL:
        return Check(name, "passed", expected, found)
    return Check(name, "failed", expected, found, f"{remedy_for_permuted(farthest)} {_BY_CHANCE}")


_BY_CHANCE = "By chance alone one sound study in 20 shows this: repeat with another --seed first."


def remedy_for_permuted(auc: float) -> str:
    """What an AUC of permuted labels that is not at chance asks for."""
    if auc > 0.5:
        return "Something other than images tells labels here, or the test set is seen in training."
    return (
        f"The AUC farthest from 0.5 is {auc:.2f}, below it: no leak, which would raise it. Labels "
        "are told the wrong way round: look for classes exchanged between training and prediction, "
        "and for splits that test more of a class where they train on fewer."
    )


def check_planted_signal(audit: AuditContext) -> Check:
    """Labels dealt anew, and a pattern in the tumours of those who are then methylated.

    What is found can only be what was planted, and no real label is used.
    """
    modality = audit.smallest_modality
    study = audit.reduced_study((modality,))
    study = study.model_copy(
        update={"split": study.split.model_copy(update={"outer_folds": 0, "drop_rest": False})}
    )
    name = "planted signal"
    expected = f"the AUC interval of {audit.cheapest_network} in {modality} is above 0.5"
    cohort = permute_labels(audit.cohort, audit.random_stream("planted signal"))
    try:
        (split,) = make_splits(cohort, study.split, study.modalities)
    except MgmtError as error:
        return Check(name, "not done", expected, f"permuted labels cannot be split ({error})")
    label = resolve_labels(split, cohort)
    plant_signal(audit, "planted", modality, {s for s, value in label.items() if value == 1})
    folder, _ = run_sub_study(audit, "planted", study, cohort, (split,))
    metrics = read_table(folder.ensembles / "metrics.csv", RUN_AGAIN)
    own = metrics[
        (metrics["ensemble"] == modality) & (metrics["network"] == audit.cheapest_network)
    ]
    auc = read_interval(own.iloc[0].to_dict(), "auc")
    found = f"AUC {auc}"
    if auc.low > 0.5:
        return Check(name, "passed", expected, found)
    remedy = (
        "This training would miss a signal that is plain to see, so its chance level says nothing "
        "about MGMT. Look at epochs.csv of its trials: more epochs, another learning rate."
    )
    if auc.high < 0.5:
        remedy = "The signal is told the wrong way round: look for classes that are exchanged."
    return Check(name, "failed", expected, found, remedy)


def check_test_set_isolation(audit: AuditContext) -> Check:
    """The same trainings in two worlds that differ in their test subjects only.

    A part stands for the whole: the modality that fewest subjects have, the cheapest network, outer
    split 0. Comparison models are not fitted there, and covariates of test subjects stay.
    """
    name = "test subjects change nothing"
    expected = "weights, epochs, members and thresholds are equal to the bit"
    modality = audit.smallest_modality
    split = audit.splits[0]
    tested = [s for s in split.test if s in set(audit.subjects_with(modality))]
    one, other = _cohort_variants(audit, split)
    share_store(audit, "world")
    replace_by_noise(audit, "other_world", modality, tested)
    worlds = _run_variants(audit, {"world": one, "other_world": other}, modality, split)
    trials = worlds[0][1]
    differ = list_differences(worlds[0][0], worlds[1][0], trials)
    said = (
        f"{len(trials)} trials of {audit.cheapest_network} in {modality} alone, outer split "
        f"{split.outer_fold}, {len(tested)} test subjects replaced by noise with the opposite "
        "labels "
        "(covariates not exchanged, comparison models not fitted)"
    )
    if any(subject.mask_kind == "predicted" for subject in audit.cohort.subjects):
        said += "; predicted masks are taken as they are, whoever their networks learnt from"
    if not differ:
        return Check(name, "passed", expected, f"{said}: nothing differs")
    found = f"{said}: {shorten_list(differ)} differ"
    if audit.context.resources.device != "cpu":
        remedy = "A GPU may round differently from run to run: repeat on the CPU (without --gpus)."
        return Check(name, "warning", expected, found, remedy)
    remedy = (
        "Something is fitted on test subjects: find what those files follow from, "
        f"in {audit.work_folder}."
    )
    return Check(name, "failed", expected, found, remedy)


def list_differences(one: StudyFolder, other: StudyFolder, trials: list[Trial]) -> list[str]:
    """What is not equal in two studies of the same plan, of all that must not see the test set.

    Raises:
        MgmtError: a table, or a column of it, that must be equal is not there in one of them.
    """
    names = []
    for trial in trials:
        metadata = [_fitted_values(folder.read_trial(trial.id)) for folder in (one, other)]
        if metadata[0] != metadata[1]:
            names.append(f"trial {trial.id}")
    for file, columns in TEST_INDEPENDENT_TABLES.items():
        contents = [_content(folder.ensembles / file, columns) for folder in (one, other)]
        if contents[0] != contents[1]:
            names.append(file)
    return names


def _fitted_values(description: Mapping[str, Any]) -> dict[str, Any]:
    fitted = ("weights_sha256", "selection", "status", "covariates", "standard_histogram")
    return {key: description.get(key) for key in fitted}


def _content(path: Path, columns: tuple[str, ...]) -> str:
    """A table's text, or that of its columns; two that are missing would be equal."""
    if not path.exists():
        raise MgmtError(f"{path}: not there, so it cannot be compared. {_RESTART}")
    if not columns:
        return path.read_text(encoding="utf-8")
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    missing = [name for name in columns if name not in table]
    if missing or table.empty:
        what = f"no column {', '.join(missing)}" if missing else "no rows"
        raise MgmtError(f"{path}: {what}, so it cannot be compared. {_RESTART}")
    return str(table[list(columns)].to_csv(index=False))


def _cohort_variants(audit: AuditContext, split: Split) -> tuple[Cohort, Cohort]:
    """Test subjects with labels that are dealt among them, and with the opposite of these."""
    tested = [s for s in audit.cohort.subjects if s.id in set(split.test)]
    order = audit.random_stream("test labels").permutation(len(tested))
    dealt = {s.id: (tested[i].label, tested[i].score) for s, i in zip(tested, order, strict=True)}
    cutoff = 0.0 if split.cutoff is None else split.cutoff
    opposite = {
        subject: (1 - label, None if score is None else 2 * cutoff - score)
        for subject, (label, score) in dealt.items()
    }
    return replace_labels(audit.cohort, dealt), replace_labels(audit.cohort, opposite)


def _run_variants(
    audit: AuditContext, cohorts: Mapping[str, Cohort], modality: str, split: Split
) -> list[tuple[StudyFolder, list[Trial]]]:
    study = audit.reduced_study((modality,))
    run = partial(run_sub_study, audit)
    return [run(name, study, cohort, (split,)) for name, cohort in cohorts.items()]


def _most_extreme_auc(predictions: pd.DataFrame, audit: AuditContext) -> tuple[float, float]:
    """The AUC that is farthest from 0.5 among all ensembles, and p corrected for their number."""
    wide = predictions.pivot(
        index=["network", "ensemble"], columns="subject", values="probability"
    ).dropna(axis=0)
    labels = predictions.drop_duplicates("subject").set_index("subject")["label"]
    own = labels[wide.columns].to_numpy(dtype=np.int64)
    random = audit.random_stream("permutation test")
    permuted = np.stack([random.permutation(own) for _ in range(PERMUTATIONS)])
    telling = associate_numbers(wide.to_numpy(dtype=float), own, permuted)
    distances = np.abs(telling.aucs - 0.5)
    farthest = int(distances.argmax())
    return float(telling.aucs[farthest]), familywise_p(
        float(distances[farthest]), telling.null_distances
    )
