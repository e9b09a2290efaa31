from pathlib import Path

import pytest
import torch

from mgmt_ray.base import MgmtError
from mgmt_ray.nets.build import NetworkConfig, build
from mgmt_ray.nets.medicalnet import write_medicalnet
from mgmt_ray.nets.resnet3d import ResNet3d


@pytest.fixture(scope="module")
def medicalnet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "resnet_50.pth"
    write_medicalnet(ResNet3d(50, 64, 1, 1), path)
    return path


@pytest.mark.parametrize(
    ("settings", "trained"),
    [
        ({"kind": "spottune"}, {"network": 46_135_041, "agent": 14_371_936}),
        ({"kind": "random"}, {"network": 46_135_041 + 64 * 343 + 128}),
        ({"kind": "transfer"}, {"network": 2049}),
        # two bottlenecks of 2048→512→512→2048 without projection, and the classifier
        (
            {"kind": "transfer", "trainable_blocks": 2},
            {"network": 2 * (2 * 2048 * 512 + 27 * 512**2 + 2 * (512 + 512 + 2048)) + 2049},
        ),
    ],
)
def test_the_papers_networks_train_the_papers_number_of_parameters(
    medicalnet: Path, settings: dict, trained: dict[str, int]
) -> None:
    network = build(NetworkConfig(**settings), 1, 100.0, medicalnet)
    groups = network.parameter_groups()
    assert {name: sum(p.numel() for p in group) for name, group in groups.items()} == trained
    all_trained = sum(p.numel() for p in network.parameters() if p.requires_grad)
    assert all_trained == sum(trained.values())


def test_both_branches_of_spottune_start_from_the_checkpoint(medicalnet: Path) -> None:
    network = build(NetworkConfig(kind="spottune"), 1, 100.0, medicalnet)
    source = torch.load(medicalnet, weights_only=True)["state_dict"]
    for stage, index, position in ((1, 0, 0), (3, 5, 12), (4, 2, 15)):
        expected = source[f"module.layer{stage}.{index}.conv2.weight"]
        block = network.blocks[position]
        assert torch.equal(block.frozen.conv2.weight, expected)
        assert torch.equal(block.tuned.conv2.weight, expected)


def test_frozen_parts_of_transfer_stay_in_evaluation_mode() -> None:
    network = build(NetworkConfig(kind="random", depth=10, width=4), 1, 1.0, None)
    assert network.train().resnet.bn1.training
    from mgmt_ray.nets.plain import PlainNetwork

    partly = PlainNetwork(ResNet3d(10, 4, 1, 1), trainable_blocks=1).train()
    modes = [block.training for block in partly.resnet.blocks]
    assert modes == [False, False, False, True]
    assert not partly.resnet.bn1.training


def test_pretrained_networks_ask_for_a_checkpoint() -> None:
    with pytest.raises(MgmtError, match="--checkpoint FILE"):
        build(NetworkConfig(kind="transfer", depth=10), 1, 1.0, None)


def test_more_trainable_blocks_than_there_are_is_an_error(tmp_path: Path) -> None:
    write_medicalnet(ResNet3d(10, 4, 1, 1), tmp_path / "net.pth")
    config = NetworkConfig(kind="transfer", depth=10, width=4, trainable_blocks=5)
    with pytest.raises(MgmtError, match="has 4 blocks"):
        build(config, 1, 1.0, tmp_path / "net.pth")
