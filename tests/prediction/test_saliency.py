from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from mgmt_ray.nets.build import NetworkConfig, build_volume_network
from mgmt_ray.nets.medicalnet import write_medicalnet
from mgmt_ray.nets.network import VolumeNetwork
from mgmt_ray.nets.resnet3d import ResNet3d
from mgmt_ray.nets.single_path import PlainNetwork
from mgmt_ray.prediction.saliency import (
    FixedRoute,
    grad_cam,
    occlusion,
    saliency_map,
)

KINDS = ("spottune", "random", "transfer")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(11)
    path = tmp_path_factory.mktemp("weights") / "resnet_10.pth"
    write_medicalnet(ResNet3d(10, 4, 1, 1), path)
    return path


def make(kind: str, weights: Path, channels: int = 1) -> VolumeNetwork:
    torch.manual_seed(12)
    network = build_volume_network(
        NetworkConfig(kind=kind, depth=10, width=4, agent_width=2), channels, 1.0, weights
    )
    with torch.no_grad():  # both branches of a block differ, as after training
        for p in network.parameters():
            if p.requires_grad:
                p.add_(0.1 * torch.randn(p.shape))
    return network.eval()


def tumour(channels: int = 1) -> torch.Tensor:
    volume = torch.zeros(1, channels, 16, 18, 20)
    volume[:, :, 3:13, 5:12, 6:14] = torch.rand(1, channels, 10, 7, 8) * 0.9 + 0.1
    return volume


@pytest.mark.parametrize("kind", KINDS)
def test_cells_of_grad_cam_add_up_to_the_logit_less_the_bias(kind: str, weights: Path) -> None:
    network, volume = make(kind, weights), tumour()
    scores = FixedRoute(network, volume)
    with torch.no_grad():
        logit = scores(volume)[0, 1]
    cells = grad_cam(network, volume)
    assert cells.shape[2] < volume.shape[2]
    # float32 sums of a few dozen cells and channels
    assert cells.sum().item() == pytest.approx((logit - scores.fc.bias).item(), abs=1e-5)
    assert cells.abs().max() > 0


@pytest.mark.parametrize("kind", KINDS)
def test_the_score_is_the_networks_logit(kind: str, weights: Path) -> None:
    network, volume = make(kind, weights), tumour()
    with torch.no_grad():
        scores = FixedRoute(network, volume)(volume)
        assert scores[0, 0] == -scores[0, 1]
        if isinstance(network, PlainNetwork):
            assert scores[0, 1] == network(volume)[0]
            return
        policy = (network.tuned_probability(volume) > 0.5).float()
        assert 0 < policy.sum() < policy.numel()  # else a wrong branch would not be seen
        x = network.stem(volume)
        for index, block in enumerate(network.blocks):
            x = block(x, policy[:, index])
        # the branch that is not chosen is added with weight 0
        assert scores[0, 1].item() == pytest.approx(network.classify(x)[0].item(), abs=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_occlusion_is_the_logit_that_each_cube_is_worth(kind: str, weights: Path) -> None:
    network, volume = make(kind, weights), tumour()
    loss = occlusion(network, volume)
    assert (loss[volume[0, 0] == 0] == 0).all()
    scores = FixedRoute(network, volume)
    # the longest side, 10, in 6 parts: cubes of 2, from the box's first corner on
    for z, y, x in ((3, 5, 6), (7, 7, 10), (11, 11, 12)):
        cube = (slice(z, z + 2), slice(y, y + 2), slice(x, x + 2))
        occluded = volume.clone()
        occluded[(0, 0, *cube)] = 0
        with torch.no_grad():
            expected = (scores(volume) - scores(occluded))[0, 1].item()
        inside = loss[cube][volume[(0, 0, *cube)] > 0]
        # another batch size may round differently
        assert inside.tolist() == pytest.approx([expected] * len(inside), abs=1e-5)
    assert loss.abs().max() > 0


def test_all_channels_are_occluded(weights: Path) -> None:
    network, volume = make("random", weights, channels=2), tumour(channels=2)
    volume[0, 0, 3:13, 5:12, 6:8] = 0  # only the second channel has a value here
    loss = occlusion(network, volume)
    occluded = volume.clone()
    occluded[0, :, 3:5, 5:7, 6:8] = 0
    with torch.no_grad():
        expected = (network(volume) - network(occluded)).item()
    assert loss[3, 5, 6].item() == pytest.approx(expected, abs=1e-5)  # batch size


@pytest.mark.parametrize("method", ["occlusion", "grad-cam"])
def test_a_map_has_the_volumes_shape_and_changes_nothing(method: str, weights: Path) -> None:
    network, volume = make("spottune", weights), tumour()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    saliency = saliency_map(network, volume.half(), method)
    assert saliency.shape == (16, 18, 20) and saliency.dtype == np.float32
    after = network.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    again = saliency_map(network, volume.half(), method)
    np.testing.assert_array_equal(saliency, again)
