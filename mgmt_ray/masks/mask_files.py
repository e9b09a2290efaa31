"""Files of predicted masks; masks of unchanged scans and networks are not predicted again."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mgmt_ray.base import MgmtError, file_checksum, fingerprint, write_json
from mgmt_ray.cluster.parallel_map import parallel_map
from mgmt_ray.cluster.progress import ProgressCallback
from mgmt_ray.cluster.resources import Resources
from mgmt_ray.cohort.scan import read_scan
from mgmt_ray.masks.segmentation_study import Segmentations
from mgmt_ray.preprocess.axial_slices import SliceSource, cut_slices
from mgmt_ray.preprocess.recipe import SLICE_METHOD
from mgmt_ray.preprocess.volume_index import subject_file_state
from mgmt_ray.synthetic.scan_writer import write_mask
from mgmt_ray.training.out_of_memory import raise_oom_with_hint
from mgmt_ray.trials.segmenter import Segmenter, load_segmenter, segment_scan
from mgmt_ray.trials.voxel_size import voxel_size_problem

FORMAT = 1
INDEX = "masks.json"
SCANS_PER_TASK = 4
"""Scans that one task segments with networks that it loads once."""


@dataclass(frozen=True, slots=True)
class MaskRequest:
    """A scan to be segmented.

    Attributes:
        id: the subject's.
        scan: of the modality that is segmented.
        networks: ids of the segmentations whose probabilities are averaged; at least one.
    """

    id: str
    scan: Path
    networks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PredictedMask:
    """A predicted mask that was written.

    Attributes:
        key: fingerprint of the scan's state, the recipe and the networks.
        checksum: SHA-256 of the file.
        tumour_voxels: on the scan's grid; 0 if no tumour was found.
        networks: ids of the segmentations whose probabilities were averaged.
    """

    key: str
    checksum: str
    tumour_voxels: int
    networks: tuple[str, ...]


def mask_path(folder: Path, subject: str) -> Path:
    """Return the path of a subject's predicted mask."""
    return folder / f"{subject}.nii.gz"


def segment_scans(
    requests: Sequence[MaskRequest],
    segmentations: Segmentations,
    folder: Path,
    resources: Resources,
    progress: ProgressCallback,
) -> dict[str, PredictedMask | MgmtError]:
    """Predict the masks that are missing, damaged, or of other scans or networks.

    A voxel is tumour if the mean probability of the networks is at least 0.5. After an
    interruption finished masks are kept.

    Args:
        requests: scans with the networks that segment them.
        segmentations: all networks that the requests name.
        folder: of the masks ``SUBJECT.nii.gz`` and their index.
        progress: receives the number of segmented scans and their total, if there are any.

    Returns:
        By subject, in the order of ``requests``: the mask, or why the scan cannot be segmented.

    Raises:
        MgmtError: the segmentations' weights were changed, or the disk is full.
    """
    index = _read_index(folder)
    keys = {request.id: _key(request, segmentations) for request in requests}
    masks: dict[str, PredictedMask | MgmtError] = {}
    for request in requests:
        mask = index.get(request.id)
        if mask and mask.key == keys[request.id] and _is_intact(folder, request.id, mask):
            masks[request.id] = mask
    pending = [request for request in requests if request.id not in masks]
    # of equal size, so that all workers finish at about the same time
    tasks = [pending[i : i + SCANS_PER_TASK] for i in range(0, len(pending), SCANS_PER_TASK)]
    shared = (segmentations, folder, keys, resources)
    num_done = 0
    for task, results in parallel_map(
        _segment_batch, tasks, shared, resources, cpus=resources.cpus, gpus=resources.gpus
    ):
        masks |= results
        index |= {s: mask for s, mask in results.items() if isinstance(mask, PredictedMask)}
        _write_index(index, segmentations, folder)
        num_done += len(task)
        progress(num_done, len(pending))
    return {request.id: masks[request.id] for request in requests}


def _segment_batch(
    task: Sequence[MaskRequest],
    shared: tuple[Segmentations, Path, Mapping[str, str], Resources],
) -> dict[str, PredictedMask | MgmtError]:
    """Segment a few scans and write their masks; one bad scan does not stop the others."""
    segmentations, folder, keys, resources = shared
    torch.set_num_threads(resources.threads)
    loaded: dict[str, Segmenter] = {}
    masks: dict[str, PredictedMask | MgmtError] = {}
    activity = f"{segmentations.network} of {segmentations.folder.root} segments tumours"
    for request in task:
        with raise_oom_with_hint(activity, "Use a machine with more memory."):
            for name in request.networks:
                if name not in loaded:
                    trial = segmentations.trials[name]
                    loaded[name] = load_segmenter(trial, segmentations.folder, resources.device)
            try:
                networks = [loaded[name] for name in request.networks]
                tumour = _find_tumour(request, networks, segmentations)
            except MgmtError as error:
                masks[request.id] = error
                continue
        path = mask_path(folder, request.id)
        write_mask(tumour, request.scan, path)
        masks[request.id] = PredictedMask(
            keys[request.id],
            file_checksum(path),
            int(np.count_nonzero(tumour)),
            request.networks,
        )
    return masks


def _find_tumour(
    request: MaskRequest, networks: Sequence[Segmenter], segmentations: Segmentations
) -> np.ndarray:
    """Segment a scan on its own grid."""
    scan = read_scan(request.scan)
    source = SliceSource(request.id, request.scan, None)
    slices = cut_slices(source, scan.voxels, None, scan.grid.spacing_mm, segmentations.recipe)
    for name in request.networks:
        problem = voxel_size_problem(slices.frame, segmentations.metadata[name])
        if problem:
            raise MgmtError(
                f"{request.scan}: {problem}, or leave the subject out with cohort.exclude."
            )
    return segment_scan(networks, slices)


def _key(request: MaskRequest, segmentations: Segmentations) -> str:
    """Return a fingerprint of all that a mask depends on, without reading a voxel."""
    state = asdict(subject_file_state(request.id, segmentations.modality, request.scan))
    recipe = segmentations.recipe.model_dump(mode="json")
    weights = [[name, segmentations.checksums[name]] for name in request.networks]
    return fingerprint([FORMAT, SLICE_METHOD, state, recipe, weights])


def _is_intact(folder: Path, subject: str, mask: PredictedMask) -> bool:
    path = mask_path(folder, subject)
    return path.is_file() and file_checksum(path) == mask.checksum


def _read_index(folder: Path) -> dict[str, PredictedMask]:
    """Read the index; empty if it is missing or damaged, so that all masks are predicted."""
    try:
        content: Any = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        return {
            subject: PredictedMask(**fields | {"networks": tuple(fields["networks"])})
            for subject, fields in content["subjects"].items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _write_index(
    index: Mapping[str, PredictedMask], segmentations: Segmentations, folder: Path
) -> None:
    content = {
        "format": FORMAT,
        "study": str(segmentations.folder.root),
        "network": segmentations.network,
        "modality": segmentations.modality,
        "weights_sha256": segmentations.checksums,
        "subjects": {subject: asdict(mask) for subject, mask in sorted(index.items())},
    }
    write_json(folder / INDEX, content)
