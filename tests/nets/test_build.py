from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from mgmt_ray.base import MgmtError
from mgmt_ray.nets.build import NetworkConfig, build_volume_network
from mgmt_ray.nets.medicalnet import write_medicalnet
from mgmt_ray.nets.policy import gumbel_noise
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
    network = build_volume_network(NetworkConfig(**settings), 1, 100.0, medicalnet)
    groups = network.parameter_groups()
    assert {name: sum(p.numel() for p in group) for name, group in groups.items()} == trained
    all_trained = sum(p.numel() for p in network.parameters() if p.requires_grad)
    assert all_trained == sum(trained.values())


def test_both_branches_of_spottune_start_from_the_checkpoint(medicalnet: Path) -> None:
    network = build_volume_network(NetworkConfig(kind="spottune"), 1, 100.0, medicalnet)
    source = torch.load(medicalnet, weights_only=True)["state_dict"]
    for stage, index, position in ((1, 0, 0), (3, 5, 12), (4, 2, 15)):
        expected = source[f"module.layer{stage}.{index}.conv2.weight"]
        block = network.blocks[position]
        assert torch.equal(block.frozen.conv2.weight, expected)
        assert torch.equal(block.tuned.conv2.weight, expected)


@pytest.mark.parametrize(
    ("settings", "description"),
    [
        (
            {"kind": "spottune", "agent_depth": 18},
            "pretrained ResNet-50 in 3-D, its blocks tuned or frozen by an agent (ResNet-18) per "
            "subject",
        ),
        ({"kind": "random", "depth": 34}, "ResNet-34 in 3-D, trained from random weights"),
        ({"kind": "transfer"}, "pretrained ResNet-50 in 3-D, trained in its classifier"),
        (
            {"kind": "random", "centred": True},
            "ResNet-50 in 3-D on centred tumours, trained from random weights",
        ),
        (
            {"kind": "transfer", "trainable_blocks": 1},
            "pretrained ResNet-50 in 3-D, trained in its classifier and the last 1 block",
        ),
        (
            {"kind": "transfer", "trainable_blocks": "all"},
            "pretrained ResNet-50 in 3-D, all of it trained",
        ),
    ],
)
def test_a_network_says_what_it_is(settings: dict, description: str) -> None:
    assert NetworkConfig(**settings).description == description


def test_frozen_parts_of_transfer_stay_in_evaluation_mode() -> None:
    network = build_volume_network(NetworkConfig(kind="random", depth=10, width=4), 1, 1.0, None)
    assert network.train().resnet.bn1.training
    from mgmt_ray.nets.single_path import PlainNetwork

    partly = PlainNetwork(ResNet3d(10, 4, 1, 1), trainable_blocks=1).train()
    modes = [block.training for block in partly.resnet.blocks]
    assert modes == [False, False, False, True]
    assert not partly.resnet.bn1.training


def test_pretrained_networks_ask_for_a_checkpoint() -> None:
    with pytest.raises(MgmtError, match="--checkpoint FILE"):
        build_volume_network(NetworkConfig(kind="transfer", depth=10), 1, 1.0, None)


def test_more_trainable_blocks_than_there_are_is_an_error() -> None:
    with pytest.raises(ValidationError, match="trainable_blocks: depth 10 has 4 blocks"):
        NetworkConfig(kind="transfer", depth=10, width=4, trainable_blocks=5)


