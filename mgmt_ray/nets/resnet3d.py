"""3-D residual networks as in MedicalNet (Chen, Ma & Zheng 2019, Med3D), with its parameter names.

The dilation holds in every block of a stage and the shortcut's BatchNorm is applied, as in
MedicalNet's own code and unlike the public code of Schmitz et al. 2024 (``docs/papers.md`` lists
its faults). MedicalNet's segmentation head is left out.
"""

from __future__ import annotations

from functools import partial
from itertools import chain
from typing import Literal, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn

Volumes: TypeAlias = Float[Tensor, "batch channels depth height width"]
"""Volumes, or the input of a block."""

Outputs: TypeAlias = Float[Tensor, "batch out_channels out_depth out_height out_width"]
"""A block's output."""

Depth = Literal[10, 18, 34, 50, 101, 152, 200]

Initialisation = Literal["normal", "uniform"]

CONTRAST = 5.0
"""Factor of centred volumes: a tumour's values, from 0 to 1, then deviate by about 1, as those that
MedicalNet was trained on. Without it what a stem of random weights makes of a small tumour is no
larger than BatchNorm's ε."""

STAGE_STRIDES = (1, 2, 1, 1)
STAGE_DILATIONS = (1, 1, 2, 4)


class BasicBlock(nn.Module):
    """Two 3³ convolutions beside a shortcut (He et al. 2016, fig. 5 left)."""

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int, dilation: int, projects: bool) -> None:
        super().__init__()
        self.conv1 = _conv(inputs, width, 3, stride, dilation)
        self.bn1 = nn.BatchNorm3d(width)
        self.conv2 = _conv(width, width, 3, 1, dilation)
        self.bn2 = nn.BatchNorm3d(width)
        self.downsample = _shortcut(inputs, width, stride, projects)

    def forward(self, x: Volumes) -> Outputs:
        """Return the block's output after its last ReLU."""
        y = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(y)) + self.downsample(x))


class Bottleneck(nn.Module):
    """1³, 3³ and 1³ convolutions beside a shortcut (He et al. 2016, fig. 5 right)."""

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int, dilation: int, projects: bool) -> None:
        super().__init__()
        self.conv1 = _conv(inputs, width, 1)
        self.bn1 = nn.BatchNorm3d(width)
        self.conv2 = _conv(width, width, 3, stride, dilation)
        self.bn2 = nn.BatchNorm3d(width)
        self.conv3 = _conv(width, width * self.expansion, 1)
        self.bn3 = nn.BatchNorm3d(width * self.expansion)
        self.downsample = _shortcut(inputs, width * self.expansion, stride, projects)

    def forward(self, x: Volumes) -> Outputs:
        """Return the block's output after its last ReLU."""
        y = torch.relu(self.bn1(self.conv1(x)))
        y = torch.relu(self.bn2(self.conv2(y)))
        return torch.relu(self.bn3(self.conv3(y)) + self.downsample(x))


class PaddedShortcut(nn.Module):
    """Shortcut type A (He et al. 2016, option A): no weights.

    Args:
        stride: every ``stride``-th voxel is kept along each axis.
        new_channels: channels of zeros that are appended.
    """

    def __init__(self, stride: int, new_channels: int) -> None:
        super().__init__()
        self.stride = stride
        self.new_channels = new_channels

    def forward(self, x: Volumes) -> Outputs:
        """Subsample the voxels and append channels of zeros."""
        kept = x[:, :, :: self.stride, :: self.stride, :: self.stride]
        return nn.functional.pad(kept, (0, 0, 0, 0, 0, 0, 0, self.new_channels))


ARCHITECTURES: dict[int, tuple[type[BasicBlock] | type[Bottleneck], tuple[int, int, int, int]]] = {
    10: (BasicBlock, (1, 1, 1, 1)),
    18: (BasicBlock, (2, 2, 2, 2)),
    34: (BasicBlock, (3, 4, 6, 3)),
    50: (Bottleneck, (3, 4, 6, 3)),
    101: (Bottleneck, (3, 4, 23, 3)),
    152: (Bottleneck, (3, 8, 36, 3)),
    200: (Bottleneck, (3, 24, 36, 3)),
}
"""Block type and number of blocks per stage, by depth."""

PADDED_DEPTHS = (18, 34)
"""Depths whose public weights were trained with shortcuts of type A; the others have type B."""


