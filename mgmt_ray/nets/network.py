"""What the rest of the package needs of a network.

A new network is one file with its configuration (:class:`AnyNetworkConfig`) and its class
(:class:`VolumeNetwork`), and one arm in :func:`mgmt_ray.nets.build.build_network`. Training,
prediction, saliency, report and model card use nothing else of it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeAlias, runtime_checkable

from jaxtyping import Float
from torch import Tensor, nn

from mgmt_ray.cohort.covariates import Covariate
from mgmt_ray.nets.head import CovariateHead, Covariates, Logits, Pooled
from mgmt_ray.nets.resnet3d import Volumes


@runtime_checkable
class AnyNetworkConfig(Protocol):
    """What is known of a network before it is built."""

    @property
    def kind(self) -> str:
        """Value of ``kind`` in the study."""

    @property
    def description(self) -> str:
        """What the network is, in words for the report and the model card."""

    @property
    def width(self) -> int | None:
        """Channels of its first stage, which decide its memory; None if they cannot be set."""

    @property
    def pretrained(self) -> bool:
        """Whether training starts from MedicalNet's weights."""

    @property
    def start_from(self) -> Path | None:
        """The trial whose weights training starts from."""

    @property
    def covariates(self) -> tuple[Covariate, ...]:
        """Appended to the features before the classifier."""

    @property
    def no_saliency(self) -> str | None:
        """Why no saliency map can be drawn; None if :meth:`VolumeNetwork.fixed_route` exists."""

    def model_dump(self, *, mode: str) -> dict[str, Any]:
        """Return all settings, for trial.json and the trial's hash."""


class Route(NamedTuple):
    """The parts of a network that one volume passes, for a saliency map.

    Attributes:
        stem: gives the first block's input.
        blocks: in their order.
        fc: gives the logit from the mean of the last block's output over positions.
    """

    stem: Callable[[Tensor], Tensor]
    blocks: list[nn.Module]
    fc: nn.Linear


class Network(nn.Module):
    """A network that a trial trains.

    Attributes:
        covariate_head: the part of the last layer for age and sex, if it takes any.
    """

    def __init__(self) -> None:
        super().__init__()
        self.covariate_head: CovariateHead | None = None

    @property
    def covariate_heads(self) -> list[CovariateHead]:
        """All parts that take age and sex, which are scaled by the training subjects."""
        return [module for module in self.modules() if isinstance(module, CovariateHead)]

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Return the trained parameters; each group has its learning rate in the training."""
        return {"network": [p for p in self.parameters() if p.requires_grad]}

    def split_frozen(self) -> tuple[Callable[[Tensor], Tensor], Network] | None:
        """Return a frozen first part, which is the same in every epoch, and the trained rest.

        The rest takes the first part's output as its input and shares the network's parameters.
        None if nothing is frozen, or not the beginning alone.
        """
        return None


DrawPolicies: TypeAlias = Callable[[Tensor], Tensor]
"""Draws policies [draw, batch, block] from the probabilities of tuning [batch, block]."""


class VolumeNetwork(Network):
    """A network that predicts methylation from volumes.

    Attributes:
        num_features: pooled features before the classifier.
        dropout: probability to drop one of them while training.
        num_routed_blocks: blocks that an agent keeps frozen or tunes; 0 without an agent.
        num_agent_features: pooled features before the agent's last layer.
        agent_dropout: probability to drop one of these while training.
        temperature: τ of the relaxation of its policy.
    """

    num_features: int
    dropout: float
    num_routed_blocks = 0
    num_agent_features = 0
    agent_dropout = 0.0
    temperature = 1.0

    def forward(
        self,
        volumes: Volumes,
        noise: Float[Tensor, "batch block 2"] | None = None,
        keep: Pooled | None = None,
        covariates: Covariates | None = None,
        agent_keep: Pooled | None = None,
    ) -> Logits:
        """Return logits of methylation.

        Args:
            volumes: in [0, 1].
            noise: standard Gumbel noise (see :func:`mgmt_ray.nets.policy.gumbel_noise`), of which
                an agent draws one policy per subject; ignored by networks without one.
            keep: see :func:`mgmt_ray.nets.head.dropout_mask`; None while evaluating.
            covariates: if the network takes any; NaN where not known.
            agent_keep: as ``keep``, of the agent's features; ignored by networks without one.
        """
        raise NotImplementedError

    def draw_logits(
        self,
        volumes: Float[Tensor, "batch ..."],
        covariates: Covariates | None,
        draw: DrawPolicies,
    ) -> tuple[Float[Tensor, "draw batch"], Float[Tensor, "batch block"] | None]:
        """Return logits under many policies, and the probabilities of tuning.

        A network without a policy returns one draw, and None.
        """
        return self(volumes, covariates=covariates).unsqueeze(0), None

    def fixed_route(self, volume: Float[Tensor, "1 channels depth height width"]) -> Route:
        """Return the parts that a volume passes under its most probable policy."""
        raise NotImplementedError
