"""Settings of training and evaluation.

Schmitz et al. 2024, sec. 2.4, for volumes; Chen et al. 2020, sec. 2.3 to 2.5, for slices.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal, TypeAlias

from pydantic import Field, model_validator

from mgmt_ray.base import Config, later_key
from mgmt_ray.nets.policy import DrawKind

Precision = Literal["fp32", "bf16", "auto"]
"""Numbers that convolutions compute with; see ``training.precision.resolve_auto``."""

Criterion = Literal["m", "accuracy_auc"]
"""By which an epoch is chosen: M, or the sum of accuracy and AUC."""

LEAST_RATE = 0.5
"""Sensitivity and specificity that what is chosen on validation exceeds."""

MAX_DRAWS = 2**16
"""The number of policies of sixteen blocks."""


class TrainingConfig(Config):
    """Training on volumes; the defaults are those of Schmitz et al. 2024.

    >>> TrainingConfig(epochs=10).learning_rates
    {'network': 1e-05, 'agent': 0.0001}
    """

    epochs: int = Field(90, ge=1, description="passes over the training volumes")
    batch_size: int = Field(12, ge=2, description="volumes per step, over all workers")
    learning_rate: float = Field(1e-5, gt=0, description="Adam's rate for the network")
    agent_learning_rate: float = Field(1e-4, gt=0, description="Adam's rate for the agent")
    weight_decay: float = later_key(
        0.0, ge=0, description="Adam's L2 penalty; the public code has 1e-8, the paper none"
    )
    temperature: float = Field(100.0, gt=0, description="τ of the Gumbel-softmax relaxation")
    temperature_schedule: Literal["constant", "linear", "exponential"] = later_key(
        "constant", description="how τ goes from its value in the first epoch to that in the last"
    )
    temperature_end: float | None = later_key(
        None, gt=0, description="linear, exponential: τ in the last epoch"
    )
    patience: int = Field(
        20, ge=0, description="plateau: epochs without a better monitor before the rates fall"
    )
    rate_factor: float = Field(0.1, gt=0, lt=1, description="plateau: factor of the rates")
    schedule: Literal["plateau", "cosine", "constant"] = Field(
        "plateau",
        description="rates: multiplied by rate_factor when the monitor stalls, falling to 0 as a "
        "cosine over all epochs, or constant",
    )
    monitor: Literal["loss", "auc", "m"] = Field(
        "loss",
        description="plateau: monitored score of the validation fold: loss, AUC, or criterion M",
    )
    balance: Literal["prune", "weight", "none"] = Field(
        "prune", description="classes: prune volumes of the larger one, weight the loss, or neither"
    )
    criterion: Criterion = later_key(
        "m",
        description="by which an epoch is chosen: M, or accuracy + AUC, which the paper had first",
    )
    min_sensitivity: float = later_key(
        LEAST_RATE, ge=0, lt=1, description="an epoch qualifies with a sensitivity above it"
    )
    min_specificity: float = later_key(
        LEAST_RATE, ge=0, lt=1, description="an epoch qualifies with a specificity above it"
    )
    precision: Precision = Field(
        "fp32",
        description="of the convolutions, in training and evaluation, on every machine; auto: bf16 "
        "where a training's GPU has it, else fp32",
    )
    compile: bool | Literal["auto"] = Field(
        False,
        description="compile the training step: takes minutes once per kind of network, faster "
        "later; auto: on GPUs",
    )
    validation_draws: int = Field(
        32, ge=1, le=MAX_DRAWS, description="Sobol policies per subject and epoch"
    )

    @model_validator(mode="after")
    def _check_keys_used(self) -> TrainingConfig:
        for name in () if self.schedule == "plateau" else ("monitor", "patience", "rate_factor"):
            if getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"{name}: applies to schedule plateau only. Omit it")
        if (self.temperature_schedule == "constant") != (self.temperature_end is None):
            raise ValueError(
                "temperature_end: applies to temperature_schedule linear or exponential, which "
                "need it. Give both keys, or neither"
            )
        return self

    def temperature_in(self, epoch: int) -> float:
        """Return τ in an epoch, counted from 1.

        >>> config = TrainingConfig(
        ...     epochs=3, temperature=100, temperature_schedule="exponential", temperature_end=1
        ... )
        >>> [round(config.temperature_in(epoch), 6) for epoch in (1, 2, 3)]
        [100.0, 10.0, 1.0]
        """
        if self.temperature_end is None:
            return self.temperature
        share = (epoch - 1) / max(self.epochs - 1, 1)
        if self.temperature_schedule == "linear":
            return self.temperature + share * (self.temperature_end - self.temperature)
        return float(self.temperature * (self.temperature_end / self.temperature) ** share)

    @property
    def learning_rates(self) -> dict[str, float]:
        """Adam's initial rate by parameter group."""
        return {"network": self.learning_rate, "agent": self.agent_learning_rate}

    @property
    def stable_epochs(self) -> None:
        """Volumes train to the last epoch."""
        return None

    @property
    def adam_epsilon(self) -> float:
        """Adam's ε; PyTorch's."""
        return 1e-8


