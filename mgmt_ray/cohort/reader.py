"""The parts shared by all readers of data sets: configuration, result, complete groups."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

from pydantic import BeforeValidator, Field, PositiveInt, field_validator, model_validator

from mgmt_ray.base import Config, InputPath, later_key
from mgmt_ray.cohort.cohort import FIXED_COLUMNS, Exclusion
from mgmt_ray.cohort.csv_rows import printable
from mgmt_ray.cohort.dataset_files import missing_reason
from mgmt_ray.cohort.problem import SCAN_KINDS, Action, Problem, ProblemKind
from mgmt_ray.cohort.subject import (
    MODALITY_GROUPS,
    Form,
    ScanConventions,
    Subject,
    group_modalities,
)

RESERVED = ("cohort", *MODALITY_GROUPS, *FIXED_COLUMNS)
"""Names of columns and scopes in the study's tables, which no modality may have."""


def _check_quoted(ids: Any) -> Any:
    numbers = [i for i in ids if not isinstance(i, str)] if isinstance(ids, list | tuple) else []
    if numbers:
        # YAML reads 00123 as the octal number 83
        raise ValueError(f"{', '.join(map(str, numbers))}: write ids in quotes, like '00123'")
    return ids


MaskChoice: TypeAlias = Literal["given", "predicted", "predicted_where_missing"]
"""Origin of a cohort's tumour masks."""

LabelPreset: TypeAlias = Literal["brats2021", "brats2023"]


class LabelMap(Config):
    """Which label of a mask is which part of the tumour.

    >>> LabelMap(necrosis=1, edema=2, enhancing=3, other=(4,)).all_labels
    (1, 2, 3, 4)
    """

    necrosis: PositiveInt
    edema: PositiveInt
    enhancing: PositiveInt
    other: tuple[PositiveInt, ...] = Field(
        (), description="labels that are tumour, but none of the three parts"
    )

    @property
    def parts(self) -> dict[str, int]:
        """Label of each part, by name."""
        return {n: getattr(self, n) for n in ("necrosis", "edema", "enhancing")}

    @property
    def all_labels(self) -> tuple[int, ...]:
        """All labels that a mask may have in addition to 0."""
        return (*self.parts.values(), *self.other)

    @model_validator(mode="after")
    def _check_distinct(self) -> LabelMap:
        if len(set(self.all_labels)) < len(self.all_labels):
            raise ValueError("a label is named twice; give each part its own")
        return self


LABEL_PRESETS: dict[LabelPreset, LabelMap] = {
    "brats2021": LabelMap(necrosis=1, edema=2, enhancing=4),
    "brats2023": LabelMap(necrosis=1, edema=2, enhancing=3),
}
"""Labels of BraTS up to 2021, UPENN-GBM, UCSF-PDGM and TCGA-GBM, and of BraTS from 2023."""

MaskLabels: TypeAlias = LabelPreset | LabelMap | tuple[int, ...]

SubjectIds: TypeAlias = Annotated[tuple[str, ...], BeforeValidator(_check_quoted)]
"""Ids of subjects in a configuration, where YAML may turn unquoted ones into numbers."""


