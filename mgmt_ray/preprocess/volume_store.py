"""The volume store: a subject's volumes of one modality are an artefact with an array per version.

An array is float16 [depth, height, width]. Versions that a changed recipe leaves as they are get
copied from the subject's previous artefact.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float16

from mgmt_ray.base import MgmtError, fingerprint
from mgmt_ray.cohort.cohort import Cohort
from mgmt_ray.cohort.subject import Subject
from mgmt_ray.preprocess.artefact_store import (
    Artefact,
    ArtefactPart,
    Wanted,
    list_artefacts,
    load_artefact,
    read_description,
    subject_file_state,
)
from mgmt_ray.preprocess.recipe import RecipeConfig, version_key, versions
from mgmt_ray.preprocess.volumes import make_volumes

DTYPE = np.dtype(np.float16)


class VolumeStore:
    """The finished volumes of one modality, open for reading.

    Attributes:
        path: of the index.
        ids: of the subjects, sorted.
        versions: names of a subject's volumes.
        volume_shape: depth, height, width.
        descriptions: by subject: state of ``image`` and ``mask``, and of each version the key and
            the parameters.

    Raises:
        MgmtError: the modality has no finished volumes.
    """

    def __init__(self, folder: Path, modality: str) -> None:
        self._part = ArtefactPart(folder, modality)
        recipe = RecipeConfig.model_validate(self._part.index["recipe"])
        self.modality = modality
        self.path = self._part.path
        self.descriptions = self._part.subjects
        self.ids = tuple(self.descriptions)
        self.versions = versions(recipe)
        self.volume_shape = recipe.shape

    @property
    def checksum(self) -> str:
        """Fingerprint of all voxels, subjects and versions; independent of time and folder."""
        rows = [[name, entry["checksum"]] for name, entry in self.descriptions.items()]
        return fingerprint([self.modality, self.versions, self.volume_shape, rows])

    def load(
        self, subject_ids: Sequence[str], versions: Sequence[str]
    ) -> Float16[np.ndarray, "subject version depth height width"]:
        """Read volumes into memory, in the given order, and compare their checksums.

        Raises:
            MgmtError: a subject or version is not in the store, or a volume was changed.
        """
        volumes = np.empty((len(subject_ids), len(versions), *self.volume_shape), DTYPE)
        rows = [(subject, version) for subject in subject_ids for version in versions]
        self.read(rows, volumes.reshape(-1, *self.volume_shape))
        return volumes

    def read(
        self,
        rows: Sequence[tuple[str, str]],
        volumes: Float16[np.ndarray, "row depth height width"],
    ) -> None:
        """Fill ``volumes`` with rows, each a subject and a version; raises as :meth:`load`.

        No other version of a subject is read or hashed.
        """
        self._part.check_present(dict.fromkeys(subject for subject, _ in rows))
        versions = dict.fromkeys(version for _, version in rows)
        missing = [version for version in versions if version not in self.versions]
        if missing:
            raise MgmtError(
                f"{self.path}: no version {', '.join(missing)} among {', '.join(self.versions)}. "
                "Run `mgmt-ray prepare STUDY` for the recipe that you have now."
            )
        numbered = groupby(enumerate(rows), key=lambda entry: entry[1][0])
        for subject, entries in numbered:  # a file is opened once for neighbouring rows
            named = [(row, version) for row, (_, version) in entries]
            arrays = self._part.load(subject, [version for _, version in named]).arrays
            for row, version in named:
                volumes[row] = arrays[version]

    def parameters(self, subject_id: str, version: str) -> Mapping[str, float | int]:
        """Return a volume's random draws and voxel counts, for instance ``angle_degrees``."""
        found: Mapping[str, float | int] = self.descriptions[subject_id]["versions"][version][1]
        return found


@dataclass(frozen=True, slots=True)
class VolumeSource:
    """What a subject's volumes of one modality are made from.

    Attributes:
        keys: by version; equal keys mean equal voxels.
        files: states of ``image`` and ``mask``.
        previous: artefacts of the same subject and modality by other recipes or of other scans.
    """

    subject: Subject
    keys: Mapping[str, str]
    files: Mapping[str, Any]
    previous: tuple[Path, ...]


