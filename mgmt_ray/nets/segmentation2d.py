"""Myronenko's segmentation network for slices, with the branch that rebuilds its input.

Myronenko 2018 ("3D MRI brain tumor segmentation using autoencoder regularization") in the plane, as
Chen et al. 2020, sec. 2.3, use it. Their 6,014,721 parameters fix all of the segmentation path but
what has no weights. Where the sources differ:

- Dropout (0.2) and the weight penalty belong to both output layers, as Chen says; Myronenko drops
  after the first convolution and penalises every kernel. An output layer is a 3×3 convolution, the
  dropout of whole channels, and a 1×1 convolution, with nothing between them.
- The reconstruction has a decoder of its own, as in Myronenko's figure 1. Chen says both that the
  decoder is shared and that the branch has one "similar" to it; the parameters tell neither.
- Weights start as Keras's do, Glorot uniform and biases 0: Chen names another initialisation for
  the classifier alone. Upsampling is bilinear, as Myronenko's.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mgmt_ray.nets.blocks2d import (
    NUM_BLOCKS,
    NUM_GROUPS,
    Decoder,
    Encoder,
    NormalisedRelu,
    at_least_float32,
    double,
)
from mgmt_ray.nets.resnet3d import FullLinear

NUM_LATENT = 128
"""Normal variables that a slice is reduced to: 128 means and 128 log-variances make Chen's 256."""

BRANCH_CHANNELS = 16
DROPOUT = 0.2
"""Probability to drop a channel of an output layer while training."""

SMALLEST_FACTOR = 2 ** (len(NUM_BLOCKS) - 1)
"""A slice's sides are multiples of this, and of twice this with the reconstruction."""


class Reconstruction(NamedTuple):
    """What the variational autoencoder made of a batch.

    A tuple, as are all outputs of networks here: ``DistributedDataParallel`` and the compiler look
    into tuples, and not into dataclasses.

    Attributes:
        images: rebuilt from the sample, in the input's unit.
        mean: μ of the slices' normal distributions.
        log_variance: log σ².
    """

    images: Float[Tensor, "batch height width"]
    mean: Float[Tensor, "batch latent"]
    log_variance: Float[Tensor, "batch latent"]


class Segmentation(NamedTuple):
    """What the network says of a batch.

    Attributes:
        logits: of a pixel's being tumour.
        reconstruction: None where the branch did not run.
    """

    logits: Float[Tensor, "batch height width"]
    reconstruction: Reconstruction | None


class Reconstructor(nn.Module):
    """The variational autoencoder's branch (Myronenko 2018, table 1, from VD on).

    Args:
        width: of the network.
        shape: height and width of the slices, multiples of 16.
    """

    def __init__(self, width: int, shape: tuple[int, int]) -> None:
        super().__init__()
        factor = 2 * SMALLEST_FACTOR
        assert not any(side % factor for side in shape), (
            f"slices of {shape[0]} × {shape[1]}: with a reconstruction both sides are multiples of "
            f"{factor}"
        )
        deepest = width * SMALLEST_FACTOR
        self.low_shape = (BRANCH_CHANNELS, shape[0] // factor, shape[1] // factor)
        num_values = BRANCH_CHANNELS * self.low_shape[1] * self.low_shape[2]
        self.norm = NormalisedRelu(deepest)
        self.reduce = nn.Conv2d(deepest, BRANCH_CHANNELS, 3, stride=2, padding=1)
        self.distribution = FullLinear(num_values, 2 * NUM_LATENT)
        self.rebuild = FullLinear(NUM_LATENT, num_values)
        self.widen = nn.Conv2d(BRANCH_CHANNELS, deepest, 1)
        self.decoder = Decoder(width)

    def forward(
        self,
        deepest: Float[Tensor, "batch channels low_height low_width"],
        noise: Float[Tensor, "batch latent"],
        keep: Float[Tensor, "batch features"] | None,
    ) -> Reconstruction:
        """Reduce to a normal distribution, take the sample μ + σ·noise, and rebuild the input."""
        values = self.reduce(self.norm(deepest)).flatten(1)
        distribution = self.distribution(at_least_float32(values))
        mean, log_variance = distribution.chunk(2, dim=1)
        # Kingma and Welling 2014, eq. 10
        sample = mean + torch.exp(0.5 * log_variance) * noise.to(mean.dtype)
        low = torch.relu(self.rebuild(sample)).unflatten(1, self.low_shape)
        images = self.decoder(double(self.widen(low)), (), keep)
        return Reconstruction(images, mean, log_variance)


class SegmentationNetwork(nn.Module):
    """Tells tumour from other pixels of a slice, and learns to rebuild the slice beside it.

    Args:
        width: channels of the first stage, a multiple of 8; Chen's is 32.
        shape: height and width of the training slices, on which the reconstruction's dense layers
            depend; None leaves the reconstruction out.
    """

    def __init__(self, width: int = 32, shape: tuple[int, int] | None = None) -> None:
        super().__init__()
        assert width % NUM_GROUPS == 0, f"width {width} is not a multiple of {NUM_GROUPS} groups"
        self.num_keep = 2 * width
        self.encoder = Encoder(width)
        self.decoder = Decoder(width)
        self.reconstructor = None if shape is None else Reconstructor(width, shape)
        self.apply(_initialise)

    def forward(
        self,
        images: Float[Tensor, "batch height width"],
        noise: Float[Tensor, "batch latent"] | None = None,
        keep: Float[Tensor, "batch features"] | None = None,
    ) -> Segmentation:
        """Logits per pixel and, given noise, the reconstruction.

        Args:
            images: normalised slices; sides are multiples of 8, and the constructor's ``shape``
                where noise is given.
            noise: standard normal, :data:`NUM_LATENT` a slice, from the trial's own stream; None
                while predicting leaves the branch out. Zeros rebuild the distribution's mean.
            keep: while training, :func:`mgmt_ray.nets.head.dropout_mask` of ``num_keep`` features:
                first the segmentation's, then the reconstruction's. None drops nothing.
        """
        height, width = images.shape[1:]
        assert height % SMALLEST_FACTOR == 0 and width % SMALLEST_FACTOR == 0, (
            f"slices of {height} × {width}: both sides are multiples of {SMALLEST_FACTOR}"
        )
        *skips, deepest = self.encoder(images)
        keeps = (None, None) if keep is None else keep.chunk(2, dim=1)
        logits = self.decoder(deepest, skips[::-1], keeps[0])
        if noise is None:
            return Segmentation(logits, None)
        assert self.reconstructor is not None, "noise is for a network with a reconstruction"
        return Segmentation(logits, self.reconstructor(deepest, noise, keeps[1]))

    def penalised_kernels(self) -> list[Tensor]:
        """The 3×3 kernels of the output layers, which training keeps small (Chen, sec. 2.3)."""
        kernels = [self.decoder.penalised.weight]
        if self.reconstructor is not None:
            kernels.append(self.reconstructor.decoder.penalised.weight)
        return kernels

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """All parameters under "network"."""
        return {"network": list(self.parameters())}


def _initialise(module: nn.Module) -> None:
    """Glorot and Bengio 2010, eq. 16; GroupNorm starts at 1 and 0."""
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        assert module.bias is not None
        nn.init.zeros_(module.bias)
