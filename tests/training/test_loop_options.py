"""Dropout, covariates and schedules: repeatable, resumable, whoever shares the work."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.multiprocessing as multiprocessing

from mgmt_ray.training.checkpoint import (
    load_state,
    load_weights,
    save_state,
    save_weights,
    trained_weights,
)
from mgmt_ray.training.dataset import VolumeSet
from mgmt_ray.training.distributed import World
from mgmt_ray.training.evaluate import predict
from mgmt_ray.training.loop import Epoch, TrainingState, fit
from mgmt_ray.training.training_config import TrainingConfig

CONFIG = TrainingConfig(
    epochs=3, batch_size=4, learning_rate=3e-3, agent_learning_rate=1e-3, validation_draws=4
)
OPTIONS = {"dropout": 0.4, "covariates": ("age", "sex")}


@pytest.fixture
def make_patients(make_data):
    """Volumes with age and sex; each is missing for one subject."""

    def make(number: int, seed: int) -> VolumeSet:
        random = torch.Generator().manual_seed(seed)
        age = 60 + 10 * torch.randn(number, generator=random)
        sex = torch.randint(2, (number,), generator=random) - 0.5
        age[1], sex[2] = math.nan, math.nan
        return replace(make_data(number, seed), covariates=torch.stack([age, sex], dim=1).float())

    return make


@pytest.fixture
def make_started(make_network):
    """A network that knows its training subjects' age."""

    def make(kind: str, training: VolumeSet, **settings):
        network = make_network(kind, **settings)
        if network.covariate_head is not None:
            network.covariate_head.fit_scaling(training.covariates)
        return network

    return make


def numbers(epoch: Epoch) -> tuple:
    return (epoch.train, epoch.learning_rates, epoch.predictions.probability.tolist())


@pytest.mark.parametrize("schedule", ["cosine", "plateau"])
@pytest.mark.parametrize("kind", ["spottune", "transfer"])
def test_resumed_equals_uninterrupted_to_the_bit(
    kind: str, schedule: str, make_started, make_patients, tmp_path: Path
) -> None:
    config = CONFIG.model_copy(update={"schedule": schedule, "monitor": "auc", "patience": 0})
    training, validation = make_patients(10, 1), make_patients(6, 2)
    whole = TrainingState(make_started(kind, training, **OPTIONS), config)
    expected = []
    for epoch in fit(whole, training, validation, config, 3):
        expected.append(numbers(epoch))
        if epoch.number == 1:
            save_state(whole.state_dict(), tmp_path / "state.pt")
    torch.manual_seed(999)
    second = TrainingState(make_started(kind, training, **OPTIONS), config)
    second.load_state_dict(load_state(tmp_path / "state.pt"))
    assert [numbers(e) for e in fit(second, training, validation, config, 3)] == expected[1:]
    for name, value in second.network.state_dict().items():
        assert torch.equal(value, whole.network.state_dict()[name]), name


def _worker(rank: int, folder: str, network, training, validation) -> None:
    torch.set_num_threads(1)
    store = torch.distributed.FileStore(f"{folder}/store", 2)
    torch.distributed.init_process_group("gloo", store=store, rank=rank, world_size=2)
    state = TrainingState(copy.deepcopy(network), CONFIG)
    epochs = [numbers(e) for e in fit(state, training, validation, CONFIG, 3, World(rank, 2))]
    torch.save((epochs, state.network.state_dict()), f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


def test_a_subjects_mask_does_not_depend_on_the_number_of_workers(
    make_started, make_patients, tmp_path: Path
) -> None:
    training, validation = make_patients(10, 1), make_patients(7, 2)
    training, validation = (replace(d, volumes=d.volumes.double()) for d in (training, validation))
    network = make_started("random", training, **OPTIONS).double()
    alone = TrainingState(copy.deepcopy(network), CONFIG)
    expected = [numbers(e) for e in fit(alone, training, validation, CONFIG, 3)]
    multiprocessing.spawn(_worker, (str(tmp_path), network, training, validation), nprocs=2)
    epochs, weights = torch.load(tmp_path / "1.pt", weights_only=False)
    for mine, theirs in zip(epochs, expected, strict=True):
        # float64 sums in another order; Adam enlarges the rounding of gradients close to 0
        assert mine[2] == pytest.approx(theirs[2], abs=1e-6)
    for name, value in weights.items():
        torch.testing.assert_close(
            value, alone.network.state_dict()[name], rtol=1e-5, atol=1e-6, msg=name
        )


def test_dropout_changes_training_and_never_evaluation(make_network, make_data) -> None:
    training, validation = make_data(8, 1), make_data(6, 2)
    with_it, without = make_network("transfer", dropout=0.5), make_network("transfer")
    draws = {"num_draws": 1, "kind": "sobol", "seed": 0, "precision": "fp32"}
    for name, value in with_it.state_dict().items():
        assert torch.equal(value, without.state_dict()[name]), name
    before = predict(with_it, validation, **draws).probability.tolist()
    assert before == predict(without, validation, **draws).probability.tolist()
    assert before == predict(with_it.train(), validation, **draws).probability.tolist()
    losses = []
    for network in (with_it, without):
        epoch = next(fit(TrainingState(network, CONFIG), training, validation, CONFIG, 3))
        losses.append(epoch.train.loss)
    assert losses[0] != losses[1]


@pytest.mark.parametrize("kind", ["spottune", "random", "transfer"])
def test_a_network_learns_from_age_what_the_image_does_not_tell(
    kind: str, make_started, make_data
) -> None:
    def blind(number: int, seed: int) -> VolumeSet:
        data = make_data(number, seed)
        age = 60 + 20 * (data.labels - 0.5) + torch.linspace(-3, 3, number)
        empty = torch.full_like(data.volumes, 0.25)
        return replace(data, volumes=empty, covariates=age.unsqueeze(1))

    config = CONFIG.model_copy(update={"epochs": 6, "learning_rate": 0.05})
    training = blind(12, 1)
    state = TrainingState(make_started(kind, training, covariates=("age",)), config)
    *_, last = fit(state, training, blind(8, 2), config, 3)
    assert last.validation.auc == 1.0


def test_the_scaling_travels_with_the_weights(
    make_started, make_patients, make_network, tmp_path: Path
) -> None:
    training, validation = make_patients(10, 1), make_patients(6, 2)
    trained = make_started("transfer", training, covariates=("age", "sex"))
    save_weights(trained_weights(trained), tmp_path / "weights.safetensors")
    fresh = make_network("transfer", covariates=("age", "sex"))
    assert fresh.covariate_head.mean.tolist() == [0, 0]
    load_weights(fresh, tmp_path / "weights.safetensors")
    assert 50 < fresh.covariate_head.mean[0] < 70
    draws = {"num_draws": 1, "kind": "sobol", "seed": 0, "precision": "fp32"}
    assert (
        predict(fresh, validation, **draws).probability.tolist()
        == predict(trained, validation, **draws).probability.tolist()
    )
