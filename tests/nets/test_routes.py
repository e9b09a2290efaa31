import pytest
import torch

from mgmt_ray.nets.policy import draw_routes
from mgmt_ray.nets.resnet3d import ResNet3d
from mgmt_ray.nets.routes import route_logits
from mgmt_ray.nets.spottune import SpotTune


@pytest.mark.parametrize("depth", [10, 50])
def test_the_trie_equals_evaluating_each_draw_by_itself(depth: int) -> None:
    torch.manual_seed(0)
    resnet = ResNet3d(depth, 4, channels=1, outputs=1)
    num_blocks = len(resnet.blocks)
    network = SpotTune(resnet, ResNet3d(10, 2, 1, 2 * num_blocks), 1.0).double().eval()
    with torch.no_grad():
        for block in network.blocks:
            for p in block.tuned.parameters():
                p.add_(0.05 * torch.randn(p.shape, dtype=p.dtype))
    volumes = torch.rand(3, 1, 16, 18, 18, dtype=torch.float64)
    probability = torch.rand(3, num_blocks)
    routes = draw_routes(probability, 12, "independent", seeds=[1, 2, 3])
    with torch.no_grad():
        shared = route_logits(network, volumes, routes, rows_at_once=5)
        for draw in range(12):
            x = network.stem(volumes)
            for index, block in enumerate(network.blocks):
                x = block(x, routes[draw, :, index].double())
            # float64 sums in another order
            torch.testing.assert_close(shared[draw], network.classify(x), rtol=1e-10, atol=1e-12)