class SegmentationTraining(Config):
    """Training a segmentation of slices; the defaults are those of Chen et al. 2020."""

    schedule: ClassVar[Literal["plateau"]] = "plateau"
    monitor: ClassVar[Literal["loss"]] = "loss"
    weight_decay: ClassVar[float] = 0.0
    stable_epochs: ClassVar[None] = None

    epochs: int = Field(50, ge=1, description="passes over the training slices")
    batch_size: int = Field(8, ge=2, description="slices per step, over all workers")
    learning_rate: float = Field(1e-4, gt=0, description="Adam's rate")
    patience: int = Field(
        5, ge=0, description="epochs without a lower validation loss before the rate falls"
    )
    rate_factor: float = Field(0.5, gt=0, lt=1, description="factor of the rate")
    adam_epsilon: float = later_key(1e-8, gt=0, description="Adam's ε; Keras's is 1e-7")
    precision: Precision = Field("fp32", description="of the convolutions")
    compile: bool | Literal["auto"] = Field(False, description="compile the training step")

    @property
    def learning_rates(self) -> dict[str, float]:
        """Adam's initial rate by parameter group."""
        return {"network": self.learning_rate}


class ClassificationTraining(Config):
    """Training a classifier of slices; the defaults are those of Chen et al. 2020."""

    schedule: ClassVar[Literal["constant"]] = "constant"
    weight_decay: ClassVar[float] = 0.0
    compile: ClassVar[bool] = False
    """PyTorch 2.13 compiles this network wrongly on CPUs (float32 logits off by 2), and a network
    of 3,498 parameters would gain nothing."""

    epochs: int = Field(50, ge=1, description="passes over the training slices")
    batch_size: int = Field(32, ge=2, description="slices per step, over all workers")
    learning_rate: float = Field(2e-4, gt=0, description="Adam's rate")
    stable_epochs: int | None = Field(
        10,
        ge=1,
        description="end training when the validation accuracy has not changed for this many "
        "epochs; null: never",
    )
    stable: Literal["unchanged", "not_better"] = later_key(
        "unchanged",
        description="stable accuracy: the same to the digit, or none better than the best before",
    )
    adam_epsilon: float = later_key(1e-8, gt=0, description="Adam's ε; Keras's is 1e-7")
    balance: Literal["weight", "none"] = Field(
        "none", description="classes: weight the loss so that both count equally, or not"
    )
    precision: Precision = Field("fp32", description="of the convolutions")

    @property
    def learning_rates(self) -> dict[str, float]:
        """Adam's initial rate by parameter group."""
        return {"network": self.learning_rate}


AnyTraining: TypeAlias = TrainingConfig | SegmentationTraining | ClassificationTraining
"""The settings of any training."""

DEVICE_KEYS = ("precision", "compile")
"""Settings that ``auto`` leaves to the device; ``trial.json`` records what they became."""


def auto_keys(config: AnyTraining) -> tuple[str, ...]:
    """Return which settings the config leaves to the device."""
    return tuple(name for name in DEVICE_KEYS if getattr(config, name) == "auto")


def determining_keys(config: AnyTraining) -> dict[str, Any]:
    """Return the settings that a trial's id follows from, which no device may change.

    ``auto`` counts as the default, so that a study keeps its trials when it begins to say ``auto``.

    >>> determining_keys(TrainingConfig(precision="auto")) == determining_keys(TrainingConfig())
    True
    """
    fields = type(config).model_fields
    return {
        name: fields[name].default if name in auto_keys(config) else value
        for name, value in config.model_dump(mode="json").items()
    }


class EvaluationConfig(Config):
    """Evaluation of selected models on the test set; defaults are those of Schmitz et al. 2024."""

    draws: int = Field(100, ge=1, le=MAX_DRAWS, description="policies per subject and model")
    kind: DrawKind = Field("independent", description="how policies are drawn")
    seed: int = Field(42, description="of the policies")
    routing: bool = later_key(
        True, description="also predict under other policies than the agent's, with equal weights"
    )
