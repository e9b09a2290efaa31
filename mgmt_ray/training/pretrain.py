"""Pretraining a small substitute for MedicalNet's weights on a task unrelated to the label.

The real checkpoints cannot be shipped. A synthetic cohort comes with weights that have learnt to
predict the radius of a synthetic lesion's core, the width of its rim and the strength of its
texture, whatever that texture's grain, so that transfer learning can be tested there too.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor
from torch.nn.functional import avg_pool3d, mse_loss

from mgmt_ray.base import Config, stream_seed
from mgmt_ray.nets.medicalnet import write_medicalnet
from mgmt_ray.nets.resnet3d import Depth, ResNet3d

NUM_TARGETS = 3


class SourceTaskConfig(Config):
    """The network of the checkpoint, and its training."""

    depth: Depth = Field(10, description="layers of the residual network")
    width: int = Field(8, ge=1, description="channels of its stem; MedicalNet's have 64")
    steps: int = Field(200, ge=0, description="training steps; 0 leaves random weights")
    batch_size: int = Field(12, ge=2, description="lesions per step")
    shape: tuple[int, int, int] = Field(
        (20, 24, 24), description="voxels of a lesion's volume: depth, height, width"
    )
    learning_rate: float = Field(1e-3, gt=0, description="Adam's rate")
    seed: int = 0


def write_source_task_checkpoint(
    config: SourceTaskConfig, path: Path, progress: Callable[[int, int], None] | None = None
) -> float:
    """Train the source task and write its weights in MedicalNet's ``.pth`` format.

    Returns:
        Mean squared error of the last tenth of the steps, in units of the targets' variance (1 for
        guessing the mean); NaN without steps.

    >>> from tempfile import TemporaryDirectory
    >>> config = SourceTaskConfig(depth=10, width=2, steps=0)
    >>> with TemporaryDirectory() as folder:
    ...     write_source_task_checkpoint(config, Path(folder, "weights.pth"))
    nan
    """
    torch.manual_seed(stream_seed(config.seed, "source task", "weights"))
    random = torch.Generator().manual_seed(stream_seed(config.seed, "source task", "lesions"))
    network = ResNet3d(config.depth, config.width, channels=1, outputs=NUM_TARGETS).train()
    optimizer = torch.optim.Adam(network.parameters(), lr=config.learning_rate)
    losses = []
    for step in range(config.steps):
        volumes, targets = lesions(config.batch_size, config.shape, random)
        loss = mse_loss(network(volumes), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
        if progress:
            progress(step + 1, config.steps)
    write_medicalnet(network, path)
    last = losses[-max(1, len(losses) // 10) :]
    return float(torch.stack(last).mean()) if last else float("nan")


def lesions(
    number: int, shape: tuple[int, int, int], random: torch.Generator
) -> tuple[Float[Tensor, "lesion 1 depth height width"], Float[Tensor, "lesion target"]]:
    """Draw lesions with a bright core in a rim on a background of 0, and the source task's targets.

    Returns:
        Volumes in [0, 1] with noise of a random grain; radius of the core, width of the rim and
        strength of the noise, each with mean 0 and standard deviation 1.

    >>> volumes, targets = lesions(5, (8, 12, 12), torch.Generator().manual_seed(0))
    >>> volumes.shape, targets.shape
    (torch.Size([5, 1, 8, 12, 12]), torch.Size([5, 3]))
    """
    half = min(shape) / 2
    axes = [torch.arange(n, dtype=torch.float32) - (n - 1) / 2 for n in shape]
    grid = torch.stack(torch.meshgrid(*axes, indexing="ij"))
    uniform = torch.rand(number, 7, generator=random)
    volumes = []
    for row in uniform:
        centre = (row[:3] - 0.5) * half / 2
        distance = (grid - centre.view(3, 1, 1, 1)).norm(dim=0)
        core = half * (0.2 + 0.4 * row[3])
        rim = core + half * (0.15 + 0.3 * row[4])
        noise = torch.randn(1, 1, *shape, generator=random)
        for _ in range(int(row[6] * 4)):
            noise = avg_pool3d(noise, 3, stride=1, padding=1)
        strength = 0.05 + 0.2 * row[5]
        signal = torch.where(distance < core, 0.6, 0.4) + strength * noise[0, 0] / noise.std()
        volumes.append(torch.where(distance < rim, signal.clamp(0.01, 1.0), 0.0))
    # A uniform variable on [0, 1] has mean 1/2 and standard deviation 12^-1/2.
    targets = (uniform[:, 3 : 3 + NUM_TARGETS] - 0.5) * 12**0.5
    return torch.stack(volumes).unsqueeze(1), targets
