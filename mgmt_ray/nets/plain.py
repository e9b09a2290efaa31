"""The comparison networks: one residual network, trained whole or behind a frozen part."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from mgmt_ray.nets.resnet3d import ResNet3d


class PlainNetwork(nn.Module):
    """A residual network of which the last blocks and the classifier, or everything, are trained.

    Args:
        resnet: with one output.
        trainable_blocks: how many blocks before the classifier are trained ("transfer": 0,
            "transfer-2": 2); None trains everything ("random").
    """

    num_routed_blocks = 0

    def __init__(self, resnet: ResNet3d, trainable_blocks: int | None) -> None:
        super().__init__()
        self.resnet = resnet
        self.frozen: list[nn.Module] = []
        if trainable_blocks is not None:
            blocks = resnet.blocks
            self.frozen = [resnet.conv1, resnet.bn1, *blocks[: len(blocks) - trainable_blocks]]
        for module in self.frozen:
            module.requires_grad_(False)

    def train(self, mode: bool = True) -> PlainNetwork:
        """Set the mode of what is trained; frozen parts stay in evaluation mode."""
        super().train(mode)
        for module in self.frozen:
            module.eval()
        return self

    def forward(
        self,
        volumes: Float[Tensor, "batch channels depth height width"],
        noise: Float[Tensor, "batch block 2"] | None = None,
    ) -> Float[Tensor, " batch"]:
        """Logits of methylation; there is no policy, so ``noise`` is not used."""
        logits: Tensor = self.resnet(volumes).squeeze(1)
        return logits

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Trained parameters under "network"."""
        return {"network": [p for p in self.parameters() if p.requires_grad]}
