"""The study under audit, the outcome of a check, and permutations of labels."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np

from mgmt_ray.base import MgmtError, fingerprint, stream
from mgmt_ray.cohort.cohort import Cohort, read_cohort
from mgmt_ray.nets.build import build_network
from mgmt_ray.pipeline.stages import current_splits
from mgmt_ray.preprocess.recipe import SliceRecipe
from mgmt_ray.preprocess.slice_store import SliceStore
from mgmt_ray.preprocess.volume_store import VolumeStore
from mgmt_ray.splits.split import Split, resolve_labels
from mgmt_ray.study.study_config import (
    PipelineName,
    SlicePipelineConfig,
    StudyConfig,
    StudyNetwork,
)
from mgmt_ray.trials.context import StudyContext
from mgmt_ray.trials.pipelines import pipelines_of

Outcome: TypeAlias = Literal["passed", "failed", "warning", "not done"]

NO_VOLUMES = "it uses prepared volumes, and no network of this study takes any"

LEVELS = {
    "duplicate persons": 0.01,
    "shortcuts": 0.01,
    "plain properties": 0.01,
    "permuted labels": 0.01,
}
"""Chance of a false alarm of each check on a sound study: together at most 0.05 (Bonferroni).

All others compare what must be equal, or count. The planted signals say what the study could find,
not whether it is sound.
"""


@dataclass(frozen=True, slots=True)
class Check:
    """The outcome of one check.

    Attributes:
        outcome: "warning" needs a look; "not done" is a check that this study does not allow.

    Examples:
        >>> print(Check("plausible AUC", "passed", "no AUC above 0.75", "the highest is 0.61"))
        passed    plausible AUC: the highest is 0.61.
    """

    name: str
    outcome: Outcome
    expected: str
    found: str
    remedy: str = ""

    def __str__(self) -> str:
        line = f"{self.outcome:<8}  {self.name}: {self.found}."
        if self.outcome in ("failed", "warning"):
            line += f" Expected: {self.expected}."
        return f"{line} {self.remedy}".rstrip()


@dataclass(frozen=True)
class AuditContext:
    """A prepared study under audit.

    Attributes:
        seed: of the audit's own random streams.
    """

    context: StudyContext
    cohort: Cohort
    splits: tuple[Split, ...]
    seed: int

    @property
    def study(self) -> StudyConfig:
        """The study's configuration."""
        return self.context.study

    @property
    def pipeline(self) -> PipelineName:
        """What the audit's trainings take: volumes, or slices if no network takes volumes."""
        return self.study.pipelines[0]

    @property
    def store(self) -> Path:
        """The folder of what the audit's trainings take, which has the pipeline's name."""
        return self.context.folder.root / self.pipeline

    @cached_property
    def work_folder(self) -> Path:
        """The folder of the audit's trainings, named after the seed, the study and its data."""
        stores = {m: _open_store(self.context, m).checksum for m in self.study.modalities}
        metadata = [self.study.model_dump(mode="json"), stores, [s.hash for s in self.splits]]
        return self.context.folder.root / "audit" / f"seed{self.seed}-{fingerprint(metadata)[:10]}"

    def random_stream(self, *purpose: str | int) -> np.random.Generator:
        """Return the random stream of a named purpose."""
        return stream(self.seed, "audit", *purpose)

    @cached_property
    def planted(self) -> tuple[str, ...]:
        """Modalities with a planted signal; empty for a real cohort."""
        path = self.context.folder.root / "planted.json"
        if not path.is_file():
            return ()
        strengths = json.loads(path.read_text(encoding="utf-8")).get("signal") or {}
        return tuple(modality for modality, strength in strengths.items() if strength)

    def subjects_with(self, modality: str) -> tuple[str, ...]:
        """Return the ids of the subjects with a modality, in the cohort's order."""
        return tuple(s.id for s in self.cohort.subjects if modality in s.scans)

    @cached_property
    def smallest_modality(self) -> str:
        """The modality that the fewest subjects have; the first of equals."""
        return min(self.study.modalities, key=lambda m: len(self.subjects_with(m)))

    @cached_property
    def trainable_networks(self) -> dict[str, StudyNetwork]:
        """The networks of the audit's pipeline whose pretrained weights, if any, are there."""
        study = self.study
        has_checkpoint = study.checkpoint is not None and study.checkpoint.is_file()
        return {
            name: config
            for name, config in study.networks_of(self.pipeline).items()
            if has_checkpoint or not config.pretrained
        }

    @cached_property
    def cheapest_by_kind(self) -> dict[str, str]:
        """The cheapest trainable network of each kind, the cheapest of all first.

        That is the one with the fewest parameters, or with the narrowest segmentation.
        """
        networks = self.trainable_networks
        cheapest: dict[str, str] = {}
        for name in sorted(networks, key=lambda name: _size(networks[name], self.study)):
            cheapest.setdefault(networks[name].kind, name)
        return cheapest

    @property
    def cheapest_network(self) -> str:
        """The cheapest trainable network.

        Raises:
            NoTrainableNetwork: all networks start from pretrained weights, and there are none.
        """
        if not self.cheapest_by_kind:
            raise NoTrainableNetwork
        return next(iter(self.cheapest_by_kind.values()))

    def reduced_study(self, modalities: tuple[str, ...], name: str = "") -> StudyConfig:
        """Return the study with one network, one repeat, and these modalities only.

        Args:
            name: of the network; the cheapest if empty.
        """
        study, name = self.study, name or self.cheapest_network
        network = study.networks[name]
        if network.start_from is not None:
            network = network.model_copy(update={"start_from": None})
        # left_out_with would count the labels that the audit permutes
        split = study.split.model_copy(update={"left_out_with": {}, "repeats": 1})
        inputs = tuple(c for c in study.inputs if set(c) <= {*modalities})
        return study.model_copy(
            update={
                "cohort": study.cohort.model_copy(update={"modalities": modalities}),
                "baselines": (),
                "external": {},
                "inputs": inputs if len(modalities) > 1 else (),
                "networks": {name: network},
                "num_seeds": 1,
                "mask_source": None,  # masks are prepared; the mask effect is not measured
                "slices": study.slices if self.pipeline == "slices" else SliceRecipe(),
                "split": split,
                "search": None,
            }
        )


