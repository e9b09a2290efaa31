"""The networks without a policy: trained as a whole, or only behind a frozen part."""

from __future__ import annotations

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor, nn

from mgmt_ray.cohort.covariates import Covariate
from mgmt_ray.nets.head import (
    Covariates,
    Logits,
    Pooled,
    add_covariates,
    classify_pooled,
    make_covariate_head,
)
from mgmt_ray.nets.network import Route, VolumeNetwork
from mgmt_ray.nets.resnet3d import ResNet3d, Volumes, pool


class PlainNetwork(VolumeNetwork):
    """A residual network of which the last blocks and the classifier, or everything, are trained.

    Args:
        resnet: with one output.
        trainable_blocks: how many blocks before the classifier are trained ("transfer": 0,
            "transfer-2": 2); None trains everything ("random").
        dropout: probability to drop a pooled feature while training.
        covariates: appended to the pooled features.

    >>> import torch
    >>> network = PlainNetwork(ResNet3d(10, width=4, channels=1, outputs=1), trainable_blocks=2)
    >>> network(torch.zeros(3, 1, 16, 16, 16)).shape
    torch.Size([3])
    >>> [len(network.frozen), len(network.trained_blocks)]  # stem: a convolution and a BatchNorm
    [4, 2]
    """

    def __init__(
        self,
        resnet: ResNet3d,
        trainable_blocks: int | None,
        dropout: float = 0.0,
        covariates: tuple[Covariate, ...] = (),
    ) -> None:
        super().__init__()
        self.resnet = resnet
        self.dropout = dropout
        self.num_features = resnet.fc.in_features
        self.covariate_head = make_covariate_head(self.num_features, covariates)
        self.frozen: list[nn.Module] = []
        self.num_frozen_blocks = 0
        if trainable_blocks is not None:
            self.num_frozen_blocks = len(resnet.blocks) - trainable_blocks
            blocks = resnet.blocks[: self.num_frozen_blocks]
            self.frozen = [resnet.conv1, resnet.bn1, *blocks]
        for module in self.frozen:
            module.requires_grad_(False)

    @property
    def trained_blocks(self) -> list[nn.Module]:
        """The residual blocks after the frozen part."""
        return self.resnet.blocks[self.num_frozen_blocks :]

    def train(self, mode: bool = True) -> PlainNetwork:
        """Set the mode of the trained parts; frozen parts stay in evaluation mode."""
        super().train(mode)
        for module in self.frozen:
            module.eval()
        return self

    def forward(
        self,
        volumes: Volumes,
        noise: Float[Tensor, "batch block 2"] | None = None,
        keep: Pooled | None = None,
        covariates: Covariates | None = None,
        agent_keep: Pooled | None = None,
    ) -> Logits:
        return self.forward_trained(self.frozen_features(volumes), keep, covariates)

    def split_frozen(self) -> tuple[Callable[[Tensor], Tensor], VolumeNetwork] | None:
        return (self.frozen_features, TrainedTail(self)) if self.frozen else None

    def fixed_route(self, volume: Float[Tensor, "1 channels depth height width"]) -> Route:
        return Route(self.resnet.stem, self.resnet.blocks, self.resnet.fc)

    def frozen_features(self, volumes: Volumes) -> Float[Tensor, "batch ..."]:
        """Return the frozen part's output, which is the same in every epoch.

        Returns:
            The first trained block's input; the pooled features where no block is trained.
        """
        x = self.resnet.stem(volumes)
        for block in self.resnet.blocks[: self.num_frozen_blocks]:
            x = block(x)
        return x if self.trained_blocks else pool(x)

    def forward_trained(
        self,
        x: Float[Tensor, "batch ..."],
        keep: Pooled | None = None,
        covariates: Covariates | None = None,
    ) -> Logits:
        """Return logits from :meth:`frozen_features`; other arguments as of :meth:`forward`."""
        for block in self.trained_blocks:
            x = block(x)
        pooled = pool(x) if self.trained_blocks else x
        logits = classify_pooled(self.resnet.fc, pooled, keep)
        return add_covariates(logits, self.covariate_head, covariates)


class TrainedTail(VolumeNetwork):
    """The trained part of a network, which shares the network's parameters.

    Its input is the frozen part's output (:meth:`PlainNetwork.frozen_features`).
    """

    def __init__(self, network: PlainNetwork) -> None:
        super().__init__()
        head = [] if network.covariate_head is None else [network.covariate_head]
        self.trained = nn.ModuleList([*network.trained_blocks, network.resnet.fc, *head])
        # a bound method, not a submodule: the frozen part's parameters do not appear here
        self.forward_trained = network.forward_trained

    def forward(
        self,
        x: Float[Tensor, "batch ..."],
        noise: Float[Tensor, "batch block 2"] | None = None,
        keep: Pooled | None = None,
        covariates: Covariates | None = None,
        agent_keep: Pooled | None = None,
    ) -> Logits:
        return self.forward_trained(x, keep, covariates)
