"""What every reader of a data set shares: its configuration, its result, complete groups."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

from pydantic import BeforeValidator, Field, field_validator

from mgmt_ray.base import Config, InputPath
from mgmt_ray.cohort.cohort import FIXED_COLUMNS, Exclusion
from mgmt_ray.cohort.csv_rows import printable
from mgmt_ray.cohort.dataset_files import missing_reason
from mgmt_ray.cohort.problem import SCAN_KINDS, Action, Problem, ProblemKind
from mgmt_ray.cohort.subject import MODALITY_GROUPS, Subject, group_modalities

RESERVED = ("cohort", *MODALITY_GROUPS, *FIXED_COLUMNS)
"""Names with a meaning of their own in the study's tables."""


def _check_quoted(ids: Any) -> Any:
    numbers = [name for name in ids if not isinstance(name, str)] if _is_list(ids) else []
    if numbers:
        # YAML reads 00123 as the octal number 83
        raise ValueError(f"{', '.join(map(str, numbers))}: write ids in quotes, like '00123'")
    return ids


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple)


MaskChoice: TypeAlias = Literal["given", "predicted", "predicted_where_missing"]
"""Where a cohort's masks come from."""

SubjectIds: TypeAlias = Annotated[tuple[str, ...], BeforeValidator(_check_quoted)]
"""Ids of subjects, in a configuration."""


class ReaderConfig(Config):
    """Where subjects come from, which of their scans are wanted, and what to do about faults."""

    available_modalities: ClassVar[tuple[str, ...]] = ()
    """Modalities that the data set has; empty: whatever the study names."""

    root: InputPath = Field(description="the data set's folder")
    modalities: tuple[str, ...] = Field(
        (), validate_default=True, description="scans to read; none named: all that there are"
    )
    exclude: SubjectIds = Field((), description="ids of subjects to leave out on purpose")
    rules: dict[ProblemKind, Action] = Field(
        {}, description="what to do about problems of a kind, instead of stopping"
    )
    crosswalk: InputPath | None = Field(
        None, description="CSV in which all ids in a row are one person (see ``persons``)"
    )
    mask: MaskChoice = Field(
        "given",
        description="given: a subject without a mask is a problem; predicted: networks of the "
        "study that `mask_source` names outline every tumour; predicted_where_missing: only those "
        "of subjects without a mask",
    )
    mask_labels: tuple[int, ...] = Field(
        (1, 2, 4), description="labels a given mask may have beside 0"
    )

    @property
    def groups(self) -> dict[str, tuple[str, ...]]:
        """The modalities by what is of use only together; a group is taken whole or not at all."""
        return group_modalities(self.modalities)

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
                raise ValueError(f"{kind}: keep_together is for same_person alone")
            if action == "exclude_scans" and kind not in SCAN_KINDS:
                raise ValueError(f"{kind}: is not of one scan; write exclude_subject")
        return rules


def check_modalities(modalities: tuple[str, ...], offered: tuple[str, ...]) -> None:
    """Refuse names that are no modality, a modality named twice, and an empty choice.

    Raises:
        ValueError: in words for a configuration's error; names what exists.
    """
    if not modalities:
        raise ValueError("no modality chosen; name the scans to read")
    unknown = [m for m in modalities if m not in offered]
    if unknown:
        raise ValueError(f"no modality {', '.join(unknown)}; there are {', '.join(offered)}")
    reserved = [m for m in modalities if m in RESERVED]
    if reserved:
        raise ValueError(f"{', '.join(reserved)}: means something else here; name it otherwise")
    odd = [m for m in modalities if not m.replace("-", "").replace("_", "").isalnum()]
    if odd:
        raise ValueError(f"{', '.join(odd)}: write letters, digits, - and _ only")
    twice = sorted({m for m in modalities if modalities.count(m) > 1})
    if twice:
        raise ValueError(f"{', '.join(twice)} named more than once; name each modality once")


@dataclass(frozen=True, slots=True)
class ReaderResult:
    """What a reader found; nothing is dropped in silence.

    Every id that the reader found is a subject, or has an exclusion of scope "cohort", or a
    problem.

    Attributes:
        subjects: with a label, at least one wanted scan and a mask, unless it is to be predicted;
            an id once.
        exclusions: selection as the data set's documentation or the study asks for it.
        problems: faults of tables and of missing files; a file's content is looked at later.
    """

    subjects: tuple[Subject, ...] = ()
    exclusions: tuple[Exclusion, ...] = ()
    problems: tuple[Problem, ...] = ()


