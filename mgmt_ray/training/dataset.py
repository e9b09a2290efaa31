"""A trial's volumes or slices, all of them in device memory: there is no data loader."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class VolumeSet:
    """Volumes or slices with their labels on one device.

    Attributes:
        volumes: [row, channel, depth, height, width], float16 in [0, 1]; or outputs of a network's
            frozen part (see ``training.frozen_features``); or slices, float16: normalised
            [row, height, width], or [row, channel, height, width] for several modalities and for
            the slice classifier.
        labels: [row], float32, 1 methylated, 0 unmethylated; for segmentation the slices' masks
            [row, height, width], uint8.
        subjects: id per row; a subject has several rows if its augmentations are loaded.
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
        """Convert volumes to a network's precision; outputs of a frozen part keep theirs."""
        return self.volumes.to(dtype) if self.volumes.dtype == torch.float16 else self.volumes

    def select(self, rows: np.ndarray, index: Tensor | None = None) -> VolumeSet:
        """Return the given rows, in the given order.

        Args:
            index: the same rows on the set's device, if they are there already.
        """
        if index is None:
            index = torch.as_tensor(rows, device=self.volumes.device)
        return VolumeSet(
            self.volumes[index],  # unlike index_select it keeps the channels-last layout
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
        labels: per subject, 1 methylated, 0 unmethylated.
        covariates: values per subject, for a network that takes any.

    Returns:
        One row per subject and version, a subject's versions together. On a CPU a single float16
        channel is not copied.

    >>> flair, t1 = np.zeros((2, 3, 8, 8, 8)), np.ones((2, 3, 8, 8, 8))  # 2 subjects, 3 versions
    >>> data = volume_set([flair, t1], labels=[1, 0], subjects=["P-1", "P-2"], device="cpu")
    >>> data.volumes.shape, data.subjects[:4]
    (torch.Size([6, 2, 8, 8, 8]), ('P-1', 'P-1', 'P-1', 'P-2'))
    """
    arrays = [np.asarray(c, dtype=np.float16) for c in channels]
    stacked = np.stack(arrays, axis=2) if len(arrays) > 1 else np.expand_dims(arrays[0], 2)
    num_versions = stacked.shape[1]
    rows = torch.from_numpy(stacked.reshape(-1, *stacked.shape[2:]))
    label = torch.tensor(labels, dtype=torch.float32).repeat_interleave(num_versions)
    ids = tuple(s for s in subjects for _ in range(num_versions))
    covariate_rows = None
    if covariates is not None:
        values = torch.tensor(covariates, dtype=torch.float32)
        covariate_rows = values.repeat_interleave(num_versions, dim=0).to(device)
    return VolumeSet(rows.to(device), label.to(device), ids, covariate_rows)


def upload(tensor: Tensor, device: torch.device) -> Tensor:
    """Return a tensor of the CPU on a device; a GPU's copy does not wait for what the GPU does."""
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def even_batches(rows: np.ndarray, max_size: int) -> list[np.ndarray]:
    """Split rows in order into as few batches as possible; their sizes differ by 1 at most.

    >>> even_batches(np.arange(7), max_size=3)
    [array([0, 1, 2]), array([3, 4]), array([5, 6])]
    """
    return np.array_split(rows, -(-len(rows) // max_size))


def balanced_rows(labels: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Choose rows at random so that both classes have the size of the smaller one.

    Args:
        labels: [row], 0 or 1.

    Returns:
        Sorted row numbers, as many methylated as unmethylated.

    >>> balanced_rows(np.array([0, 1, 1, 0, 1]), np.random.default_rng(0)).tolist()
    [0, 1, 3, 4]
    """
    classes = [np.flatnonzero(labels == label) for label in (0, 1)]
    number = min(len(rows) for rows in classes)
    kept = [random.permutation(rows)[:number] for rows in classes]
    return np.sort(np.concatenate(kept))
