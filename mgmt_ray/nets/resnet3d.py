"""3-D residual networks as in MedicalNet (Chen, Ma & Zheng 2019, Med3D), with its parameter names.

Differences from the public code, which SPEC section A lists as faults: the dilation holds in every
block of a stage, and the shortcut's BatchNorm is applied.
"""

from __future__ import annotations

from itertools import chain
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

Depth = Literal[10, 18, 34, 50, 101]

STAGE_STRIDES = (1, 2, 1, 1)
STAGE_DILATIONS = (1, 1, 2, 4)


class BasicBlock(nn.Module):
    """Two 3³ convolutions beside a shortcut (He et al. 2016, fig. 5 left)."""

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int, dilation: int) -> None:
        super().__init__()
        self.conv1 = _conv(inputs, width, 3, stride, dilation)
        self.bn1 = nn.BatchNorm3d(width)
        self.conv2 = _conv(width, width, 3, 1, dilation)
        self.bn2 = nn.BatchNorm3d(width)
        self.downsample = _shortcut(inputs, width, stride)

    def forward(
        self, x: Float[Tensor, "batch channels depth height width"]
    ) -> Float[Tensor, "batch out_channels out_depth out_height out_width"]:
        """The block's output after its last ReLU."""
        y = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(y)) + self.downsample(x))


class Bottleneck(nn.Module):
    """1³, 3³ and 1³ convolutions beside a shortcut (He et al. 2016, fig. 5 right)."""

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int, dilation: int) -> None:
        super().__init__()
        self.conv1 = _conv(inputs, width, 1)
        self.bn1 = nn.BatchNorm3d(width)
        self.conv2 = _conv(width, width, 3, stride, dilation)
        self.bn2 = nn.BatchNorm3d(width)
        self.conv3 = _conv(width, width * self.expansion, 1)
        self.bn3 = nn.BatchNorm3d(width * self.expansion)
        self.downsample = _shortcut(inputs, width * self.expansion, stride)

    def forward(
        self, x: Float[Tensor, "batch channels depth height width"]
    ) -> Float[Tensor, "batch out_channels out_depth out_height out_width"]:
        """The block's output after its last ReLU."""
        y = torch.relu(self.bn1(self.conv1(x)))
        y = torch.relu(self.bn2(self.conv2(y)))
        return torch.relu(self.bn3(self.conv3(y)) + self.downsample(x))


ARCHITECTURES: dict[int, tuple[type[BasicBlock] | type[Bottleneck], tuple[int, int, int, int]]] = {
    10: (BasicBlock, (1, 1, 1, 1)),
    18: (BasicBlock, (2, 2, 2, 2)),
    34: (BasicBlock, (3, 4, 6, 3)),
    50: (Bottleneck, (3, 4, 6, 3)),
    101: (Bottleneck, (3, 4, 23, 3)),
}
"""Block type and number of blocks per stage, by depth."""


class ResNet3d(nn.Module):
    """A MedicalNet residual network with one linear layer on the pooled features.

    Args:
        depth: 10, 18, 34, 50 or 101 layers.
        width: channels of the stem and of the first stage; 64 in the papers.
        channels: input channels.
        outputs: values per subject.
    """

    def __init__(self, depth: Depth, width: int, channels: int, outputs: int) -> None:
        super().__init__()
        block, counts = ARCHITECTURES[depth]
        self.conv1 = nn.Conv3d(channels, width, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm3d(width)
        inputs = width
        for stage, count in enumerate(counts):
            stage_width = width * 2**stage
            blocks = []
            for index in range(count):
                stride = STAGE_STRIDES[stage] if index == 0 else 1
                blocks.append(block(inputs, stage_width, stride, STAGE_DILATIONS[stage]))
                inputs = stage_width * block.expansion
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))
        self.fc = nn.Linear(inputs, outputs)
        self.apply(_initialise)

    @property
    def blocks(self) -> list[nn.Module]:
        """All residual blocks, from the stem on."""
        stages = (self.get_submodule(f"layer{stage}") for stage in (1, 2, 3, 4))
        return list(chain.from_iterable(stage.children() for stage in stages))

    def stem(
        self, volumes: Float[Tensor, "batch channels depth height width"]
    ) -> Float[Tensor, "batch stem_channels stem_depth stem_height stem_width"]:
        """The first block's input."""
        return run_stem(self.conv1, self.bn1, volumes)

    def forward(
        self, volumes: Float[Tensor, "batch channels depth height width"]
    ) -> Float[Tensor, "batch outputs"]:
        """Unbounded outputs (logits) per subject."""
        x = self.stem(volumes)
        for block in self.blocks:
            x = block(x)
        output: Tensor = self.fc(pool(x))
        return output


def run_stem(
    convolution: nn.Conv3d,
    norm: nn.BatchNorm3d,
    volumes: Float[Tensor, "batch channels depth height width"],
) -> Float[Tensor, "batch stem_channels stem_depth stem_height stem_width"]:
    """7³ convolution, BatchNorm, ReLU and 3³ max-pool; convolution and pool have stride 2."""
    x = torch.relu(norm(convolution(volumes)))
    return nn.functional.max_pool3d(x, kernel_size=3, stride=2, padding=1)


def pool(
    features: Float[Tensor, "batch features depth height width"],
) -> Float[Tensor, "batch features"]:
    """Global average pooling."""
    return features.mean(dim=(2, 3, 4))


def _conv(inputs: int, outputs: int, kernel: int, stride: int = 1, dilation: int = 1) -> nn.Conv3d:
    padding = dilation * (kernel - 1) // 2
    return nn.Conv3d(inputs, outputs, kernel, stride, padding, dilation, bias=False)


def _shortcut(inputs: int, outputs: int, stride: int) -> nn.Module:
    """Shortcut type B: a projection where the shape changes, else nothing."""
    if inputs == outputs and stride == 1:
        return nn.Identity()
    return nn.Sequential(_conv(inputs, outputs, 1, stride), nn.BatchNorm3d(outputs))


def _initialise(module: nn.Module) -> None:
    """Kaiming initialisation of the convolutions, as MedicalNet's own; BatchNorm starts at 1, 0."""
    if isinstance(module, nn.Conv3d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out")
