"""Predicted masks as files: those that follow from the present scans and networks are kept."""

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
from mgmt_ray.preprocess.volume_index import file_state
from mgmt_ray.synthetic.scan_writer import write_mask
from mgmt_ray.training.out_of_memory import raise_oom_with_hint
from mgmt_ray.trials.segmenter import Segmenter, load_segmenter, segment_scan
from mgmt_ray.trials.voxel_size import voxel_size_problem

FORMAT = 1
INDEX = "masks.json"
SCANS_PER_TASK = 4
"""Scans that one task outlines with networks that it has loaded once."""


@dataclass(frozen=True, slots=True)
class MaskRequest:
    """A scan whose tumour is to be found.

    Attributes:
        id: the subject's.
        scan: of the modality that is segmented.
        networks: ids of the segmentations that do it together; at least one.
    """

    id: str
    scan: Path
    networks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PredictedMask:
    """A predicted mask in its place.

    Attributes:
        key: of the scan's state, the recipe and the networks that it follows from.
        checksum: of the file.
        tumour_voxels: of the scan; 0 where no tumour was found.
        networks: ids of the segmentations that found it together.
    """

    key: str
    checksum: str
    tumour_voxels: int
    networks: tuple[str, ...]


def mask_path(folder: Path, subject: str) -> Path:
    """A subject's predicted mask."""
    return folder / f"{subject}.nii.gz"


def segment_scans(
    scans: Sequence[MaskRequest],
    segmentations: Segmentations,
    folder: Path,
    resources: Resources,
    step: ProgressCallback,
) -> dict[str, PredictedMask | MgmtError]:
    """Predict the masks that are missing, damaged or of other scans or networks.

    A mask is where the mean probability of several networks is at least 0.5. After an interruption
    those that were finished are kept.

    Args:
        scans: whose tumours to find.
        segmentations: among which theirs are.
        folder: gets ``SUBJECT.nii.gz`` and the index.
        resources: with backend "ray", Ray must be connected.
        step: is given scans done and their number, where there is anything to do.

    Returns:
        By subject, in the order given; what is wrong with a scan that could not be segmented.

    Raises:
        MgmtError: the segmentations' weights were changed, or a disk is full.
    """
    index = _read_index(folder)
    keys = {scan.id: _key(scan, segmentations) for scan in scans}
    done: dict[str, PredictedMask | MgmtError] = {}
    for scan in scans:
        kept = index.get(scan.id)
        if kept and kept.key == keys[scan.id] and _is_intact(mask_path(folder, scan.id), kept):
            done[scan.id] = kept
    waiting = [scan for scan in scans if scan.id not in done]
    # of one size, so that the last of several workers is not late
    tasks = [waiting[i : i + SCANS_PER_TASK] for i in range(0, len(waiting), SCANS_PER_TASK)]
    shared = (segmentations, folder, keys, resources)
    num_done = 0
    for task, found in parallel_map(
        _segment_batch, tasks, shared, resources, cpus=resources.cpus, gpus=resources.gpus
    ):
        done |= found
        index |= {name: one for name, one in found.items() if isinstance(one, PredictedMask)}
        _write_index(index, segmentations, folder)
        num_done += len(task)
        step(num_done, len(waiting))
    return {scan.id: done[scan.id] for scan in scans}


def _segment_batch(
    task: Sequence[MaskRequest],
    shared: tuple[Segmentations, Path, Mapping[str, str], Resources],
) -> dict[str, PredictedMask | MgmtError]:
    """Find the tumours of a few scans and write their masks: one bad scan stops no other."""
    segmentations, folder, keys, resources = shared
    torch.set_num_threads(resources.threads)
    loaded: dict[str, Segmenter] = {}
    found: dict[str, PredictedMask | MgmtError] = {}
    what = f"{segmentations.network} of {segmentations.folder.root} outlines tumours"
    for scan in task:
        with raise_oom_with_hint(what, "Give it a machine with more memory."):
            for name in scan.networks:
                if name not in loaded:
                    trial = segmentations.trials[name]
                    loaded[name] = load_segmenter(trial, segmentations.folder, resources.device)
            try:
                mask = _find_tumour(scan, [loaded[name] for name in scan.networks], segmentations)
            except MgmtError as error:
                found[scan.id] = error
                continue
        path = mask_path(folder, scan.id)
        write_mask(mask, scan.scan, path)
        voxels = int(np.count_nonzero(mask))
        found[scan.id] = PredictedMask(keys[scan.id], file_checksum(path), voxels, scan.networks)
    return found


def _find_tumour(
    scan: MaskRequest, networks: Sequence[Segmenter], segmentations: Segmentations
) -> np.ndarray:
    """On the scan's own grid."""
    image = read_scan(scan.scan)
    source = SliceSource(scan.id, scan.scan, None)
    slices = cut_slices(source, image.voxels, None, image.grid.spacing_mm, segmentations.recipe)
    for name in scan.networks:
        told = voxel_size_problem(slices.frame, segmentations.metadata[name])
        if told:
            raise MgmtError(f"{scan.scan}: {told}, or leave the subject out with cohort.exclude.")
    return segment_scan(networks, slices)


def _key(scan: MaskRequest, segmentations: Segmentations) -> str:
    """What a mask follows from; no voxel is read."""
    try:
        state = asdict(file_state(scan.scan))
    except OSError as error:
        raise MgmtError(
            f"subject {scan.id}: {scan.scan} cannot be read ({error.strerror}). Put the file back, "
            "or repeat `mgmt-ray cohort STUDY`."
        ) from error
    recipe = segmentations.recipe.model_dump(mode="json")
    weights = [[name, segmentations.checksums[name]] for name in scan.networks]
    return fingerprint([FORMAT, SLICE_METHOD, state, recipe, weights])


def _is_intact(path: Path, kept: PredictedMask) -> bool:
    return path.is_file() and file_checksum(path) == kept.checksum


def _read_index(folder: Path) -> dict[str, PredictedMask]:
    """What the index tells; nothing where there is none that can be read: masks are then made."""
    try:
        content: Any = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        return {
            name: PredictedMask(**told | {"networks": tuple(told["networks"])})
            for name, told in content["subjects"].items()
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
        "subjects": {name: asdict(told) for name, told in sorted(index.items())},
    }
    write_json(folder / INDEX, content)