class ReaderConfig(Config):
    """A data set's folder, the modalities to read, exclusions, and rules for problems."""

    available_modalities: ClassVar[tuple[str, ...]] = ()
    """Modalities that the data set has; empty: any that the study names."""

    root: InputPath = Field(description="the data set's folder")
    modalities: tuple[str, ...] = Field(
        (), validate_default=True, description="scans to read; empty: all that the data set has"
    )
    exclude: SubjectIds = Field((), description="ids of subjects to leave out on purpose")
    rules: dict[ProblemKind, Action] = Field(
        {}, description="actions for problems of a kind, instead of stopping"
    )
    whole_groups: bool = later_key(
        True,
        description="use the scans of a modality group (Struct, DTI, DSC) only together; false "
        "takes what there is of each subject",
    )
    crosswalk: InputPath | None = Field(
        None, description="CSV in which all ids in a row are one person (see ``persons``)"
    )
    mask: MaskChoice = Field(
        "given",
        description="given: a subject without a mask is a problem; predicted: networks of the "
        "study in `mask_source` segment every tumour; predicted_where_missing: only the tumours of "
        "subjects without a mask",
    )
    mask_labels: MaskLabels = Field(
        "brats2021",
        description="labels that a given mask may have in addition to 0, and which is which: "
        "brats2021 (1 necrosis, 2 edema, 4 enhancing tumour), brats2023 (3 is enhancing tumour) or "
        "a mapping {necrosis: 1, edema: 2, enhancing: 4, other: []}; a mere list does not say "
        "which is which",
    )

    trust_form: Form | None = Field(
        None,
        description="which of the two forms of a NIfTI header holds where they disagree or none is "
        "declared; without it such a file is a problem",
    )
    background: float = Field(
        0.0,
        allow_inf_nan=False,
        description="value of the scans where there is no tissue; it is read as 0",
    )

    @property
    def label_map(self) -> LabelMap | None:
        """Which label is which; None where only their numbers are known."""
        match self.mask_labels:
            case str(preset):
                return LABEL_PRESETS[preset]
            case LabelMap() as labels:
                return labels
            case labels:
                # what study files said before there were presets
                return LABEL_PRESETS["brats2021"] if set(labels) == {1, 2, 4} else None

    @property
    def known_labels(self) -> tuple[int, ...]:
        """Labels that a given mask may have in addition to 0."""
        if isinstance(self.mask_labels, tuple):
            return self.mask_labels
        assert self.label_map is not None
        return self.label_map.all_labels

    @property
    def conventions(self) -> ScanConventions:
        """How the data set's files are to be read."""
        return ScanConventions(self.trust_form, self.background)

    @property
    def groups(self) -> dict[str, tuple[str, ...]]:
        """Modalities that are used only together; a group is read completely or not at all."""
        if not self.whole_groups:
            return {modality: (modality,) for modality in self.modalities}
        return group_modalities(self.modalities)

    @field_validator("mask_labels", mode="before")
    @classmethod
    def _check_preset(cls, labels: Any) -> Any:
        if isinstance(labels, str) and labels not in LABEL_PRESETS:
            raise ValueError(
                f"no such preset; write {' or '.join(LABEL_PRESETS)}, a mapping like "
                "{necrosis: 1, edema: 2, enhancing: 4}, or a list of labels"
            )
        return labels

    @field_validator("modalities")
    @classmethod
    def _check_modalities(cls, modalities: tuple[str, ...]) -> tuple[str, ...]:
        chosen = modalities or cls.available_modalities
        check_modalities(chosen, cls.available_modalities or chosen)
        return chosen

    @field_validator("rules")
    @classmethod
    def _check_rules(cls, rules: dict[ProblemKind, Action]) -> dict[ProblemKind, Action]:
        for kind, action in rules.items():
            if action == "keep_together" and kind != "same_person":
                raise ValueError(f"{kind}: keep_together is only for same_person")
            if action == "exclude_scans" and kind not in SCAN_KINDS:
                raise ValueError(
                    f"{kind}: is not a problem of a single scan; write exclude_subject"
                )
        return rules


class TwoMasksConfig(ReaderConfig):
    """A data set with an automatic mask of each subject, and a corrected one of some."""

    corrected_masks: bool = later_key(
        True,
        description="take the manually corrected mask where there is one; false takes automatic "
        "masks alone",
    )


def check_modalities(modalities: tuple[str, ...], available: tuple[str, ...]) -> None:
    """Check that modalities exist, are listed once, and have usable names.

    Raises:
        ValueError: with a message for the user.

    >>> check_modalities(("FLAIR", "FLAIR"), ("T1", "FLAIR"))
    Traceback (most recent call last):
    ValueError: FLAIR listed more than once; list each modality once
    """
    if not modalities:
        raise ValueError("no modality given; list the scans to read")
    unknown = [m for m in modalities if m not in available]
    if unknown:
        raise ValueError(f"no modality {', '.join(unknown)}; available: {', '.join(available)}")
    reserved = [m for m in modalities if m in RESERVED]
    if reserved:
        raise ValueError(f"{', '.join(reserved)}: reserved name; rename the modality")
    invalid = [m for m in modalities if not m.replace("-", "").replace("_", "").isalnum()]
    if invalid:
        raise ValueError(f"{', '.join(invalid)}: write letters, digits, - and _ only")
    duplicates = sorted({m for m in modalities if modalities.count(m) > 1})
    if duplicates:
        raise ValueError(f"{', '.join(duplicates)} listed more than once; list each modality once")