@pytest.mark.parametrize("channels", [3, 11])
@pytest.mark.parametrize("kind", ["spottune", "transfer"])
def test_equal_channels_give_the_networks_single_channel_output(
    kind: str, channels: int, tmp_path: Path
) -> None:
    write_medicalnet(ResNet3d(10, 4, 1, 1), tmp_path / "net.pth")
    config = NetworkConfig(kind=kind, depth=10, width=4, agent_width=2)
    single, several = (
        build_volume_network(config, number, 1.0, tmp_path / "net.pth").double().eval()
        for number in (1, channels)
    )
    # what starts at random is made the same; the pretrained stems stay as they were built
    weights = single.state_dict()
    same = {k: v for k, v in several.state_dict().items() if v.shape == weights[k].shape}
    if kind == "spottune":
        kernel = several.agent.conv1.weight.detach()
        assert torch.equal(kernel, kernel[:, :1].expand_as(kernel))
        same["agent.conv1.weight"] = kernel.sum(dim=1, keepdim=True)
    single.load_state_dict(weights | same)
    volumes = torch.rand(2, 1, 12, 12, 12, dtype=torch.float64)
    noise = gumbel_noise(2, 4, torch.Generator().manual_seed(0))
    repeated = volumes.expand(-1, channels, -1, -1, -1)
    # float64 sums of equal parts; the weights were divided in float32
    torch.testing.assert_close(
        several(repeated, noise), single(volumes, noise), rtol=1e-5, atol=1e-6
    )
    if kind == "spottune":
        torch.testing.assert_close(
            several.policy_logits(repeated), single.policy_logits(volumes), rtol=1e-5, atol=1e-6
        )


@pytest.mark.parametrize("number", [0, 1, 2, 8, 16])
def test_the_last_blocks_are_trained_and_no_others(number: int, tmp_path: Path) -> None:
    write_medicalnet(ResNet3d(50, 2, 1, 1), tmp_path / "net.pth")
    config = NetworkConfig(kind="transfer", depth=50, width=2, trainable_blocks=number)
    network = build_volume_network(config, 1, 1.0, tmp_path / "net.pth").train()
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    optimizer = torch.optim.Adam(network.parameter_groups()["network"], lr=0.01)
    network(torch.rand(3, 1, 12, 12, 12)).square().sum().backward()
    optimizer.step()
    changed = [not torch.equal(p, before[name]) for name, p in network.named_parameters()]
    trained = set(network.parameter_groups()["network"])
    assert changed == [p in trained for p in network.parameters()]
    blocks = [any(p in trained for p in b.parameters()) for b in network.resnet.blocks]
    assert blocks == [False] * (16 - number) + [True] * number
    assert not network.resnet.conv1.weight.requires_grad


