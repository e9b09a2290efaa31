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
from mgmt_ray.cluster.parallel_map import spread
from mgmt_ray.cluster.progress import Step
from mgmt_ray.cluster.resources import Placement
from mgmt_ray.cohort.scan import read_scan
from mgmt_ray.masks.segmentation_study import Segmentations
from mgmt_ray.preprocess.axial_slices import SliceSource, cut_slices
from mgmt_ray.preprocess.recipe import SLICE_METHOD
from mgmt_ray.preprocess.volume_index import source_of
from mgmt_ray.synthetic.scan_writer import write_mask
from mgmt_ray.training.out_of_memory import memory_shortage_told
from mgmt_ray.trials.segmenter import Segmenter, load_segmenter, segment_scan
from mgmt_ray.trials.voxel_size import unlike_trained

FORMAT = 1
INDEX = "masks.json"
SCANS_AT_ONCE = 4
"""Scans that one task outlines with networks that it has loaded once."""


@dataclass(frozen=True, slots=True)
class ToOutline:
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
class Outlined:
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


def outline(
    scans: Sequence[ToOutline],
    segmentations: Segmentations,
    folder: Path,
    placement: Placement,
    step: Step,
) -> dict[str, Outlined | MgmtError]:
    """Predict the masks that are missing, damaged or of other scans or networks.

    A mask is where the mean probability of several networks is at least 0.5. After an interruption
    those that were finished are kept.

    Args:
        scans: whose tumours to find.
        segmentations: among which theirs are.
        folder: gets ``SUBJECT.nii.gz`` and the index.
        placement: with launcher "ray", Ray must be connected.
        step: is given scans done and their number, where there is anything to do.

    Returns:
        By subject, in the order given; what is wrong with a scan that could not be segmented.

    Raises:
        MgmtError: the segmentations' weights were changed, or a disk is full.
    """
    index = _read_index(folder)
    keys = {scan.id: _key(scan, segmentations) for scan in scans}
    done: dict[str, Outlined | MgmtError] = {}
    for scan in scans:
        kept = index.get(scan.id)
        if kept and kept.key == keys[scan.id] and _is_whole(mask_path(folder, scan.id), kept):
            done[scan.id] = kept
    waiting = [scan for scan in scans if scan.id not in done]
    # of one size, so that the last of several workers is not late
    tasks = [waiting[i : i + SCANS_AT_ONCE] for i in range(0, len(waiting), SCANS_AT_ONCE)]
    shared = (segmentations, folder, keys, placement)
    num_done = 0
    for task, found in spread(
        _outline, tasks, shared, placement, cpus=placement.cpus, gpus=placement.gpus
    ):
        done |= found
        index |= {name: one for name, one in found.items() if isinstance(one, Outlined)}
        _write_index(index, segmentations, folder)
        num_done += len(task)
        step(num_done, len(waiting))
    return {scan.id: done[scan.id] for scan in scans}


def _outline(
    task: Sequence[ToOutline],
    shared: tuple[Segmentations, Path, Mapping[str, str], Placement],
) -> dict[str, Outlined | MgmtError]:
    """Find the tumours of a few scans and write their masks: one bad scan stops no other."""
    segmentations, folder, keys, placement = shared
    torch.set_num_threads(placement.threads)
    loaded: dict[str, Segmenter] = {}
    found: dict[str, Outlined | MgmtError] = {}
    what = f"{segmentations.network} of {segmentations.folder.root} outlines tumours"
    for scan in task:
        with memory_shortage_told(what, "Give it a machine with more memory."):
            for name in scan.networks:
                if name not in loaded:
                    trial = segmentations.trials[name]
                    loaded[name] = load_segmenter(trial, segmentations.folder, placement.device)
            try:
                mask = _find_tumour(scan, [loaded[name] for name in scan.networks], segmentations)
            except MgmtError as error:
                found[scan.id] = error
                continue
        path = mask_path(folder, scan.id)
        write_mask(mask, scan.scan, path)
        voxels = int(np.count_nonzero(mask))
        found[scan.id] = Outlined(keys[scan.id], file_checksum(path), voxels, scan.networks)
    return found


def _find_tumour(
    scan: ToOutline, networks: Sequence[Segmenter], segmentations: Segmentations
) -> np.ndarray:
    """On the scan's own grid."""
    image = read_scan(scan.scan)
    source = SliceSource(scan.id, scan.scan, None)
    slices = cut_slices(source, image.voxels, None, image.grid.spacing_mm, segmentations.recipe)
    for name in scan.networks:
        told = unlike_trained(slices.frame, segmentations.facts[name])
        if told:
            raise MgmtError(f"{scan.scan}: {told}, or leave the subject out with cohort.exclude.")
    return segment_scan(networks, slices)


def _key(scan: ToOutline, segmentations: Segmentations) -> str:
    """What a mask follows from; no voxel is read."""
    try:
        state = asdict(source_of(scan.scan))
    except OSError as error:
        raise MgmtError(
            f"subject {scan.id}: {scan.scan} cannot be read ({error.strerror}). Put the file back, "
            "or repeat `mgmt-ray cohort STUDY`."
        ) from error
    recipe = segmentations.recipe.model_dump(mode="json")
    weights = [[name, segmentations.checksums[name]] for name in scan.networks]
    return fingerprint([FORMAT, SLICE_METHOD, state, recipe, weights])


def _is_whole(path: Path, kept: Outlined) -> bool:
    return path.is_file() and file_checksum(path) == kept.checksum


def _read_index(folder: Path) -> dict[str, Outlined]:
    """What the index tells; nothing where there is none that can be read: masks are then made."""
    try:
        content: Any = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        return {
            name: Outlined(**told | {"networks": tuple(told["networks"])})
            for name, told in content["subjects"].items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _write_index(index: Mapping[str, Outlined], segmentations: Segmentations, folder: Path) -> None:
    content = {
        "format": FORMAT,
        "study": str(segmentations.folder.root),
        "network": segmentations.network,
        "modality": segmentations.modality,
        "weights": segmentations.checksums,
        "subjects": {name: asdict(told) for name, told in sorted(index.items())},
    }
    write_json(folder / INDEX, content)
