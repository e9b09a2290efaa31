from __future__ import annotations

import math

import pytest
import torch

from mgmt_ray.base import MgmtError
from mgmt_ray.training.metrics import Scores
from mgmt_ray.training.schedule import end_epoch, make_scheduler
from mgmt_ray.training.training_config import TrainingConfig


def rates(config: TrainingConfig, epochs: list[Scores]) -> list[float]:
    """The rate before the first epoch, and after each."""
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = make_scheduler(optimizer, config)
    learning_rates = [optimizer.param_groups[0]["lr"]]
    for scores in epochs:
        optimizer.step()
        end_epoch(scheduler, config, scores)
        learning_rates.append(optimizer.param_groups[0]["lr"])
    return learning_rates


def make_scores(**changes: float) -> Scores:
    return Scores(**({"loss": 0.7, "auc": 0.5, "ap": 0.5, "sen": 0.5, "spe": 0.5} | changes))


@pytest.mark.parametrize(
    ("monitor", "better"),
    [
        ("loss", {"loss": 0.6}),
        ("auc", {"auc": 0.6}),
        ("m", {"sen": 0.6}),
        ("m", {"spe": 0.6}),
    ],
)
def test_a_plateau_looks_at_its_monitor_alone(monitor: str, better: dict[str, float]) -> None:
    config = TrainingConfig(patience=0, rate_factor=0.5, monitor=monitor)
    assert rates(config, [make_scores(), make_scores(**better)]) == [1.0, 1.0, 1.0]
    others = {"loss": 0.1, "auc": 0.9, "ap": 0.9, "sen": 0.9, "spe": 0.9}
    for name in {"loss": ["loss"], "auc": ["auc"], "m": ["sen", "spe"]}[monitor]:
        del others[name]
    assert rates(config, [make_scores(), make_scores(**others)]) == [1.0, 1.0, 0.5]


def test_the_papers_plateau_waits_twenty_epochs() -> None:
    learning_rates = rates(TrainingConfig(), [make_scores()] * 23)
    assert learning_rates == [1.0] * 22 + [pytest.approx(0.1)] * 2


def test_a_monitor_that_is_not_defined_is_refused() -> None:
    config = TrainingConfig(monitor="auc", patience=0)
    with pytest.raises(MgmtError, match=r"training\.monitor: auc is not defined"):
        rates(config, [make_scores(auc=math.nan)])


def test_a_cosine_falls_from_all_of_the_rate_to_none() -> None:
    learning_rates = rates(TrainingConfig(epochs=4, schedule="cosine"), [make_scores()] * 4)
    half = math.sqrt(0.5)
    assert learning_rates == pytest.approx(
        [1.0, (1 + half) / 2, 0.5, (1 - half) / 2, 0.0], abs=1e-15
    )


def test_a_constant_rate_stays() -> None:
    learning_rates = rates(TrainingConfig(epochs=4, schedule="constant"), [make_scores()] * 4)
    assert learning_rates == [1.0] * 5