@pytest.mark.parametrize(("depth", "blocks"), [(10, 4), (34, 16), (50, 16), (152, 50), (200, 66)])
def test_every_depth_builds_and_gives_one_logit_per_subject(
    depth: int, blocks: int, tmp_path: Path
) -> None:
    write_medicalnet(ResNet3d(depth, 2, 2, 1), tmp_path / "net.pth")
    config = NetworkConfig(kind="spottune", depth=depth, width=2, agent_width=2)
    network = build_volume_network(config, 2, 1.0, tmp_path / "net.pth")
    assert network.num_routed_blocks == blocks
    noise = gumbel_noise(2, blocks, torch.Generator().manual_seed(0))
    assert network(torch.rand(2, 2, 12, 12, 12), noise).shape == (2,)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "random", "trainable_blocks": 2}, "does not apply to a random network"),
        ({"kind": "random", "covariates": ["age", "age"]}, "listed twice"),
        ({"kind": "random", "covariates": ["idh1"]}, "covariates"),
        ({"kind": "random", "dropout": 1.0}, "dropout"),
        ({"kind": "transfer", "initialisation": "uniform"}, "does not apply to a transfer network"),
        ({"kind": "random", "agent_dropout": 0.5}, "does not apply to a random network"),
        ({"kind": "spottune", "covariates_for": "agent"}, "List covariates"),
    ],
)
def test_an_impossible_network_is_refused(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NetworkConfig(**settings)


def test_a_fully_tuned_transfer_starts_from_the_checkpoint_and_trains_its_stem(
    tmp_path: Path,
) -> None:
    source = ResNet3d(10, 4, 1, 1)
    write_medicalnet(source, tmp_path / "net.pth")
    config = NetworkConfig(kind="transfer", depth=10, width=4, trainable_blocks="all")
    network = build_volume_network(config, 1, 1.0, tmp_path / "net.pth").train()
    assert torch.equal(network.resnet.conv1.weight, source.conv1.weight)
    assert all(p.requires_grad for p in network.parameters())
    assert network.split_frozen() is None and network.resnet.bn1.training


@pytest.mark.parametrize("depth", [152, 200])
def test_medicalnets_deepest_networks_have_their_layers(depth: int) -> None:
    with torch.device("meta"):
        convolutions = [
            name
            for name, module in ResNet3d(depth, 1, 1, 1).named_modules()
            if isinstance(module, torch.nn.Conv3d) and "downsample" not in name
        ]
    assert len(convolutions) + 1 == depth  # the linear layer is counted too


def test_uniform_weights_have_the_normal_ones_standard_deviation_and_an_edge() -> None:
    torch.manual_seed(0)
    kernels = {
        kind: ResNet3d(10, 16, 1, 1, kind).layer4[0].conv2.weight.flatten()
        for kind in ("normal", "uniform")
    }
    std = (2 / (27 * 128)) ** 0.5
    for kernel in kernels.values():  # 442,368 draws: 1 % is some ten standard errors
        assert kernel.std().item() == pytest.approx(std, rel=0.01)
    assert kernels["uniform"].abs().max().item() == pytest.approx(3**0.5 * std, rel=1e-4)
    assert kernels["normal"].abs().max() > 3 * std


@pytest.mark.parametrize("takes", ["agent", "both"])
def test_age_reaches_the_policy_where_the_agent_takes_it(takes: str, tmp_path: Path) -> None:
    write_medicalnet(ResNet3d(10, 4, 1, 1), tmp_path / "net.pth")
    config = NetworkConfig(
        kind="spottune", depth=10, width=4, agent_width=2, covariates=("age",), covariates_for=takes
    )
    network = build_volume_network(config, 1, 1.0, tmp_path / "net.pth").eval()
    assert len(network.covariate_heads) == (2 if takes == "both" else 1)
    assert network.agent_head in network.covariate_heads
    volumes = torch.rand(1, 1, 12, 12, 12).expand(2, -1, -1, -1, -1)
    for head in network.covariate_heads:
        head.fit_scaling(torch.tensor([[50.0], [70.0]]))
    young, old = network.tuned_probability(volumes, torch.tensor([[40.0], [80.0]]))
    assert not torch.allclose(young, old)
    known, unknown = network.tuned_probability(volumes, torch.tensor([[60.0], [float("nan")]]))
    torch.testing.assert_close(known, unknown)  # unknown counts as the mean age
    agent = {id(p) for p in network.parameter_groups()["agent"]}
    assert id(network.agent_head.weight) in agent


@pytest.mark.parametrize("kind", ["spottune", "transfer", "random"])
def test_centred_networks_see_tumours_less_their_mean_and_have_the_same_weights(
    kind: str, tmp_path: Path
) -> None:
    write_medicalnet(ResNet3d(10, 4, 1, 1), tmp_path / "net.pth")
    sizes = {"kind": kind, "depth": 10, "width": 4, "agent_width": 2}
    plain, centred = (
        build_volume_network(
            NetworkConfig(**sizes, centred=flag), 2, 1.0, tmp_path / "net.pth"
        ).eval()
        for flag in (False, True)
    )
    centred.load_state_dict(plain.state_dict())
    tumours = torch.rand(3, 2, 12, 12, 12) * 0.5 + 0.25
    tumours[..., 6:] = 0
    by_hand = tumours.clone()
    for volume in by_hand.flatten(0, 1):
        volume[..., :6] = 5 * (volume[..., :6] - volume[..., :6].mean())
    noise = gumbel_noise(3, 4, torch.Generator().manual_seed(0))
    # float32 sums of 864 voxels in another order
    torch.testing.assert_close(centred(tumours, noise), plain(by_hand, noise), rtol=1e-4, atol=1e-5)
    empty = centred(torch.zeros(1, 2, 12, 12, 12), noise[:1])
    assert empty.isfinite().all()
    if kind == "spottune":
        torch.testing.assert_close(
            centred.policy_logits(tumours), plain.policy_logits(by_hand), rtol=1e-4, atol=1e-5
        )
