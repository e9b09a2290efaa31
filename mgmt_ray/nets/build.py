"""Network configurations, and building a network from one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal, TypeAlias

from pydantic import Field, model_validator

from mgmt_ray.base import Config, InputPath, MgmtError, later_key
from mgmt_ray.cohort.covariates import Covariate
from mgmt_ray.nets.medicalnet import inflate_stem, load_medicalnet
from mgmt_ray.nets.myronenko import SegmentationNetwork, SegmentationStart
from mgmt_ray.nets.network import AnyNetworkConfig, Network, VolumeNetwork
from mgmt_ray.nets.resnet3d import ARCHITECTURES, Depth, Initialisation, ResNet3d
from mgmt_ray.nets.single_path import PlainNetwork
from mgmt_ray.nets.slice_classifier import BatchNorms, SliceClassifier
from mgmt_ray.nets.spottune import AgentOptions, SpotTune

KEYS_OF_KINDS = {
    "trainable_blocks": "transfer",
    "covariates_for": "spottune",
    "agent_dropout": "spottune",
    "initialisation": "random",
}
"""Keys of a network that apply to one kind only."""


class NetworkConfig(Config):
    """A residual network (Schmitz et al. 2024, sec. 2.3)."""

    no_saliency: ClassVar[None] = None

    kind: Literal["spottune", "random", "transfer"]
    depth: Depth = Field(50, description="layers of the residual network")
    width: int = Field(64, ge=1, description="channels of its stem")
    trainable_blocks: Annotated[int, Field(ge=0)] | Literal["all"] = Field(
        0,
        description="transfer only: blocks before the classifier that are trained; all trains the "
        "stem too",
    )
    agent_depth: Depth = Field(10, description="spottune only: layers of the agent")
    agent_width: int = Field(64, ge=1, description="spottune only: channels of the agent's stem")
    dropout: float = Field(
        0.0, ge=0, lt=1, description="probability to drop a feature before the classifier"
    )
    covariates: tuple[Covariate, ...] = Field(
        (), description="age, sex or both, appended to the features before the classifier"
    )
    covariates_for: Literal["classifier", "agent", "both"] = later_key(
        "classifier", description="spottune only: what takes the covariates"
    )
    agent_dropout: float = later_key(
        0.0, ge=0, lt=1, description="probability to drop a feature before the agent's last layer"
    )
    initialisation: Initialisation = later_key(
        "normal", description="random only: distribution of the convolutions' initial weights"
    )
    centred: bool = later_key(
        False, description="subtract each tumour's mean from its voxels before the first layer"
    )
    start_from: InputPath | None = Field(
        None,
        description="folder of a finished trial whose weights training starts from; {modality}, "
        "{outer_fold}, {fold} and {repeat} stand for the new trial's, * for anything",
    )

    @model_validator(mode="after")
    def _check_consistent(self) -> NetworkConfig:
        if len(set(self.covariates)) < len(self.covariates):
            raise ValueError("covariates: the same one is listed twice. Name each once")
        for name, kind in KEYS_OF_KINDS.items():
            if getattr(self, name) != type(self).model_fields[name].default and self.kind != kind:
                raise ValueError(
                    f"{name}: does not apply to a {self.kind} network. Omit it, or set kind: {kind}"
                )
        if self.covariates_for != "classifier" and not self.covariates:
            raise ValueError("covariates_for: there are none. List covariates, or omit it")
        num_blocks = sum(ARCHITECTURES[self.depth][1])
        if self.trainable_blocks != "all" and self.trainable_blocks > num_blocks:
            raise ValueError(
                f"trainable_blocks: depth {self.depth} has {num_blocks} blocks. "
                f"Set {num_blocks} or fewer"
            )
        return self

    @property
    def pretrained(self) -> bool:
        """Whether training starts from MedicalNet's weights."""
        return self.kind in ("spottune", "transfer")

    @property
    def description(self) -> str:
        resnet = f"ResNet-{self.depth} in 3-D{' on centred tumours' * self.centred}"
        match self.kind:
            case "spottune":
                agent = f"an agent (ResNet-{self.agent_depth})"
                return f"pretrained {resnet}, its blocks tuned or frozen by {agent} per subject"
            case "random":
                return f"{resnet}, trained from random weights"
            case "transfer":
                number = self.trainable_blocks
                if number == "all":
                    return f"pretrained {resnet}, all of it trained"
                blocks = f" and the last {number} block{'s' * (number > 1)}" if number else ""
                return f"pretrained {resnet}, trained in its classifier{blocks}"