def merge_results(readings: Iterable[ReaderResult]) -> ReaderResult:
    """Several subjects' readings as one, in their order."""
    parts = list(readings)
    return ReaderResult(
        tuple(subject for part in parts for subject in part.subjects),
        tuple(exclusion for part in parts for exclusion in part.exclusions),
        tuple(problem for part in parts for problem in part.problems),
    )


def exclude_subject(subject: str, reason: str) -> ReaderResult:
    """The reading of a subject that is excluded whole."""
    return ReaderResult(exclusions=(Exclusion(subject, "cohort", reason),))


def missing_mask_problem(
    subject: str,
    where: Path,
    found: str = "no tumour mask",
    remedy: str = "Copy the file there, or leave the subject out with cohort.exclude",
) -> Problem:
    """The problem of a subject without a mask."""
    return Problem(subject, "no_mask", printable(where), found, remedy)


def subject_result(
    subject: Subject, config: ReaderConfig, where: Path, mask_fault: Problem | None = None
) -> ReaderResult:
    """The reading of one subject, in which each group of modalities is whole or a problem.

    Args:
        subject: with every scan that was found, at least one of the wanted, and the mask that was
            found, if any was.
        config: of the reader.
        where: the folder or table in which the scans were looked for.
        mask_fault: why there is no mask, or which of several is meant is not known.
    """
    scans, lacks, problems = complete_groups(subject.id, subject.scans, config.groups, where)
    if subject.mask is not None:
        mask_fault = mask_fault or _missing_file_problem(subject.id, subject.mask)
    assert subject.mask is not None or mask_fault, f"{subject.id}: neither a mask nor why not"
    if config.mask == "predicted":
        subject = replace(subject, mask=None, given_mask=None if mask_fault else subject.mask)
        mask_fault = None
    elif config.mask == "predicted_where_missing" and subject.mask is None:
        mask_fault = None  # of a mask that is named, or there twice, something is to be mended
    if mask_fault:
        problems.append(mask_fault)
    if mask_fault or not scans:
        return ReaderResult(problems=tuple(problems))
    return ReaderResult((replace(subject, scans=scans),), tuple(lacks), tuple(problems))


def complete_groups(
    subject: str,
    found: Mapping[str, Path],
    groups: Mapping[str, tuple[str, ...]],
    where: Path,
) -> tuple[dict[str, Path], list[Exclusion], list[Problem]]:
    """Offer each group of modalities whole or not at all.

    Args:
        subject: its id.
        found: every scan that is on the disk, or should be.
        groups: modalities of the study, by what is of use only together.
        where: the folder or table in which the scans were looked for.

    Returns:
        The scans offered; an exclusion for each group of which there is nothing; a problem for each
        scan whose file cannot be had, and for each other group of which something is missing, which
        the rule ``missing_modality: exclude_scans`` leaves out.
    """
    offered: dict[str, Path] = {}
    exclusions: list[Exclusion] = []
    problems: list[Problem] = []
    for group, members in groups.items():
        missing = [m for m in members if m not in found]
        if len(missing) == len(members):
            exclusions.append(Exclusion(subject, group, f"no {group}"))
            continue
        own = {m: found[m] for m in members if m in found}
        absent = {m: fault for m in own if (fault := _missing_file_problem(subject, own[m], m))}
        offered |= {m: path for m, path in own.items() if m not in absent}
        problems += absent.values()
        # a file that cannot be had already stands for what its group lacks
        if missing and not absent:
            problems.append(
                Problem(
                    subject,
                    "missing_modality",
                    str(where),
                    f"incomplete {group}: {', '.join(missing)} missing",
                    "Copy the file there, or set cohort.rules.missing_modality: exclude_scans",
                    next(iter(own)),
                )
            )
    return offered, exclusions, problems


def _missing_file_problem(subject: str, path: Path, modality: str = "") -> Problem | None:
    fault = missing_reason(path)
    return Problem(subject, "no_file", printable(path), *fault, modality) if fault else None