def wanted_volumes(
    folder: Path, cohort: Cohort, modality: str, recipe: RecipeConfig
) -> list[Wanted[VolumeSource]]:
    """List the artefacts of a modality that a volume store has to hold, without reading a scan.

    Raises:
        MgmtError: no subject has the modality, or a file of the cohort is missing.
    """
    subjects = [subject for subject in cohort.subjects if modality in subject.scans]
    check_any_scan(subjects, modality)
    of_recipe = {version: version_key(recipe, version, modality) for version in versions(recipe)}
    previous = list_artefacts(folder, modality)
    wanted = []
    for subject in subjects:
        image = subject_file_state(subject.id, modality, subject.scans[modality])
        mask = subject_file_state(subject.id, "mask", subject.required_mask)
        files = {"image": asdict(image), "mask": asdict(mask)}
        keys = {
            version: fingerprint([key, files, asdict(subject.conventions)])
            for version, key in of_recipe.items()
        }
        source = VolumeSource(subject, keys, files, tuple(previous.get(subject.id, ())))
        wanted.append(Wanted(modality, subject.id, fingerprint(keys), source))
    return wanted


def check_any_scan(scans: Sequence[object], modality: str) -> None:
    """Raise MgmtError if a cohort has no scan of a modality, or of all of an input together."""
    if not scans:
        raise MgmtError(
            f"cohort: no subject has {modality}. Drop it from cohort.modalities or inputs, or look "
            "at exclusions.csv for the reason."
        )


def make_volume_artefacts(
    task: Sequence[Wanted[VolumeSource]], recipe: RecipeConfig
) -> list[Artefact]:
    """Make one subject's volumes of some modalities, as far as they cannot be copied.

    Raises:
        MgmtError: as :func:`make_volumes`, or a volume to be copied is damaged.
    """
    reused = {item.part: _reusable_versions(item.source, recipe) for item in task}
    missing = {
        item.part: [v for v in item.source.keys if v not in reused[item.part]] for item in task
    }
    to_make = {modality: names for modality, names in missing.items() if names}
    made = make_volumes(task[0].source.subject, to_make, recipe) if to_make else {}
    artefacts = []
    for item in task:
        found = dict(reused[item.part])
        if item.part in made:
            found |= dict(zip(missing[item.part], zip(*made[item.part], strict=True), strict=True))
        keys = item.source.keys
        volumes = np.stack([found[version][0] for version in keys])
        by_version = {version: [key, dict(found[version][1])] for version, key in keys.items()}
        description = {"versions": by_version, **item.source.files}
        artefacts.append(volume_artefact(volumes, description))
    return artefacts


def volume_artefact(volumes: np.ndarray, description: Mapping[str, Any]) -> Artefact:
    """Return the artefact of a subject's volumes [version, depth, height, width].

    Args:
        volumes: in the order of the description's ``versions``.
        description: of the artefact; its checksum is that of the volumes.
    """
    checksum = hashlib.sha256(np.ascontiguousarray(volumes).data).hexdigest()
    arrays = dict(zip(description["versions"], volumes, strict=True))
    return Artefact(arrays, {**description, "checksum": checksum})


def is_accepted(description: Mapping[str, Any], allow_clipping: bool) -> bool:
    """Return whether a recipe accepts volumes that may have been made by another."""
    parameters = [drawn for _, drawn in description["versions"].values()]
    return allow_clipping or not any(drawn["clipped_voxels"] for drawn in parameters)


def _reusable_versions(
    source: VolumeSource, recipe: RecipeConfig
) -> dict[str, tuple[np.ndarray, Mapping[str, float | int]]]:
    """Return volumes of previous artefacts with their parameters, by version."""
    found: dict[str, tuple[np.ndarray, Mapping[str, float | int]]] = {}
    for path in source.previous:
        description = read_description(path)
        if description is None or not is_accepted(description, recipe.allow_clipping):
            continue
        names = {key: name for name, (key, _) in description["versions"].items()}
        equal = {version: names[key] for version, key in source.keys.items() if key in names}
        arrays = load_artefact(path, source.subject.id, equal.values()).arrays
        for version, name in equal.items():
            found[version] = arrays[name], description["versions"][name][1]
    return found
