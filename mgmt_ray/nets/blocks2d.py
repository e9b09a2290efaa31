"""Parts of Myronenko's network in the plane: residual blocks, an encoder, a decoder.

Myronenko 2018, fig. 1 and table 1, with the changes that Chen et al.'s (2020) number of parameters
asks for; see :mod:`mgmt_ray.nets.segmentation2d`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

NUM_BLOCKS = (1, 2, 2, 4)
"""Residual blocks per stage of the encoder; each stage has twice the channels of the one before."""

NUM_GROUPS = 8


class NormalisedRelu(nn.GroupNorm):
    """GroupNorm and ReLU, in the precision of what comes in.

    Autocast would normalise in float32 on GPUs and in bfloat16 on CPUs. The sums are float32's on
    both, whatever comes in.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(NUM_GROUPS, channels)

    def forward(
        self, x: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch channels height width"]:
        """Values of at least 0."""
        weight, bias = self.weight.to(x.dtype), self.bias.to(x.dtype)
        with _own_precision(x):
            return torch.relu(nn.functional.group_norm(x, NUM_GROUPS, weight, bias, self.eps))


class Block(nn.Module):
    """GroupNorm, ReLU, 3×3 convolution, all twice, beside a 1×1 convolution (Chen, fig. 2).

    Myronenko's shortcut is the identity; Chen's parameters ask for a convolution in every block.
    """

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.norm1 = NormalisedRelu(inputs)
        self.conv1 = nn.Conv2d(inputs, width, 3, padding=1)
        self.norm2 = NormalisedRelu(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.shortcut = nn.Conv2d(inputs, width, 1)

    def forward(
        self, x: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch out_channels height width"]:
        """Of the input's size."""
        y = self.conv1(self.norm1(x))
        return self.conv2(self.norm2(y)) + self.shortcut(x)


class Encoder(nn.Module):
    """A 3×3 convolution and four stages of blocks, with 3×3 convolutions of stride 2 between."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, width, 3, padding=1)
        self.stages = nn.ModuleList()
        self.halve = nn.ModuleList()
        inputs = width
        for stage, count in enumerate(NUM_BLOCKS):
            outputs = width * 2**stage
            if stage:
                self.halve.append(nn.Conv2d(inputs, inputs, 3, stride=2, padding=1))
            blocks = [Block(inputs if i == 0 else outputs, outputs) for i in range(count)]
            self.stages.append(nn.Sequential(*blocks))
            inputs = outputs

    def forward(self, images: Float[Tensor, "batch height width"]) -> list[Tensor]:
        """The stages' outputs, the finest first."""
        features = [self.stages[0](self.stem(images.unsqueeze(1)))]
        for halve, stage in zip(self.halve, self.stages[1:], strict=True):
            features.append(stage(halve(features[-1])))
        return features


class Decoder(nn.Module):
    """Three times a 1×1 convolution, bilinear doubling, an addition and a block; an output layer.

    Args:
        width: channels of the output layer; what comes in has 8 times as many.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        widths = [width * 2**stage for stage in reversed(range(len(NUM_BLOCKS) - 1))]
        self.narrow = nn.ModuleList(nn.Conv2d(2 * outputs, outputs, 1) for outputs in widths)
        self.blocks = nn.ModuleList(Block(outputs, outputs) for outputs in widths)
        self.penalised = nn.Conv2d(width, width, 3, padding=1)
        self.last = FullConv2d(width, 1, 1)

    def forward(
        self,
        x: Float[Tensor, "batch channels low_height low_width"],
        skips: Sequence[Tensor],
        keep: Float[Tensor, "batch features"] | None,
    ) -> Float[Tensor, "batch height width"]:
        """One value per pixel, at 8 times the input's resolution.

        Args:
            x: the deepest features.
            skips: what is added after each doubling, the coarsest first; may be empty.
            keep: factors of the output layer's channels; None drops nothing.
        """
        for level, (narrow, block) in enumerate(zip(self.narrow, self.blocks, strict=True)):
            x = double(narrow(x))
            x = block(x + skips[level] if skips else x)
        x = self.penalised(x)
        if keep is not None:
            x = x * keep[:, :, None, None].to(x.dtype)
        pixels: Tensor = self.last(x)
        return pixels.squeeze(1)


class FullConv2d(nn.Conv2d):
    """A convolution that autocast leaves in its own precision, for pixels' logits."""

    def forward(
        self, x: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch out_channels height width"]:
        """As of ``nn.Conv2d``, at least in float32."""
        with _own_precision(x):
            return super().forward(at_least_float32(x))


def double(
    x: Float[Tensor, "batch channels height width"],
) -> Float[Tensor, "batch channels out_height out_width"]:
    """Twice the resolution, bilinear."""
    return nn.functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


def _own_precision(x: Tensor) -> torch.autocast:
    """A context without autocast; the meta device has none to switch off."""
    known = torch.amp.is_autocast_available(x.device.type)
    return torch.autocast(x.device.type if known else "cpu", enabled=False)


def at_least_float32(x: Tensor) -> Tensor:
    """Float32 of half precisions; float64 stays."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
