import copy

import torch

from mgmt_ray.nets.policy import gumbel_noise
from mgmt_ray.nets.resnet3d import ResNet3d
from mgmt_ray.nets.spottune import SpotTune


def make_spottune(depth: int = 10) -> SpotTune:
    torch.manual_seed(0)
    resnet = ResNet3d(depth, 4, channels=1, outputs=1)
    for block in resnet.blocks:  # statistics that tell the training from the evaluation mode
        for module in block.modules():
            if isinstance(module, torch.nn.BatchNorm3d):
                module.running_mean.uniform_(-0.5, 0.5)
                module.running_var.uniform_(0.5, 2.0)
    agent = ResNet3d(10, 2, channels=1, outputs=2 * len(resnet.blocks))
    return SpotTune(resnet, agent, temperature=1.0)


def test_before_training_every_route_gives_the_pretrained_output() -> None:
    torch.manual_seed(0)
    resnet = ResNet3d(10, 4, channels=1, outputs=1).eval()
    network = SpotTune(copy.deepcopy(resnet), ResNet3d(10, 2, 1, 8), 1.0).eval()
    volumes = torch.rand(3, 1, 16, 18, 18)
    for seed in range(3):
        noise = gumbel_noise(3, 4, torch.Generator().manual_seed(seed))
        # the same sums in the same order, but for one product with 1 and one sum with 0
        torch.testing.assert_close(network(volumes, noise), resnet(volumes).squeeze(1))


def test_training_changes_the_tuned_branch_and_never_the_frozen_one() -> None:
    network = make_spottune().train()
    before = copy.deepcopy(network.state_dict())
    groups = network.parameter_groups()
    optimizer = torch.optim.Adam([*groups["network"], *groups["agent"]], lr=0.01)
    for step in range(3):
        noise = gumbel_noise(4, 4, torch.Generator().manual_seed(step))
        loss = network(torch.rand(4, 1, 16, 18, 18), noise).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    for name, after in network.state_dict().items():
        frozen = ".frozen." in name or name.startswith(("conv1.", "bn1."))
        assert torch.equal(after, before[name]) == frozen, name


def test_the_agents_gradient_comes_from_the_branches_difference() -> None:
    network = make_spottune().train()
    noise = gumbel_noise(4, 4, torch.Generator().manual_seed(0))
    with torch.no_grad():
        for block in network.blocks:
            for p in block.tuned.parameters():
                p.add_(0.1 * torch.randn(p.shape))
    network(torch.rand(4, 1, 16, 18, 18), noise).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.agent.fc.parameters())


def test_the_temperature_changes_the_agents_gradient_and_nothing_of_the_forward_pass() -> None:
    volumes = torch.rand(4, 1, 16, 18, 18, generator=torch.Generator().manual_seed(1))
    noise = gumbel_noise(4, 4, torch.Generator().manual_seed(0))
    logits, gradients = [], []
    for temperature in (1e-4, 1.0, 1e4):
        network = make_spottune().train()
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