@dataclass(frozen=True, slots=True)
class ReaderResult:
    """Subjects, exclusions and problems of a data set.

    No id is dropped silently: each is a subject, or has an exclusion of scope "cohort" or a
    problem.

    Attributes:
        subjects: with a label, at least one of the study's modalities, and a mask unless it is to
            be predicted; each id once.
        exclusions: as the data set's documentation or the study requires.
        problems: faults of tables and missing files; the content of files is checked later.
    """

    subjects: tuple[Subject, ...] = ()
    exclusions: tuple[Exclusion, ...] = ()
    problems: tuple[Problem, ...] = ()


def merge_results(results: Iterable[ReaderResult]) -> ReaderResult:
    """Concatenate the results of several subjects."""
    parts = list(results)
    return ReaderResult(
        tuple(subject for part in parts for subject in part.subjects),
        tuple(exclusion for part in parts for exclusion in part.exclusions),
        tuple(problem for part in parts for problem in part.problems),
    )


def exclude_subject(subject: str, reason: str) -> ReaderResult:
    """Return the result of a subject that is excluded entirely."""
    return ReaderResult(exclusions=(Exclusion(subject, "cohort", reason),))


def reason_without_scans(
    scans: Mapping[str, Path], config: ReaderConfig, nothing: str = "no scans"
) -> str:
    """Return why a subject is excluded for the scans it has; empty if the study can use one."""
    if set(config.modalities) & set(scans):
        return ""
    return "none of the study's modalities" if scans else nothing


def missing_mask_problem(
    subject: str,
    where: Path,
    found: str = "no tumour mask",
    remedy: str = "Copy the file there",
) -> Problem:
    """Return the problem of a subject without a mask."""
    return Problem(subject, "no_mask", printable(where), found, remedy)


def subject_result(
    subject: Subject, config: ReaderConfig, where: Path, mask_fault: Problem | None = None
) -> ReaderResult:
    """Return the result of one subject, with each group of modalities complete or a problem.

    Args:
        subject: with all its scans, of which the study asks for at least one, and its mask if any.
        mask_fault: why there is no mask, or why it is ambiguous.
    """
    scans, exclusions, problems = _complete_groups(subject, config.groups, where)
    if subject.mask is not None:
        mask_fault = mask_fault or _file_problem(subject.id, subject.mask)
    assert subject.mask is not None or mask_fault, f"{subject.id}: neither a mask nor a fault"
    if config.mask == "predicted":
        subject = replace(subject, mask=None, given_mask=None if mask_fault else subject.mask)
        mask_fault = None
    elif config.mask == "predicted_where_missing" and subject.mask is None:
        mask_fault = None  # a mask that is named but missing, or ambiguous, stays a problem
    if mask_fault:
        problems.append(mask_fault)
    if mask_fault or not scans:
        return ReaderResult(problems=tuple(problems))
    subject = replace(subject, scans=scans, conventions=config.conventions)
    return ReaderResult((subject,), tuple(exclusions), tuple(problems))


def _complete_groups(
    subject: Subject, groups: Mapping[str, tuple[str, ...]], where: Path
) -> tuple[dict[str, Path], list[Exclusion], list[Problem]]:
    """Select the scans of a subject's groups, which may be missing on disk.

    A group without any scan is excluded; each missing file is a problem, and each other incomplete
    group, which the rule ``missing_modality: exclude_scans`` excludes.
    """
    available: dict[str, Path] = {}
    exclusions: list[Exclusion] = []
    problems: list[Problem] = []
    for group, members in groups.items():
        paths = {m: subject.scans[m] for m in members if m in subject.scans}
        missing = [m for m in members if m not in paths]
        if not paths:
            exclusions.append(Exclusion(subject.id, group, f"no {group}"))
            continue
        faults = {m: f for m, path in paths.items() if (f := _file_problem(subject.id, path, m))}
        available |= {m: path for m, path in paths.items() if m not in faults}
        problems += faults.values()
        # a missing file is already the group's problem
        if missing and not faults:
            found = f"incomplete {group}: {', '.join(missing)} missing"
            setting = "set cohort.rules.missing_modality: exclude_scans"
            advice = "Copy the file there", next(iter(paths)), setting
            problems.append(Problem(subject.id, "missing_modality", str(where), found, *advice))
    return available, exclusions, problems


def _file_problem(subject: str, path: Path, modality: str = "") -> Problem | None:
    fault = missing_reason(path)
    return Problem(subject, "no_file", printable(path), *fault, modality) if fault else None
