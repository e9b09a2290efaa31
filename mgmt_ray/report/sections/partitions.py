"""Who the subjects of each partition are: those who train, are tested and are left out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import mean, stdev

from mgmt_ray.cohort.subject import Subject
from mgmt_ray.report.gather import StudyResults
from mgmt_ray.report.html_table import NOTHING, Table
from mgmt_ray.report.sections.patients import age_in_table, share, sorted_by_sex
from mgmt_ray.splits.split import label_by_training


def partitions_table(results: StudyResults) -> Table:
    """Number, methylated, sex and age of each partition; a row per partition of each split.

    Labels are those that the row's split fitted, where splits fit any. The deviation of age is the
    sample's; age is of those whose age is known.
    """
    by_id = {subject.id: subject for subject in results.cohort.subjects}
    rows = []
    for split in results.splits:
        label = label_by_training(split, results.cohort)
        named = f", split {split.outer}" if len(results.splits) > 1 else ""
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
    deviation = f"{stdev(known):.1f}" if len(known) > 1 else NOTHING
    return (
        str(len(subjects)),
        share(sum(label[s.id] for s in subjects), len(subjects)),
        *(share(len(who), len(subjects)) for who in sorted_by_sex(subjects).values()),
        f"{mean(known):.1f} ({deviation})" if known else NOTHING,
        str(len(ages) - len(known)),
    )
