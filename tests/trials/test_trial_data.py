from __future__ import annotations

import pytest
import torch

from mgmt_ray.training.dataset import VolumeSet
from mgmt_ray.training.loop import prepare_training_rows
from mgmt_ray.training.training_config import TrainingConfig
from mgmt_ray.trials.trial_data import prior


@pytest.mark.parametrize(("balance", "share"), [("none", 0.4), ("weight", 0.5), ("prune", 0.5)])
def test_the_prior_is_the_share_that_trains_unless_classes_are_balanced(
    balance: str, share: float
) -> None:
    config = TrainingConfig.model_validate({"balance": balance})
    labels = torch.tensor([1.0, 0.0, 1.0, 0.0, 0.0]).repeat_interleave(5)  # versions of 5 subjects
    subjects = tuple(name for name in "abcde" for _ in range(5))
    training = VolumeSet(torch.zeros(25, 1, 2, 2, 2), labels, subjects)
    assert prior(prepare_training_rows(training, config, seed=0), config) == pytest.approx(share)