class ResNet3d(nn.Module):
    """A MedicalNet residual network with one linear layer on the pooled features.

    Args:
        width: channels of the stem and of the first stage; 64 in the papers.
        outputs: values per subject.
        initialisation: distribution of the convolutions' initial weights, see :func:`_initialise`.
        centred: whether volumes pass :func:`centre` first.

    >>> network = ResNet3d(10, width=4, channels=1, outputs=3)
    >>> network(torch.zeros(2, 1, 16, 16, 16)).shape
    torch.Size([2, 3])
    >>> len(ResNet3d(50, width=1, channels=1, outputs=1).blocks)
    16
    """

    def __init__(
        self,
        depth: Depth,
        width: int,
        channels: int,
        outputs: int,
        initialisation: Initialisation = "normal",
        *,
        centred: bool = False,
    ) -> None:
        super().__init__()
        block, counts = ARCHITECTURES[depth]
        first = CentredConv3d if centred else nn.Conv3d
        self.conv1 = first(channels, width, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm3d(width)
        inputs = width
        for stage, count in enumerate(counts):
            stage_width = width * 2**stage
            blocks = []
            for index in range(count):
                stride = STAGE_STRIDES[stage] if index == 0 else 1
                dilation, projects = STAGE_DILATIONS[stage], depth not in PADDED_DEPTHS
                blocks.append(block(inputs, stage_width, stride, dilation, projects))
                inputs = stage_width * block.expansion
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))
        self.fc = FullLinear(inputs, outputs)
        self.apply(partial(_initialise, distribution=initialisation))

    @property
    def blocks(self) -> list[nn.Module]:
        """All residual blocks, the one after the stem first."""
        stages = (self.get_submodule(f"layer{stage}") for stage in (1, 2, 3, 4))
        return list(chain.from_iterable(stage.children() for stage in stages))

    def stem(self, volumes: Volumes) -> Outputs:
        """Return the first block's input."""
        return run_stem(self.conv1, self.bn1, volumes)

    def forward(self, volumes: Volumes) -> Float[Tensor, "batch outputs"]:
        """Return unbounded outputs (logits) per subject."""
        output: Tensor = self.fc(self.features(volumes))
        return output

    def features(self, volumes: Volumes) -> Float[Tensor, "batch features"]:
        """Return the pooled features, the last layer's input."""
        x = self.stem(volumes)
        for block in self.blocks:
            x = block(x)
        return pool(x)


def centre(volumes: Volumes) -> Volumes:
    """Subtract each tumour's mean from its voxels, and multiply by :data:`CONTRAST`.

    The background stays 0 and is then the tumour's mean: the step at the tumour's edge, which is
    larger than any texture, is gone. What is not 0 is tumour, in each channel.

    >>> centre(torch.tensor([0.0, 0.25, 0.75]).reshape(1, 1, 1, 1, 3)).flatten().tolist()
    [0.0, -1.25, 1.25]
    """
    inside = volumes != 0
    axes = (2, 3, 4)
    total = volumes.sum(dim=axes, keepdim=True)
    mean = total / inside.sum(dim=axes, keepdim=True).clamp(min=1)
    return torch.where(inside, (volumes - mean) * CONTRAST, torch.zeros_like(volumes))


class CentredConv3d(nn.Conv3d):
    """A convolution of volumes that are centred first."""

    def forward(self, x: Volumes) -> Outputs:
        """Centre the volumes, then compute ``nn.Conv3d``."""
        return super().forward(centre(x))


def run_stem(convolution: nn.Conv3d, norm: nn.BatchNorm3d, volumes: Volumes) -> Outputs:
    """Apply a 7³ convolution, BatchNorm, ReLU and 3³ max-pool; both sizes have stride 2."""
    x = torch.relu(norm(convolution(volumes)))
    # on CPUs autocast pools in float32, and all that follows would compute in float32 too
    return nn.functional.max_pool3d(x, kernel_size=3, stride=2, padding=1).to(x.dtype)


def pool(
    features: Float[Tensor, "batch features depth height width"],
) -> Float[Tensor, "batch features"]:
    """Average over all voxels (global average pooling), at least in float32.

    >>> pool(torch.ones(2, 8, 3, 3, 3)).shape
    torch.Size([2, 8])
    """
    exact = torch.promote_types(features.dtype, torch.float32)
    return features.mean(dim=(2, 3, 4), dtype=exact)


class FullLinear(nn.Linear):
    """A linear layer that computes in its weights' precision, whatever autocast asks for.

    Logits in bfloat16 would have 8 significant bits: subjects would tie in the AUC.
    """

    def forward(self, x: Float[Tensor, "batch features"]) -> Float[Tensor, "batch outputs"]:
        """Compute ``nn.Linear`` outside autocast."""
        if not torch.amp.is_autocast_available(x.device.type):  # the meta device
            return super().forward(x)
        with torch.autocast(x.device.type, enabled=False):
            return super().forward(x)


def _conv(inputs: int, outputs: int, kernel: int, stride: int = 1, dilation: int = 1) -> nn.Conv3d:
    padding = dilation * (kernel - 1) // 2
    return nn.Conv3d(inputs, outputs, kernel, stride, padding, dilation, bias=False)


def _shortcut(inputs: int, outputs: int, stride: int, projects: bool) -> nn.Module:
    """Return a projection (type B) or zeros (type A) where the shape changes, else identity."""
    if inputs == outputs and stride == 1:
        return nn.Identity()
    if not projects:
        return PaddedShortcut(stride, outputs - inputs)
    return nn.Sequential(_conv(inputs, outputs, 1, stride), nn.BatchNorm3d(outputs))


def _initialise(module: nn.Module, distribution: Initialisation) -> None:
    """Initialise convolutions by He et al. 2015; BatchNorm starts at 1 and 0.

    "normal" is what MedicalNet and the public code draw; "uniform", the word of Schmitz et al.
    2024, has the same standard deviation √(2 / fan-out), since the paper gives no range.
    """
    if isinstance(module, nn.Conv3d):
        normal, uniform = nn.init.kaiming_normal_, nn.init.kaiming_uniform_
        draw = normal if distribution == "normal" else uniform
        draw(module.weight, mode="fan_out")
