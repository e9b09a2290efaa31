import copy
import math
import warnings
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from mgmt_ray.base import stream_seed
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
from mgmt_ray.training.loop import Diverged, Epoch, TrainingState, fit, training_rows
from mgmt_ray.training.training_config import TrainingConfig
from tests.worker_processes import run_workers

CONFIG = TrainingConfig(
    epochs=4,
    batch_size=4,
    learning_rate=3e-3,
    agent_learning_rate=1e-3,
    temperature=1.0,
    patience=0,
    validation_draws=4,
)
OPTIONS = {"dropout": 0.4, "covariates": ("age", "sex")}
OF_AGENT = {"agent_dropout": 0.4, "covariates": ("age", "sex"), "covariates_for": "both"}
DECAY = {"weight_decay": 0.1, "temperature_schedule": "linear", "temperature_end": 0.1}


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
        for head in network.covariate_heads:
            head.fit_scaling(training.covariates)
        return network

    return make


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


def assert_identical(mine: object, theirs: object, where: str = "state") -> None:
    """Nested dictionaries, lists and tensors, equal to the bit."""
    if isinstance(theirs, torch.Tensor):
        assert isinstance(mine, torch.Tensor) and torch.equal(mine, theirs), where
    elif isinstance(theirs, dict):
        assert isinstance(mine, dict) and mine.keys() == theirs.keys(), where
        for key, value in theirs.items():
            assert_identical(mine[key], value, f"{where}.{key}")
    elif isinstance(theirs, list | tuple):
        assert isinstance(mine, list | tuple) and len(mine) == len(theirs), where
        for index, value in enumerate(theirs):
            assert_identical(mine[index], value, f"{where}[{index}]")
    else:
        assert mine == theirs, where


COSINE = {"schedule": "cosine"}
AUC = {"monitor": "auc"}


@pytest.mark.parametrize(
    ("kind", "changes", "options"),
    [
        ("spottune", {}, {}),
        ("random", AUC, {}),
        ("transfer", {}, {}),
        ("spottune", COSINE, OPTIONS),
        ("transfer", COSINE, OPTIONS),
        ("spottune", DECAY, OF_AGENT),
    ],
)
def test_resumed_from_any_epoch_equals_uninterrupted_to_the_bit(
    kind: str, changes: dict, options: dict, make_started, make_patients, tmp_path: Path
) -> None:
    config = CONFIG.model_copy(update=changes)
    training, validation = make_patients(10, 1), make_patients(6, 2)
    whole = TrainingState(make_started(kind, training, **options), config)
    expected = []
    for epoch in fit(whole, training, validation, config, 3):
        expected.append(numbers(epoch))
        save_state(whole.state_dict(), tmp_path / f"{epoch.number}.pt")
    for stop in range(1, config.epochs + 1):
        torch.manual_seed(999 + stop)
        resumed = TrainingState(make_started(kind, training, **options), config)
        resumed.load_state_dict(load_state(tmp_path / f"{stop}.pt"))
        continued = [numbers(e) for e in fit(resumed, training, validation, config, 3)]
        assert continued == expected[stop:]
        # network, optimiser and schedule: what a further epoch would follow from
        assert_identical(resumed.state_dict(), whole.state_dict(), f"resumed after {stop}")


@pytest.mark.parametrize(
    ("kind", "settings", "last_frozen"),
    [("spottune", {}, 4), ("transfer", {}, 4), ("transfer", {"trainable_blocks": 2}, 2)],
)
def test_what_is_frozen_is_the_checkpoints_to_the_bit_after_training(
    kind: str, settings: dict[str, int], last_frozen: int, make_network, make_data, weights: Path
) -> None:
    """Stem and blocks, weights and BatchNorm's statistics; everything else has changed."""
    pretrained = torch.load(weights, weights_only=True)["state_dict"]
    initial = make_network(kind, **settings).state_dict()
    state = TrainingState(make_network(kind, **settings), CONFIG)
    epochs = list(fit(state, make_data(10, 1), make_data(6, 2), CONFIG, 3))
    assert len(epochs) == 4
    after = state.network.state_dict()
    prefix = "" if kind == "spottune" else "resnet."
    parts = {"conv1.": f"{prefix}conv1.", "bn1.": f"{prefix}bn1."}
    for block in range(last_frozen):  # one to a stage in a network of depth 10
        ours = f"routed.{block}.frozen." if kind == "spottune" else f"resnet.layer{block + 1}.0."
        parts[f"layer{block + 1}.0."] = ours
    frozen = {
        ours + name.removeprefix(f"module.{theirs}"): value
        for theirs, ours in parts.items()
        for name, value in pretrained.items()
        if name.startswith(f"module.{theirs}")
    }
    assert sum("running_var" in name for name in frozen) >= 2 * last_frozen + 1
    for name, value in after.items():
        if name in frozen:
            assert torch.equal(value, frozen[name]), f"{name} has changed"
        else:
            assert not torch.equal(value, initial[name]), f"{name} was not trained"
    assert frozen.keys() <= after.keys()


