"""The two stages of the slices' pipeline go through the loop that volumes go through."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch

from mgmt_ray.nets.myronenko import SegmentationNetwork
from mgmt_ray.nets.network import Network
from mgmt_ray.nets.slice_classifier import SIDE, SliceClassifier
from mgmt_ray.preprocess.tumour_slices import TUMOUR_THRESHOLD
from mgmt_ray.training.checkpoint import load_state, save_state
from mgmt_ray.training.dataset import VolumeSet
from mgmt_ray.training.distributed import World
from mgmt_ray.training.loop import Diverged, Epoch, TrainingState, fit, make_task, train_step
from mgmt_ray.training.mask_overlap import count_overlap
from mgmt_ray.training.schedule import is_stable
from mgmt_ray.training.segmentation_task import predict_tumour
from mgmt_ray.training.slice_objective import weight_penalty
from mgmt_ray.training.training_config import (
    AnyTraining,
    ClassificationTraining,
    SegmentationTraining,
)
from tests.worker_processes import run_workers

SEGMENTATION = SegmentationTraining(epochs=4, batch_size=4, learning_rate=2e-3, patience=0)
CLASSIFICATION = ClassificationTraining(epochs=4, batch_size=4, learning_rate=1e-3)
CONFIGS = {"segmentation": SEGMENTATION, "classification": CLASSIFICATION}


def make_network(kind: str) -> Network:
    torch.manual_seed(12)
    return SegmentationNetwork(8, (16, 16)) if kind == "segmentation" else SliceClassifier()


def make_slices(kind: str, number: int, seed: int, side: int = 16) -> VolumeSet:
    """Discs that are brighter than the noise around them; the label is their texture's."""
    random = torch.Generator().manual_seed(seed)
    names = tuple(f"{seed}-{i // 2:03}" for i in range(number))
    labels = torch.tensor([float(i // 2 % 2) for i in range(number)])
    if kind == "classification":
        shift = labels.view(-1, 1, 1, 1)
        noise = torch.randn(number, 3, SIDE, SIDE, generator=random)
        return VolumeSet((noise + shift).half(), labels, names)
    centre = (torch.rand(number, 2, 1, 1, generator=random) * 0.4 + 0.3) * side
    radius = (torch.rand(number, 1, 1, generator=random) * 0.15 + 0.15) * side
    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    masks = (rows - centre[:, 0]) ** 2 + (columns - centre[:, 1]) ** 2 < radius**2
    noise = torch.randn(number, side, side, generator=random)
    return VolumeSet((noise * 0.3 + 2 * masks).half(), masks.to(torch.uint8), names)


def numbers(epoch: Epoch) -> tuple:
    scores = (epoch.number, epoch.train, epoch.validation, epoch.learning_rates)
    return (*scores, epoch.predictions.columns)


def sets(kind: str) -> tuple[VolumeSet, VolumeSet]:
    return make_slices(kind, 10, 1), make_slices(kind, 6, 2)


@pytest.mark.parametrize("kind", CONFIGS)
def test_resumed_from_any_epoch_equals_uninterrupted_to_the_bit(kind: str, tmp_path: Path) -> None:
    config = CONFIGS[kind]
    whole = TrainingState(make_network(kind), config)
    expected = []
    for epoch in fit(whole, *sets(kind), config, 3):
        expected.append(numbers(epoch))
        save_state(whole.state_dict(), tmp_path / f"{epoch.number}.pt")
    assert len(expected) == 4
    for stop in range(1, 5):
        torch.manual_seed(999 + stop)
        resumed = TrainingState(make_network(kind), config)
        resumed.load_state_dict(load_state(tmp_path / f"{stop}.pt"))
        assert [numbers(e) for e in fit(resumed, *sets(kind), config, 3)] == expected[stop:]
        for name, value in whole.network.state_dict().items():
            assert torch.equal(value, resumed.network.state_dict()[name]), name


def test_a_segmentation_finds_outlines_that_are_there() -> None:
    config = SEGMENTATION.model_copy(update={"epochs": 12, "patience": 5})
    state = TrainingState(make_network("segmentation"), config)
    *_, last = fit(
        state, make_slices("segmentation", 64, 1), make_slices("segmentation", 24, 2), config, 3
    )
    assert last.validation.dice > 0.9
    network = state.network.eval()
    validation = make_slices("segmentation", 24, 2)
    tumour = predict_tumour(network, validation.volumes, "fp32").numpy() >= TUMOUR_THRESHOLD
    overlap = count_overlap(tumour, validation.labels.numpy() > 0)
    assert last.predictions.columns == overlap.columns


def test_a_classifier_learns_what_can_be_learnt() -> None:
    config = CLASSIFICATION.model_copy(update={"epochs": 6})
    state = TrainingState(make_network("classification"), config)
    training, validation = (make_slices("classification", 24, seed) for seed in (1, 2))
    *_, last = fit(state, training, validation, config, 3)
    assert last.validation.accuracy > 0.9
    assert last.validation.auc > 0.95


def test_a_classifier_whose_accuracy_stays_the_same_ends_its_training(tmp_path: Path) -> None:
    """At so small a rate nothing changes: two epochs after the first one are enough."""
    config = CLASSIFICATION.model_copy(
        update={"epochs": 9, "learning_rate": 1e-12, "stable_epochs": 2}
    )
    state = TrainingState(make_network("classification"), config)
    # running averages of BatchNorm move without a rate
    state.network.bn1.momentum = state.network.bn2.momentum = 0.0
    assert [e.number for e in fit(state, *sets("classification"), config, 3)] == [1, 2, 3]
    save_state(state.state_dict(), tmp_path / "state.pt")
    resumed = TrainingState(make_network("classification"), config)
    resumed.load_state_dict(load_state(tmp_path / "state.pt"))
    assert list(fit(resumed, *sets("classification"), config, 3)) == []
    endless = config.model_copy(update={"stable_epochs": None, "epochs": 5})
    assert len(list(fit(resumed, *sets("classification"), endless, 3))) == 2


def test_stable_is_the_same_accuracy_after_that_many_further_epochs() -> None:
    config = ClassificationTraining(stable_epochs=2)
    assert not is_stable([0.5, 0.5], config)
    assert is_stable([0.4, 0.5, 0.5, 0.5], config)
    assert not is_stable([0.5, 0.5, 0.5, 0.6], config)
    assert not is_stable([0.5] * 99, SEGMENTATION)


def test_the_rate_of_a_segmentation_is_halved_when_its_validation_loss_stalls() -> None:
    config = SegmentationTraining(epochs=4, batch_size=4, learning_rate=1e-12, patience=0)
    state = TrainingState(make_network("segmentation"), config)
    epochs = fit(state, *sets("segmentation"), config, 3)
    # nothing is learnt at 1e-12, so the second epoch is no better, and the third is slower
    rates = [epoch.learning_rates["network"] for epoch in epochs]
    assert rates == pytest.approx([1e-12, 1e-12, 5e-13, 2.5e-13], rel=1e-9, abs=0)


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_loss_that_is_no_number_ends_the_training(kind: str) -> None:
    training, validation = sets(kind)
    training.volumes[3] = float("nan")
    state = TrainingState(make_network(kind), CONFIGS[kind])
    with pytest.raises(Diverged, match="training loss is nan in epoch 1"):
        next(fit(state, training, validation, CONFIGS[kind], 3))


def test_the_penalty_is_added_once_whatever_the_number_of_rows_and_workers() -> None:
    network = make_network("segmentation").train()
    before = copy.deepcopy(network)
    batch = make_slices("segmentation", 4, 1)
    task = make_task(network, batch, SEGMENTATION)
    noise = task.noise(3, 1)(4)
    still = torch.optim.SGD(network.parameters(), lr=0.0)
    train_step(network, still, batch, task, noise, num_rows=8, num_workers=2)
    loss = make_task(before.train(), batch, SEGMENTATION).loss(before, batch, noise)
    (loss.total / 4 + weight_penalty(before.penalised_kernels())).backward()
    for (name, mine), theirs in zip(network.named_parameters(), before.parameters(), strict=True):
        assert torch.equal(mine.grad, theirs.grad), name


def train_worker(rank: int, place: str, kind: str, network: Network, folder: Path) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=place, rank=rank, world_size=2)
    config: AnyTraining = CONFIGS[kind]
    state = TrainingState(copy.deepcopy(network), config)
    epochs = [e.train.loss for e in fit(state, *sets(kind), config, 3, World(rank, 2))]
    torch.save((epochs, state.network.state_dict()), folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("kind", CONFIGS)
def test_two_workers_agree_with_one(kind: str, tmp_path: Path) -> None:
    """BatchNorm of slices is shared too; sums in another order differ by rounding."""
    config = CONFIGS[kind]
    network = make_network(kind)
    place = f"file://{tmp_path / 'meeting'}"
    run_workers(train_worker, (place, kind, network, tmp_path), 2)
    alone = TrainingState(copy.deepcopy(network), config)
    expected = [e.train.loss for e in fit(alone, *sets(kind), config, 3)]
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=False) for rank in (0, 1))
    assert first[0] == second[0]
    assert first[0] == pytest.approx(expected, rel=2e-3)
    for name, value in first[1].items():
        assert torch.equal(value, second[1][name]), name


@pytest.mark.parametrize("kind", CONFIGS)
def test_half_precision_trains_slices_too(kind: str) -> None:
    full = CONFIGS[kind]
    losses = []
    for config in (full, full.model_copy(update={"precision": "bf16"})):
        state = TrainingState(make_network(kind), config)
        losses.append([e.train.loss for e in fit(state, *sets(kind), config, 3)])
    assert losses[0] != losses[1]
    # bfloat16 has 8 bits of mantissa: an error of .4 % per value; later epochs drift apart
    assert losses[0][0] == pytest.approx(losses[1][0], rel=0.05)
