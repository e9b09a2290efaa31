"""One check of an audit, and its words."""

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
from mgmt_ray.nets.build import NetworkConfig, build_volume_network
from mgmt_ray.preprocess.recipe import SliceRecipe
from mgmt_ray.preprocess.slice_store import SliceStore
from mgmt_ray.preprocess.volume_store import VolumeStore
from mgmt_ray.splits.draw import make_splits
from mgmt_ray.splits.split import Split, read_splits, resolve_labels
from mgmt_ray.study.study_config import StudyConfig
from mgmt_ray.trials.context import StudyContext

Outcome: TypeAlias = Literal["passed", "failed", "warning", "not done"]

NO_VOLUMES = "it looks at prepared volumes, and no network of this study takes any"


@dataclass(frozen=True, slots=True)
class Check:
    """What was looked at, and what it showed.

    Attributes:
        name: of the check.
        outcome: "warning" is something to look at, "not done" something that could not be.
        expected: of a sound study.
        found: in this one.
        remedy: what to do next; empty where nothing is to be done.
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


NUM_SWEPT = 2
"""Values of each swept hyper-parameter that the audit trains: enough for a choice to go wrong."""


@dataclass(frozen=True)
class AuditContext:
    """A prepared study under audit.

    Attributes:
        context: the study, its folder, and where work runs.
        cohort: its subjects.
        splits: all of them.
        seed: of the audit's own draws.
    """

    context: StudyContext
    cohort: Cohort
    splits: tuple[Split, ...]
    seed: int

    @property
    def study(self) -> StudyConfig:
        """Its configuration."""
        return self.context.study

    @property
    def volumes(self) -> Path:
        """Its volume store."""
        return self.context.folder.volumes

    @property
    def trains_on_slices(self) -> bool:
        """Whether the audit trains a network of slices: where none takes volumes."""
        return not self.study.takes_volumes

    @cached_property
    def work_folder(self) -> Path:
        """Where the audit's own trainings lie; another one after anything has changed."""
        stores = {m: _open_store(self.context, m).checksum for m in self.study.modalities}
        metadata = [self.study.model_dump(mode="json"), stores, [s.hash for s in self.splits]]
        return self.context.folder.root / "audit" / f"seed{self.seed}-{fingerprint(metadata)[:10]}"

    def random_stream(self, *purpose: str | int) -> np.random.Generator:
        """The named stream of one purpose."""
        return stream(self.seed, "audit", *purpose)

    @cached_property
    def planted(self) -> tuple[str, ...]:
        """Modalities with a signal, of a synthetic cohort; none of a real one."""
        path = self.context.folder.root / "planted.json"
        if not path.is_file():
            return ()
        strengths = json.loads(path.read_text(encoding="utf-8")).get("signal") or {}
        return tuple(modality for modality, strength in strengths.items() if strength)

    def subjects_with(self, modality: str) -> tuple[str, ...]:
        """Ids of the subjects with a modality, sorted."""
        return tuple(s.id for s in self.cohort.subjects if modality in s.scans)

    @cached_property
    def smallest_modality(self) -> str:
        """The modality that fewest subjects have, the first of equals."""
        return min(self.study.modalities, key=lambda m: len(self.subjects_with(m)))

    @cached_property
    def cheapest_network(self) -> str:
        """The network with the fewest trained parameters, of those that can be trained here.

        Where none takes volumes, the one of slices with the narrowest segmentation.

        Raises:
            NoNetwork: every network of volumes starts from pretrained weights, and there are none.
        """
        study = self.study
        if self.trains_on_slices:
            widths = {n: c.width for n, c in study.networks.items() if c.kind == "slices"}
            return min(widths, key=lambda name: widths[name])
        there = study.checkpoint is not None and study.checkpoint.is_file()
        able = {
            name: config
            for name, config in study.networks.items()
            if isinstance(config, NetworkConfig) and (there or not config.pretrained)
        }
        if not able:
            raise NoTrainableNetwork
        return min(able, key=lambda name: _trained_parameters(able[name], study))

    def reduced_study(self, modalities: tuple[str, ...]) -> StudyConfig:
        """The study with its cheapest network alone, one seed, and some of its modalities."""
        study, name = self.study, self.cheapest_network
        network = study.networks[name]
        if network.start_from is not None:
            network = network.model_copy(update={"start_from": None})
        swept = {key: values[:NUM_SWEPT] for key, values in study.sweep}
        # what is left out with which groups is a count of the very labels that are exchanged
        split = study.split.model_copy(update={"left_out_with": {}, "repeats": 1})
        kept = tuple(c for c in study.inputs if set(c) <= {*modalities})
        return study.model_copy(
            update={
                "cohort": study.cohort.model_copy(update={"modalities": modalities}),
                "baselines": (),
                "external": {},
                "inputs": kept if len(modalities) > 1 else (),
                "networks": {name: network},
                "num_seeds": 1,
                "mask_source": None,  # masks are there; no test subject is predicted with another
                "slices": study.slices if self.trains_on_slices else SliceRecipe(),
                "split": split,
                "sweep": study.sweep.model_copy(update=swept),
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
    """Read what an audit needs of a prepared study; nothing of it is changed.

    Raises:
        MgmtError: it was not prepared, or was made with another study file.
    """
    cohort = read_cohort(context.folder.root)
    splits = make_splits(cohort, context.study.split, context.study.modalities)
    if context.folder.splits.exists() and read_splits(context.folder.splits) != splits:
        raise MgmtError(
            f"{context.folder.splits}: is not the split of this study and cohort any more. "
            "Run `mgmt-ray run STUDY`, or use the study file that the folder was made with."
        )
    for modality in context.study.modalities:
        having = {s.id for s in cohort.subjects if modality in s.scans}
        lacking = sorted(having - {*_open_store(context, modality).ids})
        if lacking:
            raise MgmtError(
                f"{context.folder.root}: {modality} lacks {', '.join(lacking[:5])}. "
                "Run `mgmt-ray prepare STUDY` first."
            )
    return AuditContext(context, cohort, splits, seed)


def _open_store(context: StudyContext, modality: str) -> VolumeStore | SliceStore:
    """What the audit's trainings read."""
    if context.study.takes_volumes:
        return VolumeStore(context.folder.volumes, modality)
    return SliceStore(context.folder.slices, modality)


def permute_labels(cohort: Cohort, random: np.random.Generator) -> Cohort:
    """The cohort with its labels (and scores) dealt anew among the persons."""
    known = {s.person: (s.label, s.score) for s in cohort.subjects}
    persons = sorted(known)
    order = random.permutation(len(persons))
    dealt = {person: known[persons[i]] for person, i in zip(persons, order, strict=True)}
    return replace_labels(cohort, {s.id: dealt[s.person] for s in cohort.subjects})


def replace_labels(cohort: Cohort, known: Mapping[str, tuple[int, float | None]]) -> Cohort:
    """The cohort with other labels and scores, by subject; who is not named keeps them."""
    subjects = tuple(
        replace(s, label=known[s.id][0], score=known[s.id][1]) if s.id in known else s
        for s in cohort.subjects
    )
    return Cohort(subjects, cohort.exclusions)


def permuted_label_rows(audit: AuditContext, ids: tuple[str, ...], number: int) -> np.ndarray:
    """Labels [permutation, subject] of some training subjects, dealt anew among their persons."""
    label = resolve_labels(audit.splits[0], audit.cohort)
    person = {s.id: s.person for s in audit.cohort.subjects}
    persons = sorted({person[i] for i in ids})
    place = {name: position for position, name in enumerate(persons)}
    by_person = np.zeros(len(persons), dtype=np.int64)
    for subject in ids:
        by_person[place[person[subject]]] = label[subject]
    random = audit.random_stream("shortcuts")
    dealt = np.stack([random.permutation(by_person) for _ in range(number)])
    return dealt[:, [place[person[i]] for i in ids]]


def _trained_parameters(config: NetworkConfig, study: StudyConfig) -> int:
    network = build_volume_network(config, 1, study.training.temperature, study.checkpoint)
    return sum(p.numel() for p in network.parameters() if p.requires_grad)
