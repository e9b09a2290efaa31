from dataclasses import replace

import numpy as np
import pytest
import torch

from mgmt_ray.nets.single_path import TrainedTail
from mgmt_ray.training import frozen_features as frozen
from mgmt_ray.training.dataset import volume_set
from mgmt_ray.training.frozen_features import cache_frozen_features
from mgmt_ray.training.loop import TrainingState, fit
from mgmt_ray.training.precision import CHANNELS_LAST
from mgmt_ray.training.training_config import TrainingConfig

CONFIG = TrainingConfig(epochs=3, batch_size=4, learning_rate=1e-2)


def run(network, training, validation, config: TrainingConfig) -> tuple:
    state = TrainingState(network, config)
    epochs = [
        (e.train, e.validation, e.predictions.probability.tolist())
        for e in fit(state, training, validation, config, 3)
    ]
    return epochs, state.network.state_dict()


def assert_cached_equals_recomputed(make, training, validation, config, monkeypatch) -> None:
    """All scores, predictions and weights are the same to the bit, and the outputs were cached."""
    tail, *_ = cache_frozen_features(
        make(), training, validation, config.batch_size, config.precision
    )
    assert isinstance(tail, TrainedTail)
    cached, weights = run(make(), training, validation, config)
    with monkeypatch.context() as patch:
        patch.setattr(frozen, "MAX_CACHED_BYTES", 0)
        anew, expected = run(make(), training, validation, config)
    assert cached == anew
    for name, value in expected.items():
        assert torch.equal(weights[name], value), name


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("blocks", [0, 1, 2, 4])
def test_cached_outputs_train_as_volumes_do_to_the_bit(
    blocks: int, precision: str, make_network, make_data, monkeypatch
) -> None:
    config = CONFIG.model_copy(update={"precision": precision})
    assert_cached_equals_recomputed(
        lambda: make_network("transfer", trainable_blocks=blocks),
        make_data(10, 1),
        make_data(6, 2),
        config,
        monkeypatch,
    )


def test_dropout_and_covariates_follow_the_cached_outputs(
    make_network, make_data, monkeypatch
) -> None:
    sets = [make_data(10, 1), make_data(6, 2)]
    known = [replace(d, covariates=torch.randn(len(d), 1)) for d in sets]
    assert_cached_equals_recomputed(
        lambda: make_network("transfer", dropout=0.5, covariates=("age",)),
        *known,
        CONFIG,
        monkeypatch,
    )


# A batch of one row, or of 16 and 15, takes other kernels; see cache_frozen_features.
@pytest.mark.parametrize(("number", "batch"), [(8, 3), (13, 5), (12, 12), (24, 12), (40, 20)])
@pytest.mark.parametrize("blocks", [0, 2])
def test_kept_outputs_are_the_networks_at_any_size(
    number: int, batch: int, blocks: int, make_network
) -> None:
    shape = np.random.default_rng(number + blocks).integers(9, 18, size=3)
    network = make_network("transfer", trainable_blocks=blocks)
    volumes = np.random.default_rng(sum(shape)).random((number, 1, *shape))
    data = volume_set([volumes], [0] * number, [f"{i}" for i in range(number)], "cpu")
    tail, cached, _ = cache_frozen_features(network, data, data, batch, "fp32")
    network.eval()
    order = np.random.default_rng(1).permutation(number)
    with torch.no_grad():
        for rows in np.array_split(order, -(-number // batch)):
            expected = network(data.select(rows).volumes.float())
            assert torch.equal(tail(cached.select(rows).volumes), expected)


def test_outputs_too_large_to_cache_are_computed_in_every_epoch(
    make_network, make_data, monkeypatch
) -> None:
    network, data = make_network("transfer", trainable_blocks=2), make_data(4, 1)
    _, cached, _ = cache_frozen_features(network, data, data, 4, "fp32")
    size = 2 * cached.volumes.numel() * cached.volumes.element_size()
    for limit, fits in ((size, True), (size - 1, False)):
        monkeypatch.setattr(frozen, "MAX_CACHED_BYTES", limit)
        trained, training, validation = cache_frozen_features(network, data, data, 4, "fp32")
        assert isinstance(trained, TrainedTail) == fits
        assert (training is data) == (validation is data) == (not fits)


@pytest.mark.parametrize("kind", ["spottune", "random"])
def test_nothing_is_cached_for_a_network_trained_from_its_stem_on(
    kind: str, make_network, make_data
) -> None:
    network, data = make_network(kind), make_data(4, 1)
    assert cache_frozen_features(network, data, data, 4, "fp32") == (network, data, data)


def test_batch_statistics_of_the_frozen_part_stay_the_checkpoints(make_network, make_data) -> None:
    network, data = make_network("transfer"), make_data(4, 1)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    cache_frozen_features(network, data, data, 4, "fp32")
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_kept_outputs_lie_in_memory_as_the_frozen_part_left_them(make_network, make_data) -> None:
    network = make_network("transfer", trainable_blocks=2).to(memory_format=CHANNELS_LAST)
    data = make_data(6, 1)
    _, cached, _ = cache_frozen_features(network, data, data, 4, "fp32")
    for volumes in (cached.volumes, cached.select(np.array([4, 1])).volumes):
        assert volumes.is_contiguous(memory_format=CHANNELS_LAST)
        assert not volumes.is_contiguous()
