import copy
import itertools
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mgmt_ray.nets.policy import draw_policies, gumbel_noise
from mgmt_ray.nets.resnet3d import ResNet3d
from mgmt_ray.nets.spottune import SpotTune, route_logits

EVERYTHING = 2**40


def make_spottune(depth: int, width: int = 4) -> SpotTune:
    torch.manual_seed(depth)
    resnet = ResNet3d(depth, width, channels=1, outputs=1)
    for module in resnet.modules():
        if isinstance(module, nn.BatchNorm3d):
            module.running_mean.uniform_(-0.5, 0.5)
            module.running_var.uniform_(0.5, 2.0)
    network = SpotTune(resnet, ResNet3d(10, 2, 1, 2 * len(resnet.blocks)), 1.0).eval()
    for block in network.blocks:
        for p in block.tuned.parameters():
            p.data += 0.05 * torch.randn(p.shape)
    return network


def make_volumes(subjects: int) -> Tensor:
    return torch.rand(subjects, 1, 16, 18, 18, generator=torch.Generator().manual_seed(1))


def make_routes(draws: int, subjects: int, num_blocks: int) -> Tensor:
    probability = torch.rand(subjects, num_blocks, generator=torch.Generator().manual_seed(2))
    return draw_policies(probability, draws, "independent", seeds=range(subjects))


def one_by_one(network: SpotTune, volumes: Tensor, routes: Tensor) -> Tensor:
    logits = []
    for route in routes:
        x = network.stem(volumes)
        for index, block in enumerate(network.blocks):
            x = block(x, route[:, index])
        logits.append(network.classify(x))
    return torch.stack(logits)


@torch.no_grad()
@pytest.mark.parametrize("depth", [10, 50])
@pytest.mark.parametrize(("subjects", "draws"), [(3, 12), (1, 20), (4, 1)])
@pytest.mark.parametrize("max_input_bytes", [0, 40_000, EVERYTHING])
def test_the_trie_equals_evaluating_each_draw_by_itself(
    depth: int, subjects: int, draws: int, max_input_bytes: int
) -> None:
    network = make_spottune(depth).double()
    volumes = make_volumes(subjects).double()
    routes = make_routes(draws, subjects, network.num_routed_blocks)
    shared = route_logits(network, volumes, routes, max_input_bytes)
    # float64 sums in another order
    expected = one_by_one(network, volumes, routes)
    torch.testing.assert_close(shared, expected, rtol=1e-12, atol=1e-13)
    assert draws == 1 or shared.std(dim=0).min() > 1e-3  # routes do differ


@torch.no_grad()
def test_in_float32_the_trie_is_as_near_as_its_rounding() -> None:
    network, volumes = make_spottune(50), make_volumes(3)
    routes = make_routes(20, 3, 16)
    shared = torch.sigmoid(route_logits(network, volumes, routes))
    # what the paper's draws are compared with; float32 rounds at 6e-8
    assert (shared - torch.sigmoid(one_by_one(network, volumes, routes))).abs().max() <= 1e-6


@torch.no_grad()
@pytest.mark.parametrize("choice", [0.0, 1.0])
def test_one_route_for_all_is_that_branchs_network(choice: float) -> None:
    network, volumes = make_spottune(10).double(), make_volumes(2).double()
    x = network.stem(volumes)
    for block in network.blocks:
        x = (block.tuned if choice else block.frozen)(x)
    logits = route_logits(network, volumes, torch.full((5, 2, 4), choice))
    assert torch.equal(logits, logits[:1].expand(5, 2))
    torch.testing.assert_close(logits[0], network.classify(x), rtol=1e-12, atol=1e-13)


@torch.no_grad()
def test_draws_with_the_same_route_have_the_same_logit() -> None:
    network, volumes = make_spottune(10), make_volumes(2)
    routes = make_routes(6, 2, 4)
    shuffled = torch.tensor([3, 3, 0, 5, 1, 2, 4, 0])
    once = route_logits(network, volumes, routes)
    assert torch.equal(route_logits(network, volumes, routes[shuffled]), once[shuffled])


@torch.no_grad()
@pytest.mark.parametrize("max_input_bytes", [0, 40_000, EVERYTHING])
def test_each_node_of_the_trie_is_evaluated_once_by_the_branch_it_chose(
    max_input_bytes: int,
) -> None:
    network, volumes = make_spottune(18), make_volumes(3)
    routes = make_routes(25, 3, 8)
    rows: dict[nn.Module, int] = {}

    def count(branch: nn.Module, inputs: tuple[Tensor], _output: Tensor) -> None:
        rows[branch] = rows.get(branch, 0) + len(inputs[0])

    counted = [network.conv1, *(b for block in network.blocks for b in (block.frozen, block.tuned))]
    for module in counted:
        module.register_forward_hook(count)
    route_logits(network, volumes, routes, max_input_bytes)
    assert rows[network.conv1] == 3
    for level, block in enumerate(network.blocks):
        prefixes = {
            (subject, *routes[draw, subject, : level + 1].tolist())
            for draw, subject in itertools.product(range(25), range(3))
        }
        assert rows.get(block.frozen, 0) == sum(prefix[-1] == 0 for prefix in prefixes)
        assert rows.get(block.tuned, 0) == sum(prefix[-1] == 1 for prefix in prefixes)


