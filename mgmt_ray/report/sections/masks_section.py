"""The section on tumour masks that networks predicted, and on what that does to results."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from mgmt_ray.cohort.cohort import Cohort
from mgmt_ray.figures.style import network_label
from mgmt_ray.report.cautions import pooled_splits
from mgmt_ray.report.gather import StudyResults
from mgmt_ray.report.html_table import Table, number, p_value, with_interval
from mgmt_ray.report.section import Section
from mgmt_ray.report.study_files import read_json
from mgmt_ray.selection.predictions import read_table
from mgmt_ray.splits.split import Split
from mgmt_ray.study.folder import StudyFolder


def masks_sections(out: Path, results: StudyResults) -> list[Section]:
    """Where masks come from and what predicted ones cost; nothing where no mask is predicted.

    Args:
        out: the study's folder.
        results: read from there.

    Raises:
        MgmtError: a file of the masks is damaged.
    """
    if not results.config.get("mask_source"):
        return []
    folder = StudyFolder(out)
    cohorts = {"the study's own cohort": results.cohort}
    cohorts |= {name: external.cohort for name, external in results.external.items()}
    effect = results.tables.get("mask_effect")
    content = {
        "kinds": _kinds_table(cohorts),
        "source": _source(folder),
        "tested": _mask_overlap_note(folder, results.splits),
        "trained_on": _trained_on(results.cohort),
        "effect": None if effect is None else effect_table(effect),
        "left_out": _left_out_table(folder),
        "pooled": pooled_splits(results),
    }
    return [Section("masks", "Predicted tumour masks", content)]


def effect_table(effect: pd.DataFrame) -> Table:
    """The same members on the same test subjects, cut with given and with predicted masks."""
    rows = tuple(_effect(row) for row in effect.to_dict("records"))
    header = (
        "Network",
        "Ensemble",
        "Subjects",
        "AUC, given",
        "AUC, predicted",
        "Predicted − given",
        "DeLong p",
        "Mean change of\nprobability",
        "Median Dice",
    )
    caption = "AUC with given and with predicted masks at test time, the same models and subjects"
    return Table("mask_effect", caption, header, rows)


def _effect(row: Mapping[Hashable, Any]) -> tuple[str, ...]:
    return (
        network_label(row["network"]),
        row["ensemble"],
        f"{row['num_subjects']} ({row['num_methylated']})",
        number(row["auc_given"]),
        number(row["auc_predicted"]),
        with_interval(row, "difference"),
        p_value(row["p"]),
        number(row["mean_absolute_change"], 4),
        number(row["median_dice"]),
    )


def _kinds_table(cohorts: Mapping[str, Cohort]) -> Table:
    rows = []
    for name, cohort in cohorts.items():
        counted = Counter(s.mask_kind for s in cohort.subjects)
        number_of_both = sum(s.given_mask is not None for s in cohort.subjects)
        rows.append((name, str(counted["given"]), str(counted["predicted"]), str(number_of_both)))
    header = ("Cohort", "Given mask", "Predicted mask", "of these a given one unused")
    return Table("mask_kinds", "Subjects by the mask that they were cut with", header, tuple(rows))


def _source(folder: StudyFolder) -> str:
    index = read_json(folder.masks / "masks.json")
    if index is None:
        return "No mask of the study’s own cohort was predicted."
    used = [set(told["networks"]) for told in index["subjects"].values()]
    numbers = [len(names) for names in used if names <= {*index["weights_sha256"]}]
    low, high = min(numbers, default=0), max(numbers, default=0)
    several = f"{low}" if low == high else f"{low} to {high}"
    return (
        f"Predicted masks come from the study `{index['study']}`: a mask is where the "
        f"mean probability of {several} segmentations (network {index['network']}, "
        f"{index['modality']}) is at least 0.5. No network of these trained on a scan of that "
        "person, and the epoch of none was chosen by one. Which masks there are, and what they "
        "follow from, is in `masks/masks.json`."
    )


def _mask_overlap_note(folder: StudyFolder, splits: Sequence[Split]) -> str | None:
    """How many test subjects trained networks that outlined subjects who train here."""
    index, trained = (read_json(folder.masks / name) for name in ("masks.json", "trained.json"))
    if index is None or trained is None:
        return None
    by = {subject: set(told["networks"]) for subject, told in index["subjects"].items()}
    tested: set[str] = set()
    concerned: set[str] = set()
    for split in splits:
        outlined_by = set().union(*(by.get(subject, set()) for subject in split.training))
        tested |= {*split.test}
        concerned |= {s for s in split.test if outlined_by & {*trained.get(s, ())}}
    return (
        f"{len(concerned)} of {len(tested)} test subjects helped to train segmentations that "
        "outlined training subjects: their images and given masks did, never their label of "
        "methylation."
    )


def _trained_on(cohort: Cohort) -> str:
    kinds = {s.mask_kind for s in cohort.subjects}
    if kinds == {"given"}:
        return (
            "The models were trained on volumes cut with given masks, so the column of predicted "
            "ones is what a site without annotators would get with them. It is not what models "
            "would reach that were trained on predicted masks too."
        )
    if kinds == {"predicted"}:
        return (
            "The models were trained on volumes cut with predicted masks; the column of given ones "
            "says what annotators would change, for models that have never seen such masks."
        )
    return (
        "The models were trained on volumes cut with given masks, and with predicted ones where "
        "there was no given one."
    )


def _left_out_table(folder: StudyFolder) -> Table | None:
    """Why test subjects are not in the comparison; None if all are."""
    path = folder.mask_effect.root / "subjects.csv"
    if not path.is_file():
        return None
    reasons = read_table(path, "mgmt-ray ensemble STUDY")["left_out_because"].dropna()
    counts = Counter(str(reason) for reason in reasons if str(reason))
    if not counts:
        return None
    rows = tuple((reason, str(n)) for reason, n in counts.most_common())
    header = ("Reason", "Subjects")
    return Table("mask_effect_left_out", "Test subjects without both masks", header, rows, True)
