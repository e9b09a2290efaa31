from pathlib import Path

import pytest
import torch

from mgmt_ray.nets.build import NetworkConfig, build_volume_network
from mgmt_ray.nets.medicalnet import write_medicalnet
from mgmt_ray.nets.network import VolumeNetwork
from mgmt_ray.nets.resnet3d import ResNet3d
from mgmt_ray.training.dataset import VolumeSet, volume_set


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(11)
    path = tmp_path_factory.mktemp("weights") / "resnet_10.pth"
    write_medicalnet(ResNet3d(10, 4, 1, 1), path)
    return path


@pytest.fixture
def make_network(weights: Path):
    def make(kind: str, **settings: int) -> VolumeNetwork:
        torch.manual_seed(12)
        config = NetworkConfig(kind=kind, depth=10, width=4, agent_width=2, **settings)
        return build_volume_network(config, 1, 1.0, weights)

    return make


@pytest.fixture
def make_data():
    """Volumes of noise whose mean tells the label."""

    def make(number: int, seed: int, versions: int = 1) -> VolumeSet:
        random = torch.Generator().manual_seed(seed)
        labels = [i % 2 for i in range(number)]
        noise = torch.rand(number, versions, 12, 12, 12, generator=random) * 0.5
        shift = torch.tensor(labels).view(-1, 1, 1, 1, 1) * 0.4
        return volume_set(
            [(noise + shift).numpy()], labels, [f"{seed}-{i:03}" for i in range(number)], "cpu"
        )

    return make