def test_a_network_learns_what_can_be_learnt(make_network, make_data) -> None:
    config = CONFIG.model_copy(update={"epochs": 8, "patience": 20})
    state = TrainingState(make_network("random"), config)
    *_, last = fit(state, make_data(24, 1), make_data(24, 2), config, 3)
    assert last.validation.auc > 0.95


def test_the_agent_learns_at_its_own_rate(make_network, make_data) -> None:
    config = CONFIG.model_copy(update={"learning_rate": 1e-12, "agent_learning_rate": 1e-2})
    state = TrainingState(make_network("spottune"), config)
    before = copy.deepcopy(state.network.state_dict())
    epoch = next(fit(state, make_data(8, 1), make_data(6, 2), config, 3))
    assert epoch.learning_rates == {"network": 1e-12, "agent": 1e-2}
    moved = {
        name: float((value.detach() - before[name]).abs().max())
        for name, value in state.network.named_parameters()
        if value.requires_grad
    }
    # three steps of Adam, each as long as the rate or shorter
    assert all((m > 1e-4) == name.startswith("agent") for name, m in moved.items() if m)


def test_validation_is_the_mean_over_as_many_sobol_policies_as_asked(
    make_network, make_data
) -> None:
    validation = make_data(6, 2)
    config = CONFIG.model_copy(update={"validation_draws": 3})
    state = TrainingState(make_network("spottune"), config)
    epoch = next(fit(state, make_data(8, 1), validation, config, 3))
    settings = {"kind": "sobol", "seed": stream_seed(3, "validation"), "precision": "fp32"}
    asked = predict(state.network, validation, num_draws=3, **settings)
    assert (epoch.predictions.probability == asked.probability).all()
    other = predict(state.network, validation, num_draws=4, **settings)
    assert not (epoch.predictions.probability == other.probability).all()


def test_rates_fall_when_validation_stalls(make_network, make_data) -> None:
    config = CONFIG.model_copy(update={"learning_rate": 1e-12, "agent_learning_rate": 1e-12})
    state = TrainingState(make_network("transfer"), config)
    rates = [
        e.learning_rates["network"] for e in fit(state, make_data(8, 1), make_data(6, 2), config, 3)
    ]
    # nothing is learnt at 1e-12, so the second epoch is no better, and the third is slower
    assert rates == pytest.approx([1e-12, 1e-12, 1e-13, 1e-14], rel=1e-9, abs=0)


@pytest.mark.parametrize("part", ["training", "validation"])
@pytest.mark.parametrize("good_epochs", [0, 2])
def test_a_loss_that_is_no_number_ends_the_training_and_its_epoch_is_known(
    part: str, good_epochs: int, make_network, make_data
) -> None:
    data = {"training": make_data(8, 1), "validation": make_data(6, 2)}
    epochs = fit(TrainingState(make_network("random"), CONFIG), *data.values(), CONFIG, 3)
    for _ in range(good_epochs):
        next(epochs)
    data[part].volumes[3] = float("nan")
    with pytest.raises(
        Diverged, match=f"the {part} loss is nan in epoch .*learning_rate"
    ) as raised:
        next(epochs)
    assert raised.value.epoch == good_epochs + 1


def test_weights_that_grow_without_bound_end_the_training(make_network, make_data) -> None:
    config = CONFIG.model_copy(update={"learning_rate": 1e30})
    state = TrainingState(make_network("random"), config)
    with pytest.raises(Diverged, match=r"loss is (inf|nan) in epoch 1"):
        next(fit(state, make_data(8, 1), make_data(6, 2), config, 3))