@torch.no_grad()
@pytest.mark.parametrize("draws", [1, 25])
@pytest.mark.parametrize("max_input_bytes", [0, EVERYTHING])
def test_on_a_gpu_blocks_get_batches_of_few_sizes(draws: int, max_input_bytes: int) -> None:
    network, volumes = make_spottune(18).double(), make_volumes(3).double()
    routes = make_routes(draws, 3, 8)
    as_it_comes = route_logits(network, volumes, routes, max_input_bytes)
    seen: set[int] = set()
    for block in network.blocks:
        for branch in (block.frozen, block.tuned):
            branch.register_forward_hook(lambda _, inputs, __: seen.add(len(inputs[0])))
    found = route_logits(network, volumes, routes, max_input_bytes, batch_sizes=(2, 4, 8))
    torch.testing.assert_close(found, as_it_comes, rtol=1e-12, atol=1e-13)
    assert seen <= {2, 4, 8}
    seen.clear()
    route_logits(network, volumes, routes, EVERYTHING, batch_sizes=())
    assert draws == 1 or len(seen) > 3


class PeakBytes(TorchDispatchMode):
    """The most bytes that tensors made within it held at once."""

    def __init__(self) -> None:
        super().__init__()
        self.held: dict[StorageWeakRef, int] = {}
        self.peak = 0

    def __torch_dispatch__(self, func, types, args: Sequence = (), kwargs: dict | None = None):
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                self.held[StorageWeakRef(storage)] = storage.nbytes()
        self.held = {ref: size for ref, size in self.held.items() if not ref.expired()}
        self.peak = max(self.peak, sum(self.held.values()))
        return result


def peak_bytes(draws: int, max_input_bytes: int) -> int:
    network, volumes = make_spottune(50, width=2), make_volumes(2)
    routes = draw_policies(torch.full((2, 16), 0.5), draws, "independent", seeds=[1, 2])
    with torch.no_grad(), PeakBytes() as measured:
        route_logits(network, volumes, routes, max_input_bytes)
    return measured.peak


def test_memory_is_bounded_however_many_routes_there_are() -> None:
    few, many = peak_bytes(30, 2**16), peak_bytes(240, 2**16)
    assert many < 2 * few  # 8 times as many leaves; a halved level more may wait
    assert many < 12 * 2**16
    assert peak_bytes(240, EVERYTHING) > 3 * many


def test_before_training_every_route_gives_the_pretrained_output() -> None:
    torch.manual_seed(0)
    resnet = ResNet3d(10, 4, channels=1, outputs=1).eval()
    network = SpotTune(copy.deepcopy(resnet), ResNet3d(10, 2, 1, 8), 1.0).eval()
    volumes = torch.rand(3, 1, 16, 18, 18)
    for seed in range(3):
        noise = gumbel_noise(3, 4, torch.Generator().manual_seed(seed))
        # the same sums in the same order, but for one product with 1 and one sum with 0
        torch.testing.assert_close(network(volumes, noise), resnet(volumes).squeeze(1))


def test_the_agents_gradient_comes_from_the_branches_difference() -> None:
    network = make_spottune(10).train()
    noise = gumbel_noise(4, 4, torch.Generator().manual_seed(0))
    network(torch.rand(4, 1, 16, 18, 18), noise).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.agent.fc.parameters())


def test_the_temperature_changes_the_agents_gradient_and_nothing_of_the_forward_pass() -> None:
    volumes = torch.rand(4, 1, 16, 18, 18, generator=torch.Generator().manual_seed(1))
    noise = gumbel_noise(4, 4, torch.Generator().manual_seed(0))
    logits, gradients = [], []
    for temperature in (1e-4, 1.0, 1e4):
        network = make_spottune(10).train()
        with torch.no_grad():
            for block in network.blocks:
                for p in block.tuned.parameters():
                    p.mul_(1.1)
        network.temperature = temperature
        logits.append(network(volumes, noise))
        logits[-1].sum().backward()
        gradients.append(network.agent.fc.weight.grad)
    assert torch.equal(logits[0], logits[1]) and torch.equal(logits[1], logits[2])
    assert gradients[1].norm() > 100 * gradients[2].norm() > 0
