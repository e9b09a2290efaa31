"""Hints for running out of memory: the sizes that decide a trial's memory, and how to reduce it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch

from mgmt_ray.nets.build import SegmentationConfig, SliceClassifierConfig
from mgmt_ray.nets.slice_classifier import SIDE
from mgmt_ray.preprocess.volume_store import VolumeStore
from mgmt_ray.study.trial import Trial
from mgmt_ray.training.classification_task import SLICES_PER_BATCH
from mgmt_ray.training.evaluate import ROWS_PER_BATCH
from mgmt_ray.training.segmentation_task import slices_per_batch


def oom_hint(
    trial: Trial, volumes: Path, device: str, action: Literal["trains", "predicts with"]
) -> tuple[str, str]:
    """Return the sizes that decide a trial's memory, and a sentence that says what to reduce.

    Args:
        volumes: folder of the volume store, for the shape of volumes; not read for slices.
    """
    network, training = trial.network_config, trial.training_config
    trains = action == "trains"
    modalities = (len(trial.channels),) if len(trial.channels) > 1 else ()
    match network:
        case SegmentationConfig():
            number = slices_per_batch(network.shape, torch.device(device))
            rows = "slices"
            shape: tuple[int, ...] = (*modalities, *network.shape)
            settings = f"networks.{trial.network}.segmentation"
        case SliceClassifierConfig():
            number, shape, rows = SLICES_PER_BATCH, (*modalities, SIDE, SIDE), "slices"
            settings = f"networks.{trial.network}.classification"
        case _:
            number, rows, settings = ROWS_PER_BATCH, "volumes", "training"
            shape = (len(trial.channels), *VolumeStore(volumes, trial.channels[0]).volume_shape)
    batch = f"{training.batch_size if trains else number} {rows} of {' × '.join(map(str, shape))}"
    width = f", width {network.width}" if network.width else ""
    kind = network.description + width
    description = (
        f"trial {trial.id} {action} {trial.network} ({kind}) on {device}, in batches of {batch}"
    )
    remedies = ["a larger share of the GPU (--gpus)"] if device.startswith("cuda") else []
    if trains:
        remedies += ["more workers (--workers)", f"a smaller {settings}.batch_size"]
    if training.precision == "fp32":
        remedies.append(f"{settings}.precision bf16")
    if not network.pretrained and trial.dependency_level == 0:
        remedies.append(f"a smaller width of networks.{trial.network}")
    return description, f"Use {', '.join([*remedies, 'or a machine with more memory'])}."
