"""Saliency maps of volumes: occlusion sensitivity and signed Grad-CAM."""

from __future__ import annotations

from itertools import product
from typing import Any, Literal

import numpy as np
import torch
from monai.visualize.class_activation_maps import GradCAM
from torch import Tensor, nn

from mgmt_ray.nets.head import classify_pooled
from mgmt_ray.nets.network import VolumeNetwork
from mgmt_ray.nets.resnet3d import pool
from mgmt_ray.training.evaluate import ROWS_PER_BATCH

Method = Literal["occlusion", "grad-cam"]

PARTS_PER_SIDE = 6
"""Cubes along the tumour's longest side; the number of evaluations grows with its third power."""


class FixedRoute(nn.Module):
    """A network whose routing is fixed, with a score per class, [row, 2]: unmethylated, methylated.

    SpotTune's blocks follow the most probable policy of one volume, whatever the input: a gradient
    cannot follow a mean over drawn policies, and occluding a part should not change the policy as
    well. The contributions of age and sex to the logit are left out.

    Args:
        network: in evaluation mode.
        volume: [1, channel, depth, height, width], determines the policy.
    """

    def __init__(self, network: VolumeNetwork, volume: Tensor) -> None:
        super().__init__()
        self.stem, blocks, self.fc = network.fixed_route(volume)
        self.route = nn.ModuleList(blocks)
        self.features = nn.Identity()  # a name for the last block's output, whichever branch ran

    def forward(self, volumes: Tensor) -> Tensor:
        """Return -logit and logit of volumes [row, channel, depth, height, width]."""
        x = self.stem(volumes)
        for block in self.route:
            x = block(x)
        logits = classify_pooled(self.fc, pool(self.features(x)), None)
        return torch.stack([-logits, logits], dim=1)


def saliency_map(network: VolumeNetwork, volume: Tensor, method: Method) -> np.ndarray:
    """Return a map of the evidence for methylated (above 0) and unmethylated (below 0).

    Args:
        network: in evaluation mode; its gradients are overwritten.
        volume: [1, channel, depth, height, width], in [0, 1], background 0.
        method: see :func:`occlusion` and :func:`grad_cam`.

    Returns:
        [depth, height, width], float32, in units of the logit.

    Examples:
        >>> from mgmt_ray.nets.build import NetworkConfig, build_volume_network
        >>> config = NetworkConfig(kind="random", depth=10, width=4)
        >>> network = build_volume_network(config, 1, 1.0, None).eval()
        >>> volume = torch.zeros(1, 1, 16, 16, 16)
        >>> volume[..., 4:12, 4:12, 4:12] = 0.5
        >>> saliency_map(network, volume, "occlusion").shape
        (16, 16, 16)
    """
    volume = volume.float()
    if method == "occlusion":
        return occlusion(network, volume).cpu().numpy()
    cells = grad_cam(network, volume)
    upsampled = nn.functional.interpolate(cells, volume.shape[2:], mode="trilinear")
    cam: np.ndarray = upsampled[0, 0].cpu().numpy()
    return cam


@torch.no_grad()
def occlusion(network: VolumeNetwork, volume: Tensor) -> Tensor:
    """Return how much of the logit is lost when a cube of the tumour is set to background.

    Occlusion sensitivity (Zeiler and Fergus 2014, sec. 4.2), with background (0) instead of grey,
    and with cubes that do not overlap: the tumour's bounding box is cut into
    :data:`PARTS_PER_SIDE` along its longest side.

    Args:
        volume: [1, channel, depth, height, width], in float32, background 0 in all channels.

    Returns:
        [depth, height, width]; all tumour voxels of a cube have the cube's value, the background 0.
    """
    tumour = (volume[0] != 0).any(dim=0)
    scores = FixedRoute(network, volume)
    full_logit = scores(volume)[0, 1]
    logit_loss = torch.zeros_like(volume[0, 0])
    cubes = [cube for cube in _cubes(tumour) if tumour[cube].any()]
    for start in range(0, len(cubes), ROWS_PER_BATCH):
        batch = cubes[start : start + ROWS_PER_BATCH]
        occluded = volume.repeat(len(batch), 1, 1, 1, 1)
        for row, cube in enumerate(batch):
            occluded[(row, slice(None), *cube)] = 0
        for cube, logit in zip(batch, scores(occluded)[:, 1], strict=True):
            logit_loss[cube] = full_logit - logit
    return logit_loss * tumour


def _cubes(tumour: Tensor) -> list[tuple[slice, slice, slice]]:
    """Cut a tumour's bounding box into cubes; those at its far sides may reach beyond it."""
    voxels = tumour.nonzero()
    first, last = voxels.min(dim=0).values.tolist(), voxels.max(dim=0).values.tolist()
    edge = -(-(max(b - a for a, b in zip(first, last, strict=True)) + 1) // PARTS_PER_SIDE)
    starts = (range(a, b + 1, edge) for a, b in zip(first, last, strict=True))
    return [
        (slice(z, z + edge), slice(y, y + edge), slice(x, x + edge)) for z, y, x in product(*starts)
    ]


def grad_cam(network: VolumeNetwork, volume: Tensor) -> Tensor:
    """Compute signed Grad-CAM on the last block (Selvaraju et al. 2017, eq. 1, 2 without ReLU).

    The map of unmethylated is subtracted from that of methylated. Only the mean and a linear layer
    follow the last block, so that the cells sum to the logit minus the layer's bias (and minus the
    contributions of age and sex). A cell is 16 mm wide at the papers' size, and its receptive
    field covers most of the volume: part of its evidence may come from elsewhere.

    Args:
        volume: [1, channel, depth, height, width], in float32.

    Returns:
        [1, 1, depth, height, width] at the resolution of the last block.
    """
    cam: Any = GradCAM(FixedRoute(network, volume), "features")
    # a network whose blocks are all frozen has no gradient unless the volume requires one
    volume = volume.detach().requires_grad_()
    cells: Tensor = cam.compute_map(volume, class_idx=1) - cam.compute_map(volume, class_idx=0)
    return cells.detach()