VolumeNetworkConfig: TypeAlias = NetworkConfig
"""The networks of volumes that a study can name, told apart by ``kind``."""


class SegmentationConfig(Config):
    """The network that segments slices (Chen et al. 2020, sec. 2.3)."""

    description: ClassVar[str] = "segmentation"
    no_saliency: ClassVar[str] = "it predicts no methylation"
    pretrained: ClassVar[bool] = False
    covariates: ClassVar[tuple[Covariate, ...]] = ()
    start_from: ClassVar[None] = None

    kind: Literal["segmentation"] = "segmentation"
    width: int = Field(32, ge=8, multiple_of=8, description="channels of its first stage")
    shape: tuple[int, int] = Field(description="height and width of the slices")
    initialisation: SegmentationStart = later_key(
        "glorot", description="distribution of initial kernels"
    )


class SliceClassifierConfig(Config):
    """The network that classifies slices (Chen et al. 2020, sec. 2.4)."""

    description: ClassVar[str] = "slice classifier"
    no_saliency: ClassVar[str] = (
        "the part of a slice that it uses, the predicted tumour, is drawn in report.html"
    )
    width: ClassVar[None] = None
    pretrained: ClassVar[bool] = False
    covariates: ClassVar[tuple[Covariate, ...]] = ()
    start_from: ClassVar[None] = None

    kind: Literal["slice_classifier"] = "slice_classifier"
    convolutions: int = later_key(2, ge=2, le=5, description="number of convolutions")
    batch_norm: BatchNorms = later_key("pytorch", description="whose constants BatchNorm has")


def build_network(
    config: AnyNetworkConfig, channels: int, temperature: float, checkpoint: Path | None
) -> Network:
    """Build any network; arguments as of :func:`build_volume_network`.

    Networks of slices take ``channels`` modalities.

    >>> build_network(SliceClassifierConfig(), channels=1, temperature=1.0, checkpoint=None).fc2
    FullLinear(in_features=12, out_features=2, bias=True)
    """
    match config:
        case SegmentationConfig():
            return SegmentationNetwork(config.width, config.shape, config.initialisation, channels)
        case SliceClassifierConfig():
            return SliceClassifier(config.convolutions, config.batch_norm, channels)
        case NetworkConfig():
            return build_volume_network(config, channels, temperature, checkpoint)
        case _:
            raise NotImplementedError(config.kind)


def build_volume_network(
    config: NetworkConfig, channels: int, temperature: float, checkpoint: Path | None
) -> VolumeNetwork:
    """Build a residual network; its random weights come from torch's global generator.

    Args:
        temperature: τ of SpotTune's Gumbel-softmax relaxation; other networks ignore it.
        checkpoint: MedicalNet's ``.pth`` file; not read for a network that starts from scratch.

    Raises:
        MgmtError: a checkpoint is needed and not given, or does not fit the network.

    >>> import torch
    >>> config = NetworkConfig(kind="random", depth=10, width=4)
    >>> network = build_volume_network(config, channels=2, temperature=1.0, checkpoint=None)
    >>> network(torch.zeros(3, 2, 16, 16, 16)).shape
    torch.Size([3])
    """
    centred = config.centred
    resnet = ResNet3d(
        config.depth, config.width, channels, 1, config.initialisation, centred=centred
    )
    if config.pretrained:
        if checkpoint is None:
            raise MgmtError(
                f"a {config.kind} network starts from pretrained weights, but no file was given. "
                "Give MedicalNet's .pth file with --checkpoint FILE."
            )
        load_medicalnet(resnet, checkpoint)
    match config.kind:
        case "spottune":
            num_blocks = len(resnet.blocks)
            agent = ResNet3d(
                config.agent_depth, config.agent_width, 1, 2 * num_blocks, centred=centred
            )
            inflate_stem(agent, channels)
            takes = config.covariates_for
            of_classifier = () if takes == "agent" else config.covariates
            of_agent = AgentOptions(
                config.agent_dropout, () if takes == "classifier" else config.covariates
            )
            return SpotTune(resnet, agent, temperature, config.dropout, of_classifier, of_agent)
        case "random":
            return PlainNetwork(resnet, None, config.dropout, config.covariates)
        case "transfer":
            number = None if config.trainable_blocks == "all" else config.trainable_blocks
            return PlainNetwork(resnet, number, config.dropout, config.covariates)
