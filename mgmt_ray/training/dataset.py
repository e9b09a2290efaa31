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
        volumes: [row, channel, depth, height, width], float16 in [0, 1]; or what a network's
            frozen part made of them (see ``training.frozen``); or slices, float16: normalised
            [row, height, width] or the channels of the slice classifier.
        labels: [row], float32, 1 methylated, 0 unmethylated; of slices that are segmented their
            masks [row, height, width], uint8.
        subjects: id per row; a subject has several rows when its augmentations are there.
        covariates: [row, covariate], float32 (see ``cohort.covariates``), NaN where not known;
            None for a network that takes none.
    """

    volumes: Tensor
    labels: Tensor
    subjects: tuple[str, ...]
    covariates: Tensor | None = None

    def __len__(self) -> int:
        return len(self.subjects)

    def inputs(self, dtype: torch.dtype) -> Tensor:
        """What a network of this precision takes; what a frozen part gave stays as it is."""
        return self.volumes.to(dtype) if self.volumes.dtype == torch.float16 else self.volumes

    def select(self, rows: np.ndarray) -> VolumeSet:
        """The given rows, in the given order."""
        index = torch.as_tensor(rows, device=self.volumes.device)
        return VolumeSet(
            self.volumes[index],  # unlike index_select it leaves channels last where they are
            self.labels.index_select(0, index),
            tuple(self.subjects[row] for row in rows),
            None if self.covariates is None else self.covariates.index_select(0, index),
        )


def volume_set(
    channels: Sequence[np.ndarray],
    labels: Sequence[int],
    subjects: Sequence[str],
    device: str,
    covariates: Sequence[Sequence[float]] | None = None,
) -> VolumeSet:
    """Put volumes on a device.

    Args:
        channels: one array [subject, version, depth, height, width] per input channel.
        labels: per subject.
        subjects: ids.
        device: as torch names it.
        covariates: values per subject, for a network that takes any.

    Returns:
        One row per subject and version, a subject's versions together.
    """
    stacked = np.stack([np.asarray(c, dtype=np.float16) for c in channels], axis=2)
    num_versions = stacked.shape[1]
    rows = torch.from_numpy(stacked.reshape(-1, *stacked.shape[2:]))
    label = torch.tensor(labels, dtype=torch.float32).repeat_interleave(num_versions)
    ids = tuple(s for s in subjects for _ in range(num_versions))
    known = None
    if covariates is not None:
        values = torch.tensor(covariates, dtype=torch.float32)
        known = values.repeat_interleave(num_versions, dim=0).to(device)
    return VolumeSet(rows.to(device), label.to(device), ids, known)


def even_batches(rows: np.ndarray, largest: int) -> list[np.ndarray]:
    """Rows in order, in as few batches as possible; their sizes differ by 1 at most."""
    return np.array_split(rows, -(-len(rows) // largest))


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
