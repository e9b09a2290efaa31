"""The small network that predicts methylation from a slice and its tumour (Chen et al. 2020).

Their sec. 2.4 counts 3,498 parameters, BatchNorm's moving means and variances among them: as
PyTorch names things 3,458 parameters and 40 values of buffers. The paper gives no momentum and ε of
BatchNorm; it used Keras, whose values are in :data:`BATCH_NORMS` beside PyTorch's.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from jaxtyping import Float
from torch import Tensor, nn

from mgmt_ray.nets.network import Network
from mgmt_ray.nets.resnet3d import FullLinear

SIDE = 128
"""Height and width of the slices in pixels; the first linear layer depends on it."""

CHANNELS = ("image", "probability", "product")
"""The paper does not name its three channels. Ours: the normalised image, the predicted probability
of tumour, and their product. Slices of several modalities have an image and a product of each."""

LEAK = 0.3

BatchNorms: TypeAlias = Literal["pytorch", "keras"]

BATCH_NORMS: dict[BatchNorms, tuple[float, float]] = {
    "pytorch": (1e-5, 0.1),
    "keras": (1e-3, 0.01),
}
"""ε and momentum by framework: the share of the newest batch, where Keras says 0.99 of the old."""

CLASSES = ("unmethylated", "methylated")


class SliceClassifier(Network):
    """Two 3×3 convolutions without padding and two linear layers.

    Each convolution is followed by LeakyReLU, BatchNorm and max-pooling of 4 × 4, in this order.
    Weights start from He et al.'s (2015) normal distribution, biases from 0.

    The paper also tried three to five convolutions and does not describe them. Here each further
    one has 4 filters, keeps the 7 × 7 positions (padding 1) and is not pooled, so that the linear
    layers stay the same.

    Args:
        convolutions: their number, 2 to 5.
        batch_norm: whose constants BatchNorm has.
        modalities: of a slice; 2 · ``modalities`` + 1 channels enter the first convolution.

    >>> import torch
    >>> SliceClassifier()(torch.zeros(5, 3, SIDE, SIDE)).shape
    torch.Size([5, 2])
    """

    def __init__(
        self, convolutions: int = 2, batch_norm: BatchNorms = "pytorch", modalities: int = 1
    ) -> None:
        super().__init__()
        eps, momentum = BATCH_NORMS[batch_norm]
        self.conv1 = nn.Conv2d(num_channels(modalities), 16, 3)
        self.bn1 = nn.BatchNorm2d(16, eps, momentum)
        self.conv2 = nn.Conv2d(16, 4, 3)
        self.bn2 = nn.BatchNorm2d(4, eps, momentum)
        self.further = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(4, 4, 3, padding=1), nn.LeakyReLU(LEAK), nn.BatchNorm2d(4, eps, momentum)
            )
            for _ in range(convolutions - 2)
        )
        self.fc1 = FullLinear(4 * 7 * 7, 12)
        self.fc2 = FullLinear(12, len(CLASSES))
        self.apply(_initialise)

    def forward(
        self, slices: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch class"]:
        """Return logits of the :data:`CLASSES`; their softmax is the paper's output.

        Args:
            slices: the :data:`CHANNELS`, of :data:`SIDE` × :data:`SIDE` pixels.
        """
        assert slices.shape[2:] == (SIDE, SIDE), (
            f"slices of {slices.shape[2]} × {slices.shape[3]}: the classifier's are {SIDE} × {SIDE}"
        )
        x = _pool(self.bn1(_leaky(self.conv1(slices))))
        x = _pool(self.bn2(_leaky(self.conv2(x))))
        for stage in self.further:
            x = stage(x)
        x = self.fc1(x.flatten(1).to(self.fc1.weight.dtype))
        logits: Tensor = self.fc2(x.relu())
        return logits


def num_channels(modalities: int) -> int:
    """Return the channels of slices of a number of modalities.

    >>> num_channels(1), num_channels(2)
    (3, 5)
    """
    return len(CHANNELS) + 2 * (modalities - 1)


def _leaky(x: Tensor) -> Tensor:
    return nn.functional.leaky_relu(x, LEAK)


def _pool(x: Tensor) -> Tensor:
    return nn.functional.max_pool2d(x, kernel_size=4)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.kaiming_normal_(module.weight)  # √(2 / inputs), for all layers as in the paper
        assert module.bias is not None
        nn.init.zeros_(module.bias)
