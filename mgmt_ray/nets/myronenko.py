"""Myronenko's segmentation network for slices, with the branch that rebuilds its input.

Myronenko 2018 ("3D MRI brain tumor segmentation using autoencoder regularization"), fig. 1 and
table 1, in the plane, as Chen et al. 2020, sec. 2.3, use it. Their 6,014,721 parameters determine
the segmentation path except for the layers without weights. Where the sources differ:

- Dropout (0.2) and the weight penalty belong to both output layers, as Chen says; Myronenko drops
  after the first convolution and penalises every kernel. An output layer is a 3×3 convolution, the
  dropout of whole channels, and a 1×1 convolution, with nothing between them.
- The reconstruction has a separate decoder, as in Myronenko's figure 1. Chen says both that the
  decoder is shared and that the branch has one "similar" to it; the number of parameters does not
  decide between them.
- Weights start as Keras's do, Glorot uniform and biases 0: Chen names another initialisation for
  the classifier alone. Upsampling is bilinear, as Myronenko's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal, NamedTuple, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mgmt_ray.nets.network import Network
from mgmt_ray.nets.resnet3d import FullLinear

NUM_BLOCKS = (1, 2, 2, 4)
"""Residual blocks per stage of the encoder; each stage has twice the channels of the one before."""

NUM_GROUPS = 8
"""Of channels in GroupNorm."""

NUM_LATENT = 128
"""Normal variables that a slice is reduced to: 128 means and 128 log-variances make Chen's 256."""

BRANCH_CHANNELS = 16
"""Of the features that the reconstruction reduces to a distribution."""

DROPOUT = 0.2
"""Probability to drop a channel of an output layer while training."""

MIN_FACTOR = 2 ** (len(NUM_BLOCKS) - 1)
"""Sides of slices must be multiples of this, with the reconstruction of twice this."""


Maps: TypeAlias = Float[Tensor, "batch channels height width"]
Slices: TypeAlias = Float[Tensor, "batch *modality height width"]
"""Normalised slices; those of one modality alone have no axis of modalities."""

OutputMaps: TypeAlias = Float[Tensor, "batch out_channels height width"]


class NormalisedRelu(nn.GroupNorm):
    """GroupNorm and ReLU, in the precision of the input.

    Autocast would normalise in float32 on GPUs and in bfloat16 on CPUs. The sums are float32 on
    both, whatever the input.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(NUM_GROUPS, channels)

    def forward(self, x: Maps) -> Maps:
        """Normalise and rectify."""
        weight, bias = self.weight.to(x.dtype), self.bias.to(x.dtype)
        with _without_autocast(x):
            return torch.relu(nn.functional.group_norm(x, NUM_GROUPS, weight, bias, self.eps))


class Block(nn.Module):
    """GroupNorm, ReLU, 3×3 convolution, all twice, plus a 1×1 convolution (Chen, fig. 2).

    Myronenko's shortcut is the identity; Chen's number of parameters requires a convolution in
    every block.
    """

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.norm1 = NormalisedRelu(inputs)
        self.conv1 = nn.Conv2d(inputs, width, 3, padding=1)
        self.norm2 = NormalisedRelu(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.shortcut = nn.Conv2d(inputs, width, 1)

    def forward(self, x: Maps) -> OutputMaps:
        """Return features of the input's height and width."""
        y = self.conv1(self.norm1(x))
        return self.conv2(self.norm2(y)) + self.shortcut(x)


class Encoder(nn.Module):
    """A 3×3 convolution and four stages of blocks, with 3×3 convolutions of stride 2 between."""

    def __init__(self, width: int, modalities: int = 1) -> None:
        super().__init__()
        self.stem = nn.Conv2d(modalities, width, 3, padding=1)
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

    def forward(self, images: Slices) -> list[Tensor]:
        """Return the stages' outputs, the finest first."""
        channels = images.unsqueeze(1) if images.ndim == 3 else images
        features = [self.stages[0](self.stem(channels))]
        for halve, stage in zip(self.halve, self.stages[1:], strict=True):
            features.append(stage(halve(features[-1])))
        return features


