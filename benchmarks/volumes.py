"""Synthetic volumes for benchmarks: noise, and balls whose texture depends on the label."""

from __future__ import annotations

import numpy as np

from mgmt_ray.base import stream
from mgmt_ray.synthetic.random_fields import tumour_texture
from mgmt_ray.training.dataset import VolumeSet, volume_set

Shape = tuple[int, int, int]


def random_volumes(number: int, shape: Shape, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Return volumes [row, 1, depth, height, width] in float16, and alternating labels."""
    random = np.random.default_rng(seed)
    volumes = random.random((number, 1, *shape), dtype=np.float32).astype(np.float16)
    return volumes, np.arange(number) % 2


def resident(volumes: np.ndarray, labels: np.ndarray, device: str) -> VolumeSet:
    """Return volumes that stay on the device."""
    names = [str(i) for i in range(len(labels))]
    return volume_set([volumes], labels.tolist(), names, device)


def textured_volumes(
    number: int, shape: Shape, purpose: str, seed: int, signal: float, device: str = "cpu"
) -> VolumeSet:
    """Return balls whose texture is coarse in methylated and fine in unmethylated subjects.

    Args:
        number: of subjects.
        shape: depth, height, width of a volume.
        purpose: part of the subjects' names and of the name of their stream.
        seed: of the stream.
        signal: amplitude of the label's texture, in standard deviations of the common texture.
        device: as torch names it.
    """
    random = stream(seed, "draws", purpose)
    centre = (np.array(shape).reshape(3, 1, 1, 1) - 1) / 2
    distance = np.linalg.norm(np.indices(shape) - centre, axis=0)
    labels = [subject % 2 for subject in range(number)]
    volumes = []
    for label in labels:
        tumour = distance < random.uniform(0.6, 0.95) * min(shape) / 2
        texture = tumour_texture(tumour, bool(label), signal, random)
        volumes.append(np.where(tumour, np.clip(0.5 + 0.08 * texture, 0.01, 1), 0)[None])
    ids = [f"{purpose}-{subject}" for subject in range(number)]
    return volume_set([np.stack(volumes)], labels, ids, device)
