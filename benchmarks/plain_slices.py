"""A straightforward segmentation of slices: each is read, normalised, rotated and predicted alone.

Only the network's module is shared with the package, so that the weights are the same. Histogram
matching, rotation, loss, dropout and the loop are independent implementations of Chen et al. 2020
(sec. 2.2 and 2.3).
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from mgmt_ray.nets.myronenko import SegmentationNetwork

PERCENTILES = (1, 10, 20, 30, 40, 50, 60, 70, 80, 90, 99)
ANGLES = (-20, -15, -10, -5, 0, 5, 10, 15, 20)


class ScanFiles:
    """Scans on disk, one file each; a scan is normalised whenever one of its slices is read."""

    def __init__(self, folder: Path, scans: list[np.ndarray], masks: list[np.ndarray]) -> None:
        self.folder, self.lengths = folder, [len(scan) for scan in scans]
        for number, (scan, mask) in enumerate(zip(scans, masks, strict=True)):
            np.save(folder / f"{number}.npy", scan)
            np.save(folder / f"{number}_mask.npy", mask)
        landmarks = []
        for scan in scans:
            own = np.percentile(scan[scan != 0], PERCENTILES)
            landmarks.append((own - own[0]) / (own[-1] - own[0]))
        self.standard = np.mean(landmarks, axis=0)

    def slice(self, number: int, depth: int) -> tuple[np.ndarray, np.ndarray]:
        """Return a normalised slice and its mask; the histogram is that of the whole scan."""
        scan = np.load(self.folder / f"{number}.npy")
        mask = np.load(self.folder / f"{number}_mask.npy")
        valued = scan != 0
        values = scan[valued].astype(np.float64)
        own = np.percentile(values, PERCENTILES)
        slopes = np.diff(self.standard) / np.diff(own)
        part = np.clip(np.digitize(values, own) - 1, 0, len(slopes) - 1)
        matched = self.standard[part] + slopes[part] * (values - own[part])
        normal = np.zeros(scan.shape, np.float32)
        normal[valued] = (matched - matched.mean()) / matched.std()
        return normal[depth], mask[depth]


class TurnedSlices(Dataset[tuple[Tensor, Tensor]]):
    """All slices in nine rotations, computed on access."""

    def __init__(self, files: ScanFiles) -> None:
        self.files = files
        self.items = [
            (number, angle, depth)
            for number, length in enumerate(files.lengths)
            for angle in ANGLES
            for depth in range(length)
        ]

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        number, angle, depth = self.items[index]
        image, mask = self.files.slice(number, depth)
        if angle:
            image = ndimage.rotate(image, angle, reshape=False, order=1, mode="grid-constant")
            mask = ndimage.rotate(mask, angle, reshape=False, order=0, mode="grid-constant")
        return torch.from_numpy(image), torch.from_numpy(mask)


def plain_loss(
    network: SegmentationNetwork, images: Tensor, masks: Tensor, noise: Tensor, keep: Tensor
) -> tuple[Tensor, Tensor]:
    """Return a batch's mean loss (eq. 1 with the weight penalty) and mean Dice coefficient."""
    output = network(images, noise, keep)
    rebuilt = output.reconstruction
    truth, probability = masks.float(), torch.sigmoid(output.logits)
    shared = (truth * probability).sum((1, 2))
    dice = 2 * shared / ((truth**2).sum((1, 2)) + (probability**2).sum((1, 2)) + 1e-8)
    l2 = ((rebuilt.images - images) ** 2).mean((1, 2))
    mean, log_variance = rebuilt.mean, rebuilt.log_variance
    divergence = (mean**2 + log_variance.exp() - log_variance - 1).sum(1) / images[0].numel()
    penalised = (network.decoder.penalised, network.reconstructor.decoder.penalised)
    penalty = 1e-3 * sum((layer.weight**2).sum() for layer in penalised)
    loss = (1 - dice + 0.1 * l2 + 0.1 * divergence).mean() + penalty
    found = output.logits >= 0
    both = (found & (masks > 0)).sum((1, 2))
    return loss, (2 * both / (found.sum((1, 2)) + masks.sum((1, 2)) + 1e-8)).mean()


class PlainTraining:
    """A training loop that prints loss and Dice at every step."""

    def __init__(
        self, network: SegmentationNetwork, files: ScanFiles, batch: int, rate: float, device: str
    ) -> None:
        self.network, self.device, self.screen = network.train(), device, io.StringIO()
        self.optimizer = torch.optim.Adam(network.parameters(), lr=rate)
        self.loader = DataLoader(TurnedSlices(files), batch, shuffle=True, drop_last=True)
        self.batches = self._forever()

    def _forever(self) -> Iterator[list[Tensor]]:
        while True:
            yield from self.loader

    def step(self) -> None:
        images, masks = (part.to(self.device) for part in next(self.batches))
        noise = torch.randn(len(images), 128, device=self.device)
        features = self.network.num_keep
        keep = (torch.rand(len(images), features, device=self.device) >= 0.2) / 0.8
        self.learn(images, masks, noise, keep)

    def learn(self, images: Tensor, masks: Tensor, noise: Tensor, keep: Tensor) -> None:
        self.optimizer.zero_grad()
        loss, dice = plain_loss(self.network, images, masks, noise, keep)
        loss.backward()
        self.optimizer.step()
        print(f"loss {loss.item():.4f} dice {dice.item():.4f}", file=self.screen)


@torch.no_grad()
def predict_plainly(
    network: SegmentationNetwork, files: ScanFiles, number: int, device: str
) -> np.ndarray:
    """Return the probabilities [slice, height, width] of a scan, predicted slice by slice.

    The reconstruction is computed too, as in training.
    """
    network.eval()
    found = []
    for depth in range(files.lengths[number]):
        image = torch.from_numpy(files.slice(number, depth)[0]).unsqueeze(0).to(device)
        output = network(image, torch.zeros(1, 128, device=device))
        found.append(torch.sigmoid(output.logits)[0].cpu().numpy())
    return np.stack(found)


@torch.no_grad()
def forward_one_by_one(network: SegmentationNetwork, images: Tensor) -> Tensor:
    """Return the probabilities of normalised slices, predicted one by one, no reconstruction."""
    network.eval()
    return torch.cat([torch.sigmoid(network(image.unsqueeze(0)).logits) for image in images])