class Decoder(nn.Module):
    """Three levels of 1×1 convolution, bilinear doubling, addition and block; an output layer.

    Args:
        width: channels of the output layer; the input has 8 times as many.
        outputs: values per pixel.
    """

    def __init__(self, width: int, outputs: int = 1) -> None:
        super().__init__()
        widths = [width * 2**stage for stage in reversed(range(len(NUM_BLOCKS) - 1))]
        self.narrow = nn.ModuleList(nn.Conv2d(2 * level, level, 1) for level in widths)
        self.blocks = nn.ModuleList(Block(level, level) for level in widths)
        self.penalised = nn.Conv2d(width, width, 3, padding=1)
        self.last = FullConv2d(width, outputs, 1)

    def forward(
        self,
        x: Float[Tensor, "batch channels low_height low_width"],
        skips: Sequence[Tensor],
        keep: Float[Tensor, "batch features"] | None,
    ) -> Slices:
        """Return the values of each pixel, at 8 times the input's resolution.

        Args:
            skips: features added after each doubling, the coarsest first; may be empty.
            keep: factors of the output layer's channels; None drops nothing.
        """
        for level, (narrow, block) in enumerate(zip(self.narrow, self.blocks, strict=True)):
            x = upsample(narrow(x))
            x = block(x + skips[level] if skips else x)
        x = self.penalised(x)
        if keep is not None:
            x = x * keep[:, :, None, None].to(x.dtype)
        pixels: Tensor = self.last(x)
        return pixels.squeeze(1)


class FullConv2d(nn.Conv2d):
    """A convolution that computes at least in float32 under autocast, for pixels' logits."""

    def forward(self, x: Maps) -> OutputMaps:
        """Compute ``nn.Conv2d`` outside autocast, at least in float32."""
        with _without_autocast(x):
            return super().forward(at_least_float32(x))


def upsample(x: Maps) -> Float[Tensor, "batch channels out_height out_width"]:
    """Double the resolution by bilinear interpolation.

    >>> upsample(torch.zeros(1, 4, 8, 6)).shape
    torch.Size([1, 4, 16, 12])
    """
    return nn.functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


def _without_autocast(x: Tensor) -> torch.autocast:
    """Return a context without autocast; the meta device has none to switch off."""
    has_autocast = torch.amp.is_autocast_available(x.device.type)
    return torch.autocast(x.device.type if has_autocast else "cpu", enabled=False)


def at_least_float32(x: Tensor) -> Tensor:
    """Convert half precisions to float32; float64 stays.

    >>> at_least_float32(torch.zeros(2, dtype=torch.bfloat16)).dtype
    torch.float32
    """
    return x.to(torch.promote_types(x.dtype, torch.float32))


class Reconstruction(NamedTuple):
    """Output of the variational autoencoder for a batch.

    A tuple, as are all outputs of networks here: ``DistributedDataParallel`` and the compiler find
    tensors in tuples, but not in dataclasses.

    Attributes:
        images: rebuilt from the sample, on the input's scale.
        mean: μ of the slices' normal distributions.
        log_variance: log σ².
    """

    images: Slices
    mean: Float[Tensor, "batch latent"]
    log_variance: Float[Tensor, "batch latent"]


class Segmentation(NamedTuple):
    """Output of the network for a batch.

    Attributes:
        logits: of tumour, per pixel.
        reconstruction: None if the branch did not run.
    """

    logits: Float[Tensor, "batch height width"]
    reconstruction: Reconstruction | None


