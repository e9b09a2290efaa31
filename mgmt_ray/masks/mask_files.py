"""Files of predicted masks; masks of unchanged scans and networks are not predicted again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mgmt_ray.base import MgmtError, fingerprint, write_atomically
from mgmt_ray.cluster.progress import ProgressCallback
from mgmt_ray.cluster.resources import Resources
from mgmt_ray.cohort.subject import AS_STORED, ScanConventions
from mgmt_ray.data.bring_up_to_date import Maker, bring_up_to_date
from mgmt_ray.masks.segmentation_study import Segmentations
from mgmt_ray.preprocess.artefact_store import Artefact, FileFormat, Wanted, subject_file_state
from mgmt_ray.preprocess.axial_slices import SliceSource, make_slices
from mgmt_ray.synthetic.scan_writer import pack_mask, read_comment
from mgmt_ray.training.out_of_memory import raise_oom_with_hint
from mgmt_ray.trials.segmenter import Segmenter, load_segmenter, segment_scan
from mgmt_ray.trials.voxel_size import voxel_size_problem

MASKS = "masks"
"""Part of a store of masks: of subjects that have no other."""

ALTERNATE_MASKS = "alternate_masks"
"""Part of a store of masks: of test subjects whose given masks the study uses."""

SCANS_PER_TASK = 4
"""Scans that one task segments with networks that it loads once."""


@dataclass(frozen=True, slots=True)
class MaskRequest:
    """A subject to be segmented.

    Attributes:
        id: the subject's.
        scans: of the modalities that are segmented together; the mask has the first one's grid.
        networks: ids of the segmentations whose probabilities are averaged; at least one.
        conventions: of the scans' data set.
    """

    id: str
    scans: tuple[Path, ...]
    networks: tuple[str, ...]
    conventions: ScanConventions = AS_STORED


@dataclass(frozen=True, slots=True)
class PredictedMask:
    """A predicted mask that was written.

    Attributes:
        path: of the NIfTI file.
        tumour_voxels: on the scan's grid; 0 if no tumour was found.
    """

    path: Path
    tumour_voxels: int


def segment_scans(
    requests: Sequence[MaskRequest],
    segmentations: Segmentations,
    folder: Path,
    resources: Resources,
    progress: ProgressCallback,
    part: str = MASKS,
) -> dict[str, PredictedMask | MgmtError]:
    """Predict the masks that are missing, damaged, or of other scans or networks.

    A voxel is tumour if the mean probability of the networks is at least 0.5. After an
    interruption finished masks are kept.

    Args:
        requests: scans with the networks that segment them.
        segmentations: all networks that the requests name.
        folder: of the store of masks, which are NIfTI files.
        progress: receives the number of segmented scans and their total, if there are any.
        part: of the store.

    Returns:
        By subject, in the order of ``requests``: the mask, or why the scan cannot be segmented.

    Raises:
        MgmtError: the segmentations' weights were changed, or the disk is full.
    """
    wanted = [Wanted(part, r.id, _key(r, segmentations), r) for r in requests]
    cpus, gpus = resources.cpus, resources.gpus
    shared = (segmentations, resources)
    maker = Maker(_segment_batch, shared, _equal_batches, bool, MASK_FILES, cpus, gpus)
    about = {
        "study": str(segmentations.folder.root),
        "network": segmentations.network,
        "modality": segmentations.modality,
        "weights_sha256": dict(segmentations.checksums),
    }
    update = bring_up_to_date(folder, {part: wanted}, maker, about, resources, progress)
    masks: dict[str, PredictedMask | MgmtError] = {}
    for request in requests:
        entry = update.entries.get((part, request.id))
        masks[request.id] = (
            PredictedMask(folder / part / entry["file"], entry["tumour_voxels"])
            if entry
            else update.faults[part, request.id]
        )
    return masks


def write_mask_file(path: Path, artefact: Artefact) -> None:
    """Write a mask completely or not at all."""
    write_atomically(path, lambda aside: aside.write_bytes(artefact.arrays["file"].tobytes()))


def describe_mask(path: Path) -> dict[str, Any] | None:
    """Return the description in a mask's header; None if the file is missing or damaged."""
    try:
        description: dict[str, Any] = json.loads(read_comment(path))
        return description
    except (OSError, ValueError):
        return None


def mask_artefact(tumour: np.ndarray, request: MaskRequest) -> Artefact:
    """Return the artefact of a mask: the bytes of its file, and what it was predicted by."""
    description = {
        "tumour_voxels": int(np.count_nonzero(tumour)),
        "networks": list(request.networks),
    }
    content = pack_mask(tumour, request.scans[0], json.dumps(description), request.conventions)
    return Artefact({"file": np.frombuffer(content, np.uint8)}, description)


MASK_FILES = FileFormat(".nii.gz", write_mask_file, describe_mask)


def _equal_batches(pending: Sequence[Wanted[MaskRequest]]) -> list[list[Wanted[MaskRequest]]]:
    """Return tasks of equal size, so that all workers finish at about the same time."""
    return [[*pending[i : i + SCANS_PER_TASK]] for i in range(0, len(pending), SCANS_PER_TASK)]


def _segment_batch(
    task: Sequence[Wanted[MaskRequest]], shared: tuple[Segmentations, Resources]
) -> list[Artefact | MgmtError]:
    """Segment a few scans; one bad scan does not stop the others."""
    segmentations, resources = shared
    torch.set_num_threads(resources.threads)
    loaded: dict[str, Segmenter] = {}
    masks: list[Artefact | MgmtError] = []
    activity = f"{segmentations.network} of {segmentations.folder.root} segments tumours"
    for request in (item.source for item in task):
        with raise_oom_with_hint(activity, "Use a machine with more memory."):
            for name in request.networks:
                if name not in loaded:
                    trial = segmentations.trials[name]
                    loaded[name] = load_segmenter(trial, segmentations.folder, resources.device)
            try:
                networks = [loaded[name] for name in request.networks]
                tumour = _find_tumour(request, networks, segmentations)
            except MgmtError as error:
                masks.append(error)
                continue
        masks.append(mask_artefact(tumour, request))
    return masks


def _find_tumour(
    request: MaskRequest, networks: Sequence[Segmenter], segmentations: Segmentations
) -> np.ndarray:
    """Segment scans on the grid of the first."""
    source = SliceSource(request.id, request.scans, None, request.conventions)
    slices = make_slices(source, segmentations.recipe)
    for name in request.networks:
        problem = voxel_size_problem(slices.frame, segmentations.metadata[name])
        if problem:
            raise MgmtError(f"{request.scans[0]}: {problem}.")
    return segment_scan(networks, slices)


def _key(request: MaskRequest, segmentations: Segmentations) -> str:
    """Return a fingerprint of all that a mask depends on, without reading a voxel."""
    states = [
        asdict(subject_file_state(request.id, segmentations.modality, scan))
        for scan in request.scans
    ]
    recipe = segmentations.recipe.model_dump(mode="json")
    weights = [[name, segmentations.checksums[name]] for name in request.networks]
    return fingerprint([*states, recipe, weights, asdict(request.conventions)])
