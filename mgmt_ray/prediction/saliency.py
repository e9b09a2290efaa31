"""Where in a volume a network finds evidence: what is lost without a part, or signed Grad-CAM."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any, Literal

import numpy as np
import torch
from monai.visualize.class_activation_maps import GradCAM
from torch import Tensor, nn

from mgmt_ray.nets.build import Network
from mgmt_ray.nets.head import classify_pooled
from mgmt_ray.nets.resnet3d import pool
from mgmt_ray.nets.single_path import PlainNetwork
from mgmt_ray.nets.spottune import SpotTune
from mgmt_ray.training.evaluate import ROWS_PER_BATCH

Method = Literal["occlusion", "grad-cam"]

PARTS_PER_SIDE = 6
"""Parts along the tumour's longest side; the evaluations grow with its cube."""


class FixedRoute(nn.Module):
    """A network with a score per class, [row, 2]: unmethylated, methylated.

    SpotTune's blocks run along the most probable policy of one volume, whatever is then put in: a
    gradient has no mean over drawn policies to follow, and a part that is taken away is not to
    change the policy besides. What age and sex add to the logit is left out.

    Args:
        network: in evaluation mode.
        volume: [1, channel, depth, height, width], whose policy is taken.
    """

    def __init__(self, network: Network, volume: Tensor) -> None:
        super().__init__()
        self.stem, blocks, self.fc = _fixed_route(network, volume)
        self.route = nn.ModuleList(blocks)
        self.features = nn.Identity()  # a name for the last block's output, whichever branch ran

    def forward(self, volumes: Tensor) -> Tensor:
        """Scores of volumes [row, channel, depth, height, width]: minus the logit, the logit."""
        x = self.stem(volumes)
        for block in self.route:
            x = block(x)
        logits = classify_pooled(self.fc, pool(self.features(x)), None)
        return torch.stack([-logits, logits], dim=1)


def _fixed_route(
    network: Network, volume: Tensor
) -> tuple[Callable[[Tensor], Tensor], list[nn.Module], nn.Linear]:
    """What a volume passes before the blocks, the blocks in turn, and the classifier behind them.

    The last block's output is averaged over positions before the classifier.
    """
    match network:
        case PlainNetwork():
            return network.resnet.stem, network.resnet.blocks, network.resnet.fc
        case SpotTune():
            with torch.no_grad():
                (tuned,) = network.tuned_probability(volume) > 0.5
            blocks = [
                block.tuned if chosen else block.frozen
                for block, chosen in zip(network.blocks, tuned.tolist(), strict=True)
            ]
            return network.stem, blocks, network.fc


def saliency_map(network: Network, volume: Tensor, method: Method) -> np.ndarray:
    """A map of what speaks for methylated (above 0) and unmethylated (below 0).

    Args:
        network: in evaluation mode; its gradients are overwritten.
        volume: [1, channel, depth, height, width], in [0, 1], background 0.
        method: see :func:`occlusion` and :func:`grad_cam`.

    Returns:
        [depth, height, width], float32, in units of the logit.
    """
    volume = volume.float()
    if method == "occlusion":
        return occlusion(network, volume).cpu().numpy()
    cells = grad_cam(network, volume)
    fine = nn.functional.interpolate(cells, volume.shape[2:], mode="trilinear")
    whole: np.ndarray = fine[0, 0].cpu().numpy()
    return whole


@torch.no_grad()
def occlusion(network: Network, volume: Tensor) -> Tensor:
    """How much of the logit is lost when a part of the tumour becomes background.

    Occlusion sensitivity (Zeiler and Fergus 2014, sec. 4.2), with what networks see around every
    tumour in place of grey, and with cubes that do not overlap: the tumour's box is cut into
    :data:`PARTS_PER_SIDE` along its longest side.

    Args:
        network: in evaluation mode.
        volume: [1, channel, depth, height, width], in float32, background 0 in all channels.

    Returns:
        [depth, height, width]; a cube's tumour voxels share its loss, the background has 0.
    """
    tumour = (volume[0] != 0).any(dim=0)
    scores = FixedRoute(network, volume)
    whole = scores(volume)[0, 1]
    lost = torch.zeros_like(volume[0, 0])
    cubes = [cube for cube in _cubes(tumour) if tumour[cube].any()]
    for start in range(0, len(cubes), ROWS_PER_BATCH):
        some = cubes[start : start + ROWS_PER_BATCH]
        without = volume.repeat(len(some), 1, 1, 1, 1)
        for row, cube in enumerate(some):
            without[(row, slice(None), *cube)] = 0
        for cube, logit in zip(some, scores(without)[:, 1], strict=True):
            lost[cube] = whole - logit
    return lost * tumour


def _cubes(tumour: Tensor) -> list[tuple[slice, slice, slice]]:
    """The box around a tumour in cubes; those at its far sides may reach beyond it."""
    found = tumour.nonzero()
    first, last = found.min(dim=0).values.tolist(), found.max(dim=0).values.tolist()
    edge = -(-(max(b - a for a, b in zip(first, last, strict=True)) + 1) // PARTS_PER_SIDE)
    starts = (range(a, b + 1, edge) for a, b in zip(first, last, strict=True))
    return [
        (slice(z, z + edge), slice(y, y + edge), slice(x, x + edge)) for z, y, x in product(*starts)
    ]


def grad_cam(network: Network, volume: Tensor) -> Tensor:
    """Signed Grad-CAM on the last stage (Selvaraju et al. 2017, eq. 1 and 2, without the ReLU).

    Equation 2 keeps what speaks for one class; here that of unmethylated is taken from that of
    methylated. Behind the last stage there is only the mean and a linear layer, so the cells add up
    to the logit less the layer's bias (and less what age and sex add). A cell is wide, 16 mm at the
    papers' size, and sees most of the volume: a part of its evidence may come from elsewhere.

    Args:
        network: in evaluation mode; its gradients are overwritten.
        volume: [1, channel, depth, height, width], in float32.

    Returns:
        [1, 1, depth, height, width] of the last stage.
    """
    cam: Any = GradCAM(FixedRoute(network, volume), "features")
    # A network whose blocks are all frozen has no gradient unless the volume asks for one.
    asking = volume.detach().requires_grad_()
    cells: Tensor = cam.compute_map(asking, class_idx=1) - cam.compute_map(asking, class_idx=0)
    return cells.detach()
