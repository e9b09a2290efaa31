"""How a network is trained and evaluated.

Schmitz et al. 2024, sec. 2.4, for volumes; Chen et al. 2020, sec. 2.3 to 2.5, for slices.
"""

from __future__ import annotations

from typing import ClassVar, Literal, TypeAlias

from pydantic import Field, model_validator

from mgmt_ray.base import Config
from mgmt_ray.nets.policy import DrawKind

Precision = Literal["fp32", "bf16"]

MAX_DRAWS = 2**16
"""As many policies as sixteen blocks allow."""


class TrainingConfig(Config):
    """What one trial does; the defaults are the paper's."""

    epochs: int = Field(90, ge=1, description="passes over the training volumes")
    batch_size: int = Field(12, ge=2, description="volumes per step, over all workers")
    learning_rate: float = Field(1e-5, gt=0, description="Adam's rate for the network")
    agent_learning_rate: float = Field(1e-4, gt=0, description="Adam's rate for the agent")
    temperature: float = Field(100.0, gt=0, description="τ of the Gumbel-softmax relaxation")
    patience: int = Field(
        20, ge=0, description="plateau: epochs without a better monitor before the rates fall"
    )
    rate_factor: float = Field(
        0.1, gt=0, lt=1, description="plateau: what the rates are multiplied with"
    )
    schedule: Literal["plateau", "cosine", "constant"] = Field(
        "plateau",
        description="rates: multiplied by rate_factor when the monitor stalls, falling to 0 as a "
        "cosine over all epochs, or always the same",
    )
    monitor: Literal["loss", "auc", "m"] = Field(
        "loss",
        description="plateau: what of the validation fold it looks at: the loss, the AUC, or "
        "criterion M",
    )
    balance: Literal["prune", "weight", "none"] = Field(
        "prune", description="classes: prune volumes of the larger one, weight the loss, or neither"
    )
    precision: Precision = Field(
        "fp32",
        description="of the convolutions, in training and evaluation, whatever the machine; bf16 "
        "is what makes GPUs fast",
    )
    compile: bool = Field(
        False,
        description="compile the training step: minutes at the start, which pay on a GPU",
    )
    validation_draws: int = Field(
        32, ge=1, le=MAX_DRAWS, description="Sobol policies per subject and epoch"
    )

    @model_validator(mode="after")
    def _check_keys_used(self) -> TrainingConfig:
        for name in () if self.schedule == "plateau" else ("monitor", "patience", "rate_factor"):
            if getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"{name}: is for schedule plateau alone; leave it out")
        return self

    @property
    def learning_rates(self) -> dict[str, float]:
        """Adam's first rate by group of parameters."""
        return {"network": self.learning_rate, "agent": self.agent_learning_rate}

    @property
    def stable_epochs(self) -> None:
        """Volumes train to the last epoch."""
        return None


class SegmentationTraining(Config):
    """What a trial that segments slices does; the defaults are those of Chen et al. 2020."""

    schedule: ClassVar[Literal["plateau"]] = "plateau"
    monitor: ClassVar[Literal["loss"]] = "loss"
    stable_epochs: ClassVar[None] = None

    epochs: int = Field(50, ge=1, description="passes over the training slices")
    batch_size: int = Field(8, ge=2, description="slices per step, over all workers")
    learning_rate: float = Field(1e-4, gt=0, description="Adam's rate")
    patience: int = Field(
        5, ge=0, description="epochs without a lower validation loss before the rate falls"
    )
    rate_factor: float = Field(0.5, gt=0, lt=1, description="what the rate is multiplied with")
    precision: Precision = Field("fp32", description="of the convolutions")
    compile: bool = Field(False, description="compile the training step")

    @property
    def learning_rates(self) -> dict[str, float]:
        """Adam's first rate by group of parameters."""
        return {"network": self.learning_rate}


class ClassificationTraining(Config):
    """What a trial that classifies slices does; the defaults are those of Chen et al. 2020."""

    schedule: ClassVar[Literal["constant"]] = "constant"
    compile: ClassVar[bool] = False
    """Never: PyTorch 2.13 compiled this network wrongly on CPUs (float32 logits off by 2), and a
    network of 3,498 parameters has nothing to gain."""

    epochs: int = Field(50, ge=1, description="passes over the training slices")
    batch_size: int = Field(32, ge=2, description="slices per step, over all workers")
    learning_rate: float = Field(2e-4, gt=0, description="Adam's rate")
    stable_epochs: int | None = Field(
        10,
        ge=1,
        description="training ends when the validation accuracy has been the same after so many "
        "epochs; null: never",
    )
    balance: Literal["weight", "none"] = Field(
        "none", description="classes: weight the loss, so that both count alike, or not"
    )
    precision: Precision = Field("fp32", description="of the convolutions")

    @property
    def learning_rates(self) -> dict[str, float]:
        """Adam's first rate by group of parameters."""
        return {"network": self.learning_rate}


AnyTraining: TypeAlias = TrainingConfig | SegmentationTraining | ClassificationTraining
"""What the loop takes."""


class EvaluationConfig(Config):
    """How chosen models are evaluated on the test set; the defaults are the paper's."""

    draws: int = Field(100, ge=1, le=MAX_DRAWS, description="policies per subject and model")
    kind: DrawKind = Field("independent", description="how policies are drawn")
    seed: int = Field(42, description="of the policies")
