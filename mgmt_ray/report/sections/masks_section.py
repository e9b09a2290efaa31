"""The section on predicted tumour masks, and on their effect on the results."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from mgmt_ray.cohort.cohort import Cohort
from mgmt_ray.report.columns import columns, make_table, rounded, subjects
from mgmt_ray.report.html_table import Table
from mgmt_ray.report.section import Section
from mgmt_ray.report.study_files import read_json
from mgmt_ray.report.study_results import StudyResults
from mgmt_ray.selection.predictions import read_table
from mgmt_ray.splits.split import Split
from mgmt_ray.study.folder import StudyFolder


def masks_sections(out: Path, results: StudyResults) -> list[Section]:
    """Return the section on the masks' source and effect; empty if all masks are given.

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
        "source": _source_sentence(folder),
        "tested": _mask_overlap_note(folder, results.splits),
        "trained_on": _training_masks_sentence(results.cohort),
        "effect": None if effect is None else effect_table(effect),
        "left_out": _left_out_table(folder),
    }
    return [Section("masks", "Predicted tumour masks", content)]


def effect_table(effect: pd.DataFrame) -> Table:
    """Return AUCs of the same members and test subjects with given and with predicted masks."""
    cells = columns(
        *("network", "ensemble"),
        {"Subjects": subjects},
        *("auc_given", "auc_predicted", "difference", "p"),
        {"Mean change of\nprobability": rounded("mean_absolute_change", 4)},
        "median_dice",
    )
    caption = "AUC with given and with predicted masks at test time, the same models and subjects"
    return make_table("mask_effect", caption, cells, effect)


def _kinds_table(cohorts: Mapping[str, Cohort]) -> Table:
    rows = []
    for name, cohort in cohorts.items():
        counts = Counter(s.mask_kind for s in cohort.subjects)
        num_both = sum(s.given_mask is not None for s in cohort.subjects)
        rows.append((name, str(counts["given"]), str(counts["predicted"]), str(num_both)))
    header = ("Cohort", "Given mask", "Predicted mask", "of these with an unused given mask")
    return Table(
        "mask_kinds", "Subjects by the mask that was applied to their scans", header, tuple(rows)
    )


def _source_sentence(folder: StudyFolder) -> str:
    # masks of test subjects alone, where the study itself uses given ones
    index = read_json(folder.masks / "masks.json") or read_json(
        folder.masks / "alternate_masks.json"
    )
    if index is None:
        return "No mask of the study’s own cohort was predicted."
    counts = [len(mask["networks"]) for mask in index["subjects"].values()]
    low, high = min(counts, default=0), max(counts, default=0)
    num_networks = f"{low}" if low == high else f"{low} to {high}"
    return (
        f"Predicted masks come from the study `{index['study']}`: a mask is where the "
        f"mean probability of {num_networks} segmentations (network {index['network']}, "
        f"{index['modality']}) is at least 0.5. None of these networks was trained on, or had its "
        "epoch chosen by, a scan of that person. All masks and their sources are listed in the "
        "indexes in `masks/`."
    )


def _mask_overlap_note(folder: StudyFolder, splits: Sequence[Split]) -> str | None:
    """Count the test subjects that segmenters of this study's training subjects trained on."""
    index, trained_on = (read_json(folder.masks / name) for name in ("masks.json", "trained.json"))
    if index is None or trained_on is None:
        return None
    segmenters = {subject: set(mask["networks"]) for subject, mask in index["subjects"].items()}
    tested: set[str] = set()
    overlapping: set[str] = set()
    for split in splits:
        of_training = set().union(*(segmenters.get(subject, set()) for subject in split.training))
        tested |= {*split.test}
        overlapping |= {s for s in split.test if of_training & {*trained_on.get(s, ())}}
    return (
        f"{len(overlapping)} of {len(tested)} test subjects were used to train networks that "
        "segmented training subjects: their images and given masks were, never their methylation "
        "label."
    )


def _training_masks_sentence(cohort: Cohort) -> str:
    kinds = {s.mask_kind for s in cohort.subjects}
    if kinds == {"given"}:
        return (
            "The models were trained on volumes with given masks applied, so the column of "
            "predicted masks is what a site without annotators would get with these models. Models "
            "trained on predicted masks might differ."
        )
    if kinds == {"predicted"}:
        return (
            "The models were trained on volumes with predicted masks applied; the column of given "
            "masks says what annotators would change, for models never trained on such masks."
        )
    return (
        "The models were trained on volumes with given masks applied, and with predicted masks "
        "where there was no given one."
    )


def _left_out_table(folder: StudyFolder) -> Table | None:
    """Count the reasons why test subjects are not in the comparison; None if all are in it."""
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