class NoTrainableNetwork(MgmtError):
    """No network of the study can be trained without the pretrained weights."""

    def __init__(self) -> None:
        super().__init__(
            "every network starts from pretrained weights, and none are given. "
            "Give MedicalNet's .pth file with --checkpoint FILE."
        )


def open_audit(context: StudyContext, seed: int) -> AuditContext:
    """Open a prepared study for an audit, without changing it.

    Raises:
        MgmtError: the study is not prepared, or its folder was created with another study file.
    """
    cohort = read_cohort(context.folder.root, context.study.cohort.conventions)
    splits = current_splits(context, cohort)
    for modality in context.study.modalities:
        scanned = {s.id for s in cohort.subjects if modality in s.scans}
        missing = sorted(scanned - {*_open_store(context, modality).ids})
        if missing:
            raise MgmtError(
                f"{context.folder.root}: {', '.join(missing[:5])}: no prepared {modality}. "
                "Run `mgmt-ray prepare STUDY` first."
            )
    return AuditContext(context, cohort, splits, seed)


def _open_store(context: StudyContext, modality: str) -> VolumeStore | SliceStore:
    """Open the store that the audit's trainings read."""
    return pipelines_of(context.study)[0].open_store(context.folder, modality)


def permute_labels(cohort: Cohort, random: np.random.Generator) -> Cohort:
    """Return the cohort with its labels (and scores) permuted among the persons.

    Examples:
        >>> from mgmt_ray.cohort.subject import Subject
        >>> cohort = Cohort(tuple(Subject(f"P{i}", int(i < 2), {}, None) for i in range(4)))
        >>> permuted = permute_labels(cohort, np.random.default_rng(0))
        >>> sum(s.label for s in permuted.subjects)
        2
    """
    labels = {s.person: (s.label, s.score) for s in cohort.subjects}
    persons = sorted(labels)
    order = random.permutation(len(persons))
    permuted = {person: labels[persons[i]] for person, i in zip(persons, order, strict=True)}
    return replace_labels(cohort, {s.id: permuted[s.person] for s in cohort.subjects})


def replace_labels(cohort: Cohort, labels: Mapping[str, tuple[int, float | None]]) -> Cohort:
    """Return the cohort with other labels and scores, given by subject; all others keep theirs."""
    subjects = tuple(
        replace(s, label=labels[s.id][0], score=labels[s.id][1]) if s.id in labels else s
        for s in cohort.subjects
    )
    return Cohort(subjects, cohort.exclusions)


def permuted_label_rows(audit: AuditContext, ids: tuple[str, ...], number: int) -> np.ndarray:
    """Permute the labels of training subjects among their persons, a number of times.

    Returns:
        Labels [permutation, subject].
    """
    label = resolve_labels(audit.splits[0], audit.cohort)
    person = {s.id: s.person for s in audit.cohort.subjects}
    persons = sorted({person[i] for i in ids})
    column = {name: position for position, name in enumerate(persons)}
    by_person = np.zeros(len(persons), dtype=np.int64)
    for subject in ids:
        by_person[column[person[subject]]] = label[subject]
    random = audit.random_stream("shortcuts")
    permuted = np.stack([random.permutation(by_person) for _ in range(number)])
    return permuted[:, [column[person[i]] for i in ids]]


def _size(config: StudyNetwork, study: StudyConfig) -> int:
    if isinstance(config, SlicePipelineConfig):
        return config.width
    network = build_network(config, 1, study.training.temperature, study.checkpoint)
    return sum(p.numel() for p in network.parameters() if p.requires_grad)
