"""What a trial's memory follows from, in words for who runs out of it."""

from __future__ import annotations

from typing import Literal

from mgmt_ray.study.plan import Trial
from mgmt_ray.training.evaluate import ROWS_AT_ONCE


def memory_words(
    trial: Trial, shape: tuple[int, ...], device: str, does: Literal["trains", "predicts with"]
) -> tuple[str, str]:
    """What memory follows from, and what its user could make smaller."""
    network, training = trial.network_config, trial.training_config
    volume = " × ".join(map(str, (len(trial.channels), *shape)))
    at_once = training.batch_size if does == "trains" else ROWS_AT_ONCE
    what = (
        f"trial {trial.id} {does} {trial.network} ({network.kind}, depth {network.depth}, width "
        f"{network.width}) on {device}, in batches of {at_once} volumes of {volume}"
    )
    less = ["a larger share of the GPU (--gpus)"] if device.startswith("cuda") else []
    if does == "trains":
        less += ["more workers (--workers)", "a smaller training.batch_size"]
    if training.precision == "fp32":
        less.append("training.precision bf16")
    if not network.pretrained:
        less.append(f"a smaller width of networks.{trial.network}")
    return what, f"Give it {', '.join([*less, 'or a machine with more memory'])}."
