import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.multiprocessing as multiprocessing

from mgmt_ray.training.checkpoint import load_state, save_state
from mgmt_ray.training.config import TrainingConfig
from mgmt_ray.training.distributed import World
from mgmt_ray.training.loop import Diverged, Epoch, TrainingState, fit, prepare_training_rows

CONFIG = TrainingConfig(
    epochs=4,
    batch_size=4,
    learning_rate=3e-3,
    agent_learning_rate=1e-3,
    temperature=1.0,
    patience=0,
    validation_draws=4,
)


def numbers(epoch: Epoch) -> tuple:
    return (
        epoch.number,
        epoch.train,
        epoch.validation,
        epoch.learning_rates,
        epoch.predictions.probability.tolist(),
    )


@pytest.mark.parametrize("kind", ["spottune", "random", "transfer"])
def test_training_is_repeatable_to_the_bit(kind: str, make_network, make_data) -> None:
    runs = []
    for _ in range(2):
        state = TrainingState(make_network(kind), CONFIG)
        runs.append([numbers(e) for e in fit(state, make_data(10, 1), make_data(6, 2), CONFIG, 3)])
    assert runs[0] == runs[1]
    assert len(runs[0]) == 4


@pytest.mark.parametrize("stop", [1, 2, 3])
def test_resumed_equals_uninterrupted_to_the_bit(
    stop: int, make_network, make_data, tmp_path: Path
) -> None:
    training, validation = make_data(10, 1), make_data(6, 2)
    whole = TrainingState(make_network("spottune"), CONFIG)
    expected = [numbers(e) for e in fit(whole, training, validation, CONFIG, 3)]
    first = TrainingState(make_network("spottune"), CONFIG)
    for epoch in fit(first, training, validation, CONFIG, 3):
        if epoch.number == stop:
            save_state(first.state_dict(), tmp_path / "state.pt")
            break
    torch.manual_seed(999)
    second = TrainingState(make_network("spottune"), CONFIG)
    second.load_state_dict(load_state(tmp_path / "state.pt"))
    continued = [numbers(e) for e in fit(second, training, validation, CONFIG, 3)]
    assert continued == expected[stop:]
    for name, value in second.network.state_dict().items():
        assert torch.equal(value, whole.network.state_dict()[name]), name


def test_a_network_learns_what_can_be_learnt(make_network, make_data) -> None:
    config = CONFIG.model_copy(update={"epochs": 8, "patience": 20})
    state = TrainingState(make_network("random"), config)
    *_, last = fit(state, make_data(24, 1), make_data(24, 2), config, 3)
    assert last.validation.auc > 0.95


def test_rates_fall_when_validation_stalls(make_network, make_data) -> None:
    config = CONFIG.model_copy(update={"learning_rate": 1e-12, "agent_learning_rate": 1e-12})
    state = TrainingState(make_network("transfer"), config)
    rates = [
        e.learning_rates["network"] for e in fit(state, make_data(8, 1), make_data(6, 2), config, 3)
    ]
    # nothing is learnt at 1e-12, so the second epoch is no better, and the third is slower
    assert rates == pytest.approx([1e-12, 1e-12, 1e-13, 1e-14], rel=1e-9, abs=0)


def test_a_loss_that_is_no_number_ends_the_training(make_network, make_data) -> None:
    data = make_data(8, 1)
    data.volumes[3] = float("nan")
    state = TrainingState(make_network("random"), CONFIG)
    with pytest.raises(Diverged, match=r"epoch 1.*learning rate"):
        next(fit(state, data, make_data(6, 2), CONFIG, 3))


def test_pruning_and_only_pruning_takes_volumes_away(make_data) -> None:
    data = make_data(12, 1)
    rare = replace(data, labels=torch.tensor([1.0] * 3 + [0.0] * 9))
    sizes = {
        balance: len(prepare_training_rows(rare, CONFIG.model_copy(update={"balance": balance}), 1))
        for balance in ("prune", "weight", "none")
    }
    assert sizes == {"prune": 6, "weight": 12, "none": 12}


@pytest.mark.parametrize(("balance", "gradient"), [("weight", 0.0), ("none", 0.25)])
def test_class_weights_reach_the_loss(
    balance: str, gradient: float, make_network, make_data
) -> None:
    config = CONFIG.model_copy(update={"balance": balance, "batch_size": 12})
    state = TrainingState(make_network("transfer"), config)
    bias = state.network.resnet.fc.bias
    torch.nn.init.zeros_(state.network.resnet.fc.weight)
    torch.nn.init.zeros_(bias)
    rare = replace(make_data(12, 1), labels=torch.tensor([1.0] * 3 + [0.0] * 9))
    next(fit(state, rare, make_data(6, 2), config, 3))
    # every probability is 0.5, so a subject's gradient is its weight times -0.5 or 0.5: their mean
    # is (9 - 3) / 2 / 12 without weights. Adam's first moment is a tenth of it after one step.
    assert state.optimizer.state[bias]["exp_avg"].item() == pytest.approx(gradient / 10, abs=1e-6)


def _worker(rank: int, folder: str, network, training, validation) -> None:
    torch.set_num_threads(1)
    store = torch.distributed.FileStore(f"{folder}/store", 2)
    torch.distributed.init_process_group("gloo", store=store, rank=rank, world_size=2)
    # spawn hands over tensors in shared memory
    state = TrainingState(copy.deepcopy(network), CONFIG)
    epochs = [numbers(e) for e in fit(state, training, validation, CONFIG, 3, World(rank, 2))]
    torch.save((epochs, state.network.state_dict()), f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("kind", ["spottune", "random"])
def test_two_workers_agree_with_one(kind: str, make_network, make_data, tmp_path: Path) -> None:
    training, validation = make_data(10, 1), make_data(7, 2)
    alone = TrainingState(make_network(kind).double(), CONFIG)
    training, validation = (replace(d, volumes=d.volumes.double()) for d in (training, validation))
    expected = [numbers(e) for e in fit(alone, training, validation, CONFIG, 3)]
    network = make_network(kind).double()
    multiprocessing.spawn(_worker, (str(tmp_path), network, training, validation), nprocs=2)
    results = [torch.load(tmp_path / f"{rank}.pt", weights_only=False) for rank in (0, 1)]
    for epochs, weights in results:
        for mine, theirs in zip(epochs, expected, strict=True):
            # float64 sums in another order; Adam enlarges the rounding of gradients close to 0
            assert mine[4] == pytest.approx(theirs[4], abs=1e-6)
            assert mine[1].loss == pytest.approx(theirs[1].loss, abs=1e-6)
        for name, value in weights.items():
            torch.testing.assert_close(
                value, alone.network.state_dict()[name], rtol=1e-5, atol=1e-6, msg=name
            )
    for name, value in results[0][1].items():
        assert torch.equal(value, results[1][1][name]), f"workers differ in {name}"
