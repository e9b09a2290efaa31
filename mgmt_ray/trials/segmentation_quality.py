"""Quality and speed of a segmentation on whole scans."""

from __future__ import annotations

import math
import platform
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mgmt_ray.preprocess.axial_slices import SubjectSlices
from mgmt_ray.preprocess.recipe import SliceRecipe
from mgmt_ray.preprocess.slice_geometry import by_modality
from mgmt_ray.preprocess.slice_store import SliceStore
from mgmt_ray.preprocess.tumour_slices import TUMOUR_THRESHOLD, slices_through_tumour
from mgmt_ray.statistics.slice_overlap import hd95
from mgmt_ray.study.trial import Trial
from mgmt_ray.training.mask_overlap import count_overlap, dice
from mgmt_ray.training.segmentation_task import slices_per_batch
from mgmt_ray.trials.segmenter import Segmenter, mask_on_scan


@dataclass(frozen=True, slots=True, eq=False)
class SegmentationExample:
    """A subject's slice with the largest tumour in its given mask.

    Attributes:
        depth: index of the slice in the scan.
        image: normalised [height, width], of the first modality.
        given: mask of the slice, uint8.
        probability: predicted, of tumour.
    """

    subject: str
    network: str
    modality: str
    outer_fold: int
    depth: int
    image: np.ndarray
    given: np.ndarray
    probability: np.ndarray


def measure_scans(
    trial: Trial, segmenter: Segmenter, store: SliceStore, subjects: Sequence[str], split: str
) -> Iterator[tuple[dict[str, Any], SegmentationExample | None]]:
    """Segment whole scans; yield a row per scan, and an example if the scan is annotated.

    A row's ``dice_slices`` (mean of slices) and ``dice_patient`` (their pixels together) are of the
    ``num_slices`` slices through the given tumour, ``dice_volume`` and ``hd95_mm`` of the whole
    scan at its full resolution, where tumour predicted in other slices counts. ``seconds`` are
    those of the network and the transfers of the scan's ``segmented_slices``. Columns that compare
    with a given mask are NaN where there is none.

    Args:
        segmenter: the finished network of ``trial``.
        split: "train", "validation" or "test", for the rows.
    """
    is_warm = False
    for subject in subjects:
        (slices,) = store.load((subject,))
        images = segmenter.normalise(slices)
        if not is_warm:  # the first call's set-up of the device is not timed
            segmenter.predict(images[: slices_per_batch(images.shape[-2:], segmenter.device)])
            is_warm = True
        probability, seconds = _predict_timed(segmenter, images)
        row = {
            "network": trial.network,
            "modality": trial.modality,
            "outer_fold": trial.outer_fold,
            "fold": trial.fold,
            "trial": trial.id,
            "subject": subject,
            "split": split,
            **measure_scan(slices, probability >= TUMOUR_THRESHOLD, store.recipe),
            "segmented_slices": len(images),
            "seconds": round(seconds, 6),
            "device": device_name(segmenter.device),
        }
        example = _example(trial, slices, images, probability) if slices.annotated else None
        yield row, example


def measure_scan(
    slices: SubjectSlices, predicted: np.ndarray, recipe: SliceRecipe
) -> dict[str, float]:
    """Compare a predicted mask [slice, height, width] of all slices with the given one, if any."""
    volume = mask_on_scan(slices, predicted)
    voxels = {"predicted_voxels": int(np.count_nonzero(volume))}
    if slices.scan_mask is None:
        compared = ("dice_slices", "dice_patient", "dice_volume", "hd95_mm")
        return {"num_slices": 0, **voxels, **dict.fromkeys(compared, math.nan)}
    chosen = slices_through_tumour(slices.masks, recipe)
    assert chosen.size, "the slice store has no scan with too small a tumour"
    tumour, truth = predicted[chosen], slices.masks[chosen] > 0
    return {
        "num_slices": len(chosen),
        **voxels,
        "dice_slices": float(count_overlap(tumour, truth).dice.mean()),
        "dice_patient": dice(tumour, truth),
        "dice_volume": dice(volume, slices.scan_mask),
        "hd95_mm": hd95(volume, slices.scan_mask, slices.frame.scan_spacing_mm),
    }


def _example(
    trial: Trial, slices: SubjectSlices, images: np.ndarray, probability: np.ndarray
) -> SegmentationExample:
    row = int(np.count_nonzero(slices.masks, axis=(1, 2)).argmax())
    return SegmentationExample(
        slices.id,
        trial.network,
        trial.modality,
        trial.outer_fold,
        int(slices.depths[row]),
        by_modality(images)[0][row].copy(),
        slices.masks[row].copy(),
        probability[row].copy(),
    )


def average_examples(examples: Sequence[SegmentationExample]) -> dict[str, np.ndarray]:
    """Average the examples of each subject, network, modality and split over segmentations.

    Segmentations differ in the scale of intensities and in the predicted probabilities.

    Returns:
        The arrays of ``segmentation_examples.npz``:
        ``image`` and ``probability`` (float16) and ``given`` (uint8) [row, height, width], and by
        row ``subject``, ``network``, ``modality``, ``outer_fold`` and ``depth``.

    >>> pixels = np.ones((4, 4))
    >>> examples = [
    ...     SegmentationExample("P-1", "chen", "T1", 0, 7, value * pixels, pixels, value * pixels)
    ...     for value in (0.25, 0.75)
    ... ]
    >>> arrays = average_examples(examples)
    >>> arrays["subject"].tolist(), arrays["probability"].shape, arrays["probability"].max().item()
    (['P-1'], (1, 4, 4), 0.5)
    """
    groups: dict[tuple[str, str, str, int], list[SegmentationExample]] = {}
    for example in examples:
        key = (example.subject, example.network, example.modality, example.outer_fold)
        groups.setdefault(key, []).append(example)
    first = [group[0] for group in groups.values()]
    names = ("subject", "network", "modality", "outer_fold", "depth")
    columns = {name: np.array([getattr(example, name) for example in first]) for name in names}
    means = {
        name: np.stack(
            [np.mean([getattr(e, name) for e in group], axis=0) for group in groups.values()]
        ).astype(np.float16)
        for name in ("image", "probability")
    }
    return {**means, "given": np.stack([example.given for example in first]), **columns}


def _predict_timed(segmenter: Segmenter, images: np.ndarray) -> tuple[np.ndarray, float]:
    """Return probabilities, and seconds from host memory to host memory."""
    if segmenter.device.type == "cuda":
        torch.cuda.synchronize(segmenter.device)
    started = time.perf_counter()
    probability = segmenter.predict(images)  # returned in host memory, so the device has finished
    return probability, time.perf_counter() - started


def device_name(device: torch.device) -> str:
    """Return the model of a GPU, or of this machine's CPU."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return next(filter(None, models), platform.processor() or platform.machine())