class Reconstructor(nn.Module):
    """The variational autoencoder's branch (Myronenko 2018, table 1, from VD on).

    Args:
        shape: height and width of the slices, multiples of 16.
        modalities: of a slice, all of which are rebuilt.
    """

    def __init__(self, width: int, shape: tuple[int, int], modalities: int) -> None:
        super().__init__()
        factor = 2 * MIN_FACTOR
        assert not any(side % factor for side in shape), (
            f"slices of {shape[0]} × {shape[1]}: with a reconstruction both sides must be "
            f"multiples of {factor}"
        )
        deepest = width * MIN_FACTOR
        self.low_shape = (BRANCH_CHANNELS, shape[0] // factor, shape[1] // factor)
        num_values = BRANCH_CHANNELS * self.low_shape[1] * self.low_shape[2]
        self.norm = NormalisedRelu(deepest)
        self.reduce = nn.Conv2d(deepest, BRANCH_CHANNELS, 3, stride=2, padding=1)
        self.distribution = FullLinear(num_values, 2 * NUM_LATENT)
        self.rebuild = FullLinear(NUM_LATENT, num_values)
        self.widen = nn.Conv2d(BRANCH_CHANNELS, deepest, 1)
        self.decoder = Decoder(width, modalities)

    def forward(
        self,
        deepest: Float[Tensor, "batch channels low_height low_width"],
        noise: Float[Tensor, "batch latent"],
        keep: Float[Tensor, "batch features"] | None,
    ) -> Reconstruction:
        """Reduce to a normal distribution, draw μ + σ·noise, and rebuild the input."""
        values = self.reduce(self.norm(deepest)).flatten(1)
        distribution = self.distribution(at_least_float32(values))
        mean, log_variance = distribution.chunk(2, dim=1)
        # Kingma and Welling 2014, eq. 10
        sample = mean + torch.exp(0.5 * log_variance) * noise.to(mean.dtype)
        low = torch.relu(self.rebuild(sample)).unflatten(1, self.low_shape)
        images = self.decoder(upsample(self.widen(low)), (), keep)
        return Reconstruction(images, mean, log_variance)


SegmentationStart: TypeAlias = Literal["glorot", "he"]


class SegmentationNetwork(Network):
    """Segments the tumour in a slice; a second branch, for training only, rebuilds the slice.

    Args:
        width: channels of the first stage, a multiple of 8; Chen's is 32.
        shape: height and width of the training slices, which set the size of the reconstruction's
            dense layers; None omits the reconstruction.
        initialisation: of kernels: "glorot" for Keras's default, "he" for the classifier's.
        modalities: of a slice, the channels of the first convolution.

    >>> network = SegmentationNetwork(width=8, shape=(32, 32))
    >>> network(torch.zeros(2, 40, 48)).logits.shape
    torch.Size([2, 40, 48])
    >>> rebuilt = network(torch.zeros(2, 32, 32), noise=torch.zeros(2, NUM_LATENT)).reconstruction
    >>> rebuilt.images.shape
    torch.Size([2, 32, 32])
    """

    def __init__(
        self,
        width: int = 32,
        shape: tuple[int, int] | None = None,
        initialisation: SegmentationStart = "glorot",
        modalities: int = 1,
    ) -> None:
        super().__init__()
        assert width % NUM_GROUPS == 0, f"width {width} is not a multiple of {NUM_GROUPS} groups"
        self.num_keep = 2 * width
        self.encoder = Encoder(width, modalities)
        self.decoder = Decoder(width)
        self.reconstructor = None if shape is None else Reconstructor(width, shape, modalities)
        self.apply(_INITIALISE[initialisation])

    def forward(
        self,
        images: Slices,
        noise: Float[Tensor, "batch latent"] | None = None,
        keep: Float[Tensor, "batch features"] | None = None,
    ) -> Segmentation:
        """Return logits per pixel and, given noise, the reconstruction.

        Args:
            images: normalised slices; sides are multiples of 8, and the constructor's ``shape``
                if noise is given.
            noise: standard normal, :data:`NUM_LATENT` values per slice, from the trial's random
                stream; zeros rebuild from the distribution's mean. None, for prediction, skips the
                branch.
            keep: while training, :func:`mgmt_ray.nets.head.dropout_mask` of ``num_keep`` features:
                first the segmentation's, then the reconstruction's. None drops nothing.
        """
        height, width = images.shape[-2:]
        assert height % MIN_FACTOR == 0 and width % MIN_FACTOR == 0, (
            f"slices of {height} × {width}: both sides must be multiples of {MIN_FACTOR}"
        )
        *skips, deepest = self.encoder(images)
        keeps = (None, None) if keep is None else keep.chunk(2, dim=1)
        logits = self.decoder(deepest, skips[::-1], keeps[0])
        if noise is None:
            return Segmentation(logits, None)
        assert self.reconstructor is not None, "noise needs a network with a reconstruction"
        return Segmentation(logits, self.reconstructor(deepest, noise, keeps[1]))

    def penalised_kernels(self) -> list[Tensor]:
        """Return the 3×3 kernels of the output layers, whose weights are penalised (sec. 2.3)."""
        kernels = [self.decoder.penalised.weight]
        if self.reconstructor is not None:
            kernels.append(self.reconstructor.decoder.penalised.weight)
        return kernels


def _initialise(draw: Callable[[Tensor], object], module: nn.Module) -> None:
    """Initialise kernels by a distribution, biases by 0; GroupNorm starts at 1 and 0."""
    if isinstance(module, nn.Conv2d | nn.Linear):
        draw(module.weight)
        assert module.bias is not None
        nn.init.zeros_(module.bias)


_INITIALISE: dict[SegmentationStart, Callable[[nn.Module], None]] = {
    "glorot": partial(_initialise, nn.init.xavier_uniform_),  # Glorot and Bengio 2010, eq. 16
    "he": partial(_initialise, nn.init.kaiming_normal_),  # He et al. 2015, eq. 10
}
