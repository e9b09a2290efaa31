"""A trial's volumes: all of them in device memory, no loader in the loop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class VolumeSet:
    """Volumes with their labels on one device.

    Attributes:
        volumes: [row, channel, depth, height, width], float16 in [0, 1].
        labels: [row], float32, 1 methylated, 0 unmethylated.
        subjects: id per row; a subject has several rows when its augmentations are there.
    """

    volumes: Tensor
    labels: Tensor
    subjects: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.subjects)

    def select(self, rows: np.ndarray) -> VolumeSet:
        """The given rows, in the given order."""
        index = torch.as_tensor(rows, device=self.volumes.device)
        return VolumeSet(
            self.volumes.index_select(0, index),
            self.labels.index_select(0, index),
            tuple(self.subjects[row] for row in rows),
        )


def volume_set(
    channels: Sequence[np.ndarray], labels: Sequence[int], subjects: Sequence[str], device: str
) -> VolumeSet:
    """Put volumes on a device.

    Args:
        channels: one array [subject, version, depth, height, width] per input channel.
        labels: per subject.
        subjects: ids.
        device: as torch names it.

    Returns:
        One row per subject and version, a subject's versions together.
    """
    stacked = np.stack([np.asarray(c, dtype=np.float16) for c in channels], axis=2)
    num_versions = stacked.shape[1]
    rows = torch.from_numpy(stacked.reshape(-1, *stacked.shape[2:]))
    label = torch.tensor(labels, dtype=torch.float32).repeat_interleave(num_versions)
    ids = tuple(s for s in subjects for _ in range(num_versions))
    return VolumeSet(rows.to(device), label.to(device), ids)


def balanced_rows(labels: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Rows that stay when volumes of the larger class are pruned at random to equal numbers.

    Args:
        labels: [row], 0 or 1.
        random: the trial's stream for pruning.

    Returns:
        Sorted row numbers, as many methylated as unmethylated.
    """
    classes = [np.flatnonzero(labels == label) for label in (0, 1)]
    number = min(len(rows) for rows in classes)
    kept = [random.permutation(rows)[:number] for rows in classes]
    return np.sort(np.concatenate(kept))
