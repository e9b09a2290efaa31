"""Our networks compute what MedicalNet's do, part by part, from files in its format."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from mgmt_ray.nets.build import NetworkConfig, build_volume_network
from mgmt_ray.nets.medicalnet import load_medicalnet
from mgmt_ray.nets.resnet3d import ResNet3d
from tests.reference.medicalnet import (
    block_names,
    outputs_by_part,
    random_state,
    write_checkpoint,
)

# the last leaves 9 voxels along an axis in stage 4, whose outer taps are 4 voxels away
SIZES = [(16, 18, 20), (9, 13, 17), (5, 72, 7)]

# float64 sums of up to 14 000 products in another order, through at most 50 layers: about 1e-14
EXACT = {"rtol": 1e-10, "atol": 1e-12}


def volumes(size: tuple[int, int, int], number: int = 2) -> np.ndarray:
    return np.random.default_rng(sum(size)).random((number, 1, *size))


def loaded(depth: int, width: int, path: Path) -> ResNet3d:
    torch.manual_seed(99)
    resnet = ResNet3d(depth, width, channels=1, outputs=1)
    load_medicalnet(resnet, path)
    return resnet.double().eval()


def our_outputs(resnet: ResNet3d, depth: int, values: np.ndarray) -> dict[str, Tensor]:
    with torch.no_grad():
        outputs = {"stem": resnet.stem(torch.from_numpy(values))}
        x = outputs["stem"]
        for name in block_names(depth):
            x = outputs[name] = resnet.get_submodule(name)(x)
    assert len(outputs) == 1 + len(resnet.blocks)
    return outputs


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("depth", [10, 18, 34, 50])
def test_every_part_computes_what_the_plain_network_does(
    depth: int, size: tuple[int, int, int], tmp_path: Path
) -> None:
    state = random_state(depth, width=6, seed=depth)
    resnet = loaded(depth, 6, write_checkpoint(state, tmp_path / "net.pth"))
    expected = outputs_by_part(state, depth, volumes(size))
    for name, ours in our_outputs(resnet, depth, volumes(size)).items():
        assert ours.std() > 0.01, f"{name} is almost constant, so it shows nothing"
        torch.testing.assert_close(
            ours, torch.from_numpy(expected[name]), **EXACT, msg=lambda m, n=name: f"{n}: {m}"
        )


@pytest.mark.parametrize("branch", ["frozen", "tuned"])
def test_every_block_of_both_branches_computes_what_the_checkpoint_says(
    branch: str, tmp_path: Path
) -> None:
    """Each block gets the plain network's input, so that a wrong one is the one that is named."""
    state = random_state(50, width=4, seed=3)
    config = NetworkConfig(kind="spottune", depth=50, width=4, agent_width=2)
    network = build_volume_network(config, 1, 1.0, write_checkpoint(state, tmp_path / "net.pth"))
    network.double().eval()
    values = volumes((10, 13, 12))
    expected = {k: torch.from_numpy(v) for k, v in outputs_by_part(state, 50, values).items()}
    names = block_names(50)
    assert len(network.blocks) == len(names) == 16
    with torch.no_grad():
        torch.testing.assert_close(
            network.stem(torch.from_numpy(values)), expected["stem"], **EXACT
        )
        for before, name, block in zip(["stem", *names], names, network.blocks, strict=False):
            ours = getattr(block, branch)(expected[before])
            torch.testing.assert_close(
                ours, expected[name], **EXACT, msg=lambda m, n=name: f"{branch} {n}: {m}"
            )
        whole = torch.from_numpy(values)
        for route in ("frozen", "tuned"):
            choice = torch.full((2,), float(route == "tuned"), dtype=torch.float64)
            x = network.stem(whole)
            for block in network.blocks:
                x = block(x, choice)
            torch.testing.assert_close(x, expected[names[-1]], **EXACT)


@pytest.mark.parametrize("trainable_blocks", [0, 2])
def test_transfer_computes_what_the_checkpoint_says(trainable_blocks: int, tmp_path: Path) -> None:
    state = random_state(50, width=4, seed=4)
    config = NetworkConfig(kind="transfer", depth=50, width=4, trainable_blocks=trainable_blocks)
    network = build_volume_network(config, 1, 1.0, write_checkpoint(state, tmp_path / "net.pth"))
    network.double().eval()
    values = volumes((10, 13, 12))
    features = outputs_by_part(state, 50, values)["layer4.2"].mean(axis=(2, 3, 4))
    with torch.no_grad():
        expected = torch.from_numpy(features) @ network.resnet.fc.weight.T + network.resnet.fc.bias
        torch.testing.assert_close(network(torch.from_numpy(values)), expected.squeeze(1), **EXACT)
