"""Sex, age and methylation of the subjects, next to table 1 of Schmitz et al. 2024."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import mean, stdev

from mgmt_ray.cohort.covariates import age_in_years
from mgmt_ray.cohort.subject import Subject
from mgmt_ray.report.html_table import DASH, Table, beside_paper
from mgmt_ray.report.study_results import StudyResults, is_of_paper
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
"""Percentages as table 1 prints them: of all, methylated, unmethylated (65 of 240 are 27.1 %)."""


def patients_table(results: StudyResults) -> Table:
    """Count training and test subjects by sex, age band and methylation, next to the paper's.

    Percentages of subjects are of all of them, those of methylated and unmethylated of the row. If
    each split fits a cut-off for the labels, the labels are those of the first split.
    """
    split = results.splits[0]
    used = {i for s in results.splits for i in (*s.training, *s.test)}
    subjects = [s for s in results.cohort.subjects if s.id in used]
    label = resolve_labels(split, results.cohort)
    sexes, bands = sorted_by_sex(subjects), sorted_by_age(subjects)
    rows = []
    for name, group in {"all": subjects, **sexes, **bands}.items():
        if not group and name not in PAPER_CHARACTERISTICS:
            continue
        methylated = sum(label[s.id] for s in group)
        cells = _cells(methylated, len(group) - methylated, len(subjects))
        rows.append((_row_label(name), *cells, *_published(name)))
    header = ("Characteristic", "Subjects", "Methylated", "Unmethylated")
    published = tuple(f"paper's\n{cell.lower()}" for cell in header[1:])
    caption = "Characteristics of the subjects"
    table = Table("patients", caption, (*header, *published), tuple(rows))
    return beside_paper(table, is_of_paper(results), "table 1")


def sorted_by_sex(subjects: Iterable[Subject]) -> dict[str, list[Subject]]:
    """Group subjects by male, female and unknown sex.

    >>> from pathlib import Path
    >>> subject = Subject("S1", 1, {}, Path("mask.nii.gz"), {"sex": "F"})
    >>> {sex: len(group) for sex, group in sorted_by_sex([subject]).items()}
    {'male': 0, 'female': 1, 'sex unknown': 0}
    """
    groups: dict[str, list[Subject]] = {"male": [], "female": [], "sex unknown": []}
    for subject in subjects:
        sex = subject_levels(subject)["sex"]
        groups["sex unknown" if sex == UNKNOWN_LEVEL else sex].append(subject)
    return groups


def sorted_by_age(subjects: Iterable[Subject]) -> dict[str, list[Subject]]:
    """Group subjects by the paper's bands of age in years, under 18 and unknown age."""
    names = ("under 18", *PAPER_AGE_BANDS, "age unknown")
    groups: dict[str, list[Subject]] = {name: [] for name in names}
    for subject in subjects:
        years = age_in_table(subject)
        bands = [n for n, (low, high) in PAPER_AGE_BANDS.items() if low <= years < high]
        other = "age unknown" if math.isnan(years) else "under 18"
        groups[bands[0] if bands else other].append(subject)
    return groups


def age_in_table(subject: Subject) -> float:
    """Return the age in years from the cohort's table; NaN if it is missing or not a number.

    >>> from pathlib import Path
    >>> age_in_table(Subject("S1", 1, {}, Path("mask.nii.gz"), {"Age": "61.5"}))
    61.5
    """
    covariates = {name.lower(): text for name, text in subject.covariates.items()}
    return age_in_years(covariates.get("age", ""))


def _cells(methylated: int, unmethylated: int, total: int) -> tuple[str, str, str]:
    count = methylated + unmethylated
    return (share(count, total), share(methylated, count), share(unmethylated, count))


def _published(name: str) -> tuple[str, str, str]:
    if name == "all":  # which the paper does not print
        sexes = [PAPER_CHARACTERISTICS[sex] for sex in ("male", "female")]
        return _cells(sum(m for m, _ in sexes), sum(u for _, u in sexes), NUM_SUBJECTS)
    if name not in PAPER_CHARACTERISTICS:
        return (DASH, DASH, DASH)
    methylated, unmethylated = PAPER_CHARACTERISTICS[name]
    counts = (methylated + unmethylated, methylated, unmethylated)
    first, second, third = (
        f"{count} ({percentage} %)"
        for count, percentage in zip(counts, PUBLISHED_CELLS[name], strict=True)
    )
    return first, second, third


def share(count: int, total: int) -> str:
    """Format a number of subjects with its percentage, without that if the total is 0.

    >>> share(65, 240), share(0, 0)
    ('65 (27.1 %)', '0')
    """
    return f"{count} ({100 * count / total:.1f} %)" if total else str(count)


def _row_label(name: str) -> str:
    return f"{name} years" if name in PAPER_AGE_BANDS or name == "under 18" else name


def partitions_table(results: StudyResults) -> Table:
    """Count subjects by methylation, sex and age, with a row per partition of each split.

    Labels are those of the row's split, if splits fit cut-offs. The standard deviation of age (n −
    1) and its mean are over subjects of known age.
    """
    by_id = {subject.id: subject for subject in results.cohort.subjects}
    rows = []
    for split in results.splits:
        label = resolve_labels(split, results.cohort)
        suffix = f", split {split.outer_fold}" if len(results.splits) > 1 else ""
        for name, ids in (
            ("training", split.training),
            ("test", split.test),
            ("left out", split.left_out),
        ):
            subjects = [by_id[i] for i in ids]
            rows.append((f"{name}{suffix}", *_characteristics(subjects, label)))
    header = (
        "Partition",
        "Subjects",
        "Methylated",
        "Male",
        "Female",
        "Sex unknown",
        "Age in years, mean\n(standard deviation)",
        "Age unknown",
    )
    caption = "Characteristics of the subjects by partition"
    return Table("partitions", caption, header, tuple(rows))


def _characteristics(subjects: Sequence[Subject], label: Mapping[str, int]) -> tuple[str, ...]:
    ages = [age_in_table(subject) for subject in subjects]
    known = [age for age in ages if not math.isnan(age)]
    std = f"{stdev(known):.1f}" if len(known) > 1 else DASH
    return (
        str(len(subjects)),
        share(sum(label[s.id] for s in subjects), len(subjects)),
        *(share(len(group), len(subjects)) for group in sorted_by_sex(subjects).values()),
        f"{mean(known):.1f} ({std})" if known else DASH,
        str(len(ages) - len(known)),
    )
