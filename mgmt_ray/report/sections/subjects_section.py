"""Who the subjects are: table 1 of Schmitz et al. 2024."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import mean, stdev

from mgmt_ray.cohort.covariates import age_in_years
from mgmt_ray.cohort.subject import Subject
from mgmt_ray.report.gather import StudyResults, has_only_slice_networks
from mgmt_ray.report.html_table import DASH, Table
from mgmt_ray.splits.split import resolve_labels
from mgmt_ray.statistics.published_results import (
    NUM_SUBJECTS,
    PAPER_AGE_BANDS,
    PAPER_CHARACTERISTICS,
)
from mgmt_ray.statistics.subgroups import UNKNOWN_LEVEL, subject_levels

PUBLISHED_CELLS: dict[str, tuple[str, str, str]] = {
    "male": ("62.5", "41.3", "58.7"),
    "female": ("37.5", "44.4", "55.6"),
    "18–29": ("2.5", "16.7", "83.3"),
    "30–49": ("9.6", "26.1", "73.9"),
    "50–69": ("60.8", "43.8", "56.2"),
    "70+": ("27.2", "47.7", "52.3"),
}
"""Percentages as table 1 prints them: of all, methylated, unmethylated. 65 of 240 are 27.1 %."""


def patients_table(results: StudyResults) -> Table:
    """Sex and age bands by methylation of all who train or are tested, beside the paper's.

    Percentages of subjects are of all of them, those of methylated and unmethylated of the row.
    Where each split fits a cut-off for the labels, they are those of the first split.
    """
    split = results.splits[0]
    used = {i for s in results.splits for i in (*s.training, *s.test)}
    subjects = [s for s in results.cohort.subjects if s.id in used]
    label = resolve_labels(split, results.cohort)
    sexes, bands = sorted_by_sex(subjects), sorted_by_age(subjects)
    rows = []
    for name, who in {"all": subjects, **sexes, **bands}.items():
        if not who and name not in PAPER_CHARACTERISTICS:
            continue
        methylated = sum(label[s.id] for s in who)
        ours = _cells(methylated, len(who) - methylated, len(subjects))
        rows.append((_row_label(name), *ours, *_published(name)))
    header = ("Characteristic", "Subjects", "Methylated", "Unmethylated")
    theirs = tuple(f"paper's\n{cell.lower()}" for cell in header[1:])
    if has_only_slice_networks(results):  # whose paper has no such table
        own = tuple(row[: len(header)] for row in rows)
        return Table("patients", "Characteristics of the subjects", header, own)
    caption = "Characteristics of the subjects, beside table 1 of the paper"
    return Table("patients", caption, (*header, *theirs), tuple(rows))


def sorted_by_sex(subjects: Iterable[Subject]) -> dict[str, list[Subject]]:
    """Subjects by male, female and unknown sex."""
    found: dict[str, list[Subject]] = {"male": [], "female": [], "sex not known": []}
    for subject in subjects:
        sex = subject_levels(subject)["sex"]
        found["sex not known" if sex == UNKNOWN_LEVEL else sex].append(subject)
    return found


def sorted_by_age(subjects: Iterable[Subject]) -> dict[str, list[Subject]]:
    """Subjects by the paper's bands of age in years; younger and unknown ones apart."""
    names = ("under 18", *PAPER_AGE_BANDS, "age not known")
    found: dict[str, list[Subject]] = {name: [] for name in names}
    for subject in subjects:
        years = age_in_table(subject)
        bands = [n for n, (low, high) in PAPER_AGE_BANDS.items() if low <= years < high]
        other = "age not known" if math.isnan(years) else "under 18"
        found[bands[0] if bands else other].append(subject)
    return found


def age_in_table(subject: Subject) -> float:
    """Years as the cohort's table has them; NaN where it has none, or something else."""
    known = {name.lower(): text for name, text in subject.covariates.items()}
    return age_in_years(known.get("age", ""))


def _cells(methylated: int, unmethylated: int, total: int) -> tuple[str, str, str]:
    number = methylated + unmethylated
    return (share(number, total), share(methylated, number), share(unmethylated, number))


def _published(name: str) -> tuple[str, str, str]:
    if name == "all":  # which the paper does not print
        sexes = [PAPER_CHARACTERISTICS[sex] for sex in ("male", "female")]
        return _cells(sum(m for m, _ in sexes), sum(u for _, u in sexes), NUM_SUBJECTS)
    if name not in PAPER_CHARACTERISTICS:
        return (DASH, DASH, DASH)
    methylated, unmethylated = PAPER_CHARACTERISTICS[name]
    numbers = (methylated + unmethylated, methylated, unmethylated)
    first, second, third = (
        f"{number} ({share} %)"
        for number, share in zip(numbers, PUBLISHED_CELLS[name], strict=True)
    )
    return first, second, third


def share(number: int, of: int) -> str:
    """A number of subjects, and its percentage where there are any."""
    return f"{number} ({100 * number / of:.1f} %)" if of else str(number)


def _row_label(name: str) -> str:
    return f"{name} years" if name in PAPER_AGE_BANDS or name == "under 18" else name


def partitions_table(results: StudyResults) -> Table:
    """Number, methylated, sex and age of each partition; a row per partition of each split.

    Labels are those that the row's split fitted, where splits fit any. The deviation of age is the
    sample's; age is of those whose age is known.
    """
    by_id = {subject.id: subject for subject in results.cohort.subjects}
    rows = []
    for split in results.splits:
        label = resolve_labels(split, results.cohort)
        named = f", split {split.outer_fold}" if len(results.splits) > 1 else ""
        for name, ids in (
            ("training", split.training),
            ("test", split.test),
            ("left out", split.left_out),
        ):
            who = [by_id[i] for i in ids]
            rows.append((f"{name}{named}", *_characteristics(who, label)))
    header = (
        "Partition",
        "Subjects",
        "Methylated",
        "Male",
        "Female",
        "Sex not known",
        "Age in years,\nmean (deviation)",
        "Age not known",
    )
    caption = "Characteristics of the subjects by partition"
    return Table("partitions", caption, header, tuple(rows))


def _characteristics(subjects: Sequence[Subject], label: Mapping[str, int]) -> tuple[str, ...]:
    ages = [age_in_table(subject) for subject in subjects]
    known = [age for age in ages if not math.isnan(age)]
    deviation = f"{stdev(known):.1f}" if len(known) > 1 else DASH
    return (
        str(len(subjects)),
        share(sum(label[s.id] for s in subjects), len(subjects)),
        *(share(len(who), len(subjects)) for who in sorted_by_sex(subjects).values()),
        f"{mean(known):.1f} ({deviation})" if known else DASH,
        str(len(ages) - len(known)),
    )
