"""A SpotTune network of the paper's depth, and the evaluation of its draws one by one."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mgmt_ray.nets.resnet3d import ResNet3d
from mgmt_ray.nets.spottune import SpotTune


@torch.no_grad()
def make_network(width: int, device: str = "cpu") -> SpotTune:
    """Return a ResNet-50 with a ResNet-10 agent, in evaluation mode, similar to a trained one.

    Tuned blocks differ from the frozen ones, and no BatchNorm is the identity.
    """
    torch.manual_seed(0)
    with torch.device(device):
        resnet = ResNet3d(50, width, channels=1, outputs=1)
        for module in resnet.modules():
            if isinstance(module, nn.BatchNorm3d):
                module.running_mean.uniform_(-0.1, 0.1)
                module.running_var.uniform_(0.8, 1.25)
        agent = ResNet3d(10, width, channels=1, outputs=2 * len(resnet.blocks))
        network = SpotTune(resnet, agent, temperature=1.0).eval()
        for block in network.blocks:
            for weights in block.tuned.parameters():
                weights.mul_(1 + 0.1 * torch.randn(weights.shape))
    return network


def naive_logits(network: SpotTune, volumes: Tensor, routes: Tensor) -> Tensor:
    """Evaluate each draw separately, as in training: agent, stem, both branches of each block.

    Args:
        network: in evaluation mode.
        volumes: one row per subject.
        routes: [draw, subject, block], 1.0 where a draw tunes a block.

    Returns:
        Logits [draw, subject].
    """
    return torch.stack([network(volumes, steering_noise(route)) for route in routes])


def steering_noise(route: Tensor) -> Tensor:
    """Return noise [subject, block, 2] that outweighs any agent, so that ``route`` is drawn."""
    return torch.stack([torch.zeros_like(route), (2 * route - 1) * 1e6], dim=-1)
