"""Synthetic scans for benchmarks of slices: noise in an ellipsoid with a bright ball."""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage

from mgmt_ray.base import stream
from mgmt_ray.preprocess.axial_slices import SubjectSlices
from mgmt_ray.preprocess.histogram_matching import learn_standard, normalise_slices
from mgmt_ray.preprocess.slice_geometry import Frame
from mgmt_ray.preprocess.slice_rotation import ANGLES_DEGREES, rotate_images, rotate_masks
from mgmt_ray.training.dataset import VolumeSet


def make_scans(
    length: int, shape: tuple[int, int], number: int = 2
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return scans [slice, height, width] in float32, and masks of their balls."""
    height, width = shape
    z, y, x = np.indices((length, height, width))
    middle = (length / 2, height / 2, width / 2)
    sizes = (0.6 * length, 0.45 * height, 0.38 * width)
    away = ((z - middle[0]) / sizes[0], (y - middle[1]) / sizes[1], (x - middle[2]) / sizes[2])
    brain = sum(a**2 for a in away) < 1
    scans, masks = [], []
    for scan in range(number):
        random = stream(0, "slices", scan)
        place = random.uniform(-0.3, 0.3, 3)
        ball = sum((a - p) ** 2 for a, p in zip(away, place, strict=True)) < 0.1
        values = 100 + 10 * ndimage.gaussian_filter(random.standard_normal(brain.shape), 1)
        scans.append(np.where(brain, values + 40 * ball, 0).astype(np.float32))
        masks.append((ball & brain).astype(np.uint8))
    return scans, masks


def training_rows(scans: list[np.ndarray], masks: list[np.ndarray], device: str) -> VolumeSet:
    """Return all slices in nine rotations on the device, as a trial does."""
    standard = learn_standard((str(i), scan) for i, scan in enumerate(scans))
    images, labels = [], []
    for number, (scan, mask) in enumerate(zip(scans, masks, strict=True)):
        normal = normalise_slices(scan, standard, str(number))
        images += [rotate_images(normal, angle).astype(np.float16) for angle in ANGLES_DEGREES]
        labels += [rotate_masks(mask, angle) for angle in ANGLES_DEGREES]
    volumes, truth = (torch.from_numpy(np.concatenate(rows)) for rows in (images, labels))
    ids = tuple(str(row) for row in range(len(volumes)))
    return VolumeSet(volumes.to(device), truth.to(device), ids)


def subject_slices(scan: np.ndarray, mask: np.ndarray) -> SubjectSlices:
    """Return slices as the slice store does."""
    depth, height, width = scan.shape
    frame = Frame((depth, height, width), 0, 0, 1, (1.0, 1.0, 1.0))
    return SubjectSlices("0", scan, mask, np.arange(depth), frame, mask > 0, np.ones(depth, bool))