def test_pruning_and_only_pruning_takes_volumes_away() -> None:
    rare = np.array([1] * 3 + [0] * 9)
    sizes = {
        balance: len(training_rows(rare, CONFIG.model_copy(update={"balance": balance}), 1))
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


ONE_STEP = CONFIG.model_copy(update={"epochs": 1, "batch_size": 10})


def after_one_step(network, training, validation, world: World | None = None) -> dict:
    """A tenth of the gradient (Adam's first moment) and BatchNorm's statistics, by name."""
    state = TrainingState(copy.deepcopy(network), ONE_STEP)
    (_,) = fit(state, training, validation, ONE_STEP, 3, world)
    values = {n: b for n, b in state.network.named_buffers() if "running" in n}
    for name, parameter in state.network.named_parameters():
        if parameter.requires_grad:
            values[name] = state.optimizer.state[parameter]["exp_avg"]
    return values


def _worker(rank: int, folder: str, network, training, validation) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("error", FutureWarning)
    store = torch.distributed.FileStore(f"{folder}/store", 2)
    torch.distributed.init_process_group("gloo", store=store, rank=rank, world_size=2)
    world = World(rank, 2)
    step = after_one_step(network, training, validation, world)
    # they come in shared memory
    state = TrainingState(copy.deepcopy(network), CONFIG)
    epochs = [numbers(e) for e in fit(state, training, validation, CONFIG, 3, world)]
    torch.save((step, epochs, state.network.state_dict()), f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize(("kind", "options"), [("spottune", {}), ("random", OPTIONS)])
def test_two_workers_agree_with_one(
    kind: str, options: dict, make_started, make_patients, tmp_path: Path
) -> None:
    """On the same global batches, here of 10 and of 4, 3 and 3 volumes, halved as they come."""
    training, validation = (
        replace(data, volumes=data.volumes.double())
        for data in (make_patients(10, 1), make_patients(7, 2))
    )
    network = make_started(kind, training, **options).double()
    step = after_one_step(network, training, validation)
    alone = TrainingState(copy.deepcopy(network), CONFIG)
    expected = [numbers(e) for e in fit(alone, training, validation, CONFIG, 3)]
    run_workers(_worker, (str(tmp_path), network, training, validation), 2)
    results = [torch.load(tmp_path / f"{rank}.pt", weights_only=False) for rank in (0, 1)]
    for their_step, epochs, weights in results:
        for name, value in step.items():
            # float64 sums in another order, and a variance from moments: digits of the largest
            size = float(value.abs().max())
            torch.testing.assert_close(
                their_step[name], value, rtol=0, atol=1e-12 * size + 1e-15, msg=name
            )
        for mine, theirs in zip(epochs, expected, strict=True):
            # Adam enlarges the rounding of gradients close to 0
            assert mine[4] == pytest.approx(theirs[4], abs=1e-6)
            assert mine[1].loss == pytest.approx(theirs[1].loss, abs=1e-6)
        for name, value in weights.items():
            torch.testing.assert_close(
                value, alone.network.state_dict()[name], rtol=1e-5, atol=1e-6, msg=name
            )
    assert_identical(results[0][2], results[1][2], "workers")


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

    config = CONFIG.model_copy(
        update={"epochs": 6, "learning_rate": 0.05, "temperature": 100.0, "patience": 20}
    )
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


@pytest.mark.parametrize(
    ("changes", "settings"),
    [
        ({"weight_decay": 0.1}, {}),
        ({"temperature_schedule": "exponential", "temperature_end": 0.01}, {}),
        ({}, {"agent_dropout": 0.5}),
    ],
)
def test_each_option_of_training_changes_the_weights(
    changes: dict, settings: dict, make_network, make_data
) -> None:
    trained = []
    for config, options in ((CONFIG, {}), (CONFIG.model_copy(update=changes), settings)):
        state = TrainingState(make_network("spottune", **options), config)
        epochs = list(fit(state, make_data(8, 1), make_data(4, 2), config, 3))
        trained.append((epochs[0].train.loss, state.network.agent.fc.weight.detach().clone()))
    (first, plain), (first_changed, changed) = trained
    assert not torch.equal(plain, changed)
    # the first epoch's forward passes see dropout; decay and τ act on the update alone
    assert bool(settings) or first == pytest.approx(first_changed, rel=0.2)


def test_the_temperature_of_an_epoch_is_the_schedules(make_network, make_data) -> None:
    config = CONFIG.model_copy(
        update={"temperature_schedule": "linear", "temperature": 4.0, "temperature_end": 1.0}
    )
    state = TrainingState(make_network("spottune"), config)
    used = [
        state.network.temperature for _ in fit(state, make_data(8, 1), make_data(4, 2), config, 3)
    ]
    assert used == [4.0, 3.0, 2.0, 1.0]


class CountUploads(TorchDispatchMode):
    """Counts copies from the CPU to another device."""

    def __init__(self) -> None:
        super().__init__()
        self.number = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if func in (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default):
            source = args[0] if func is torch.ops.aten._to_copy.default else args[1]
            self.number += source.device.type == "cpu" and result.device.type != "cpu"
        return result


@pytest.mark.parametrize("kind", ["spottune", "transfer", "random"])
def test_a_step_copies_nothing_to_the_device(
    kind: str, make_network, make_data, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The device without memory stands for a GPU; it cannot score the epoch in the end."""
    for module in ("volume_task", "frozen_features"):  # torch.autocast does not know the device
        monkeypatch.setattr(f"mgmt_ray.training.{module}.autocast", lambda *_: nullcontext())
    data = make_data(12, 1)
    meta = replace(data, volumes=data.volumes.to("meta"), labels=data.labels.to("meta"))
    uploads = []
    for batch_size in (12, 6, 3):
        config = CONFIG.model_copy(update={"batch_size": batch_size})
        state = TrainingState(make_network(kind, dropout=0.5).to("meta"), config)
        with CountUploads() as count, pytest.raises(NotImplementedError, match="meta"):
            next(fit(state, meta, meta, config, 3))
        uploads.append(count.number)
    once = 1 if kind == "transfer" else 0  # to learn the size of the frozen part's outputs
    assert uploads == [3 + once] * 3  # order, noise of the policies, dropout
