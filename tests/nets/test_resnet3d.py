import torch
from torch import nn

from mgmt_ray.nets.resnet3d import STAGE_DILATIONS, ResNet3d


def num_parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_resnet50_has_the_papers_size_without_its_stem() -> None:
    resnet = ResNet3d(50, 64, channels=1, outputs=1)
    assert num_parameters(nn.ModuleList(resnet.blocks)) + num_parameters(resnet.fc) == 46_135_041


def test_resnet10_agent_has_the_papers_size() -> None:
    assert num_parameters(ResNet3d(10, 64, channels=1, outputs=32)) == 14_371_936


def test_every_block_of_a_stage_is_dilated() -> None:
    resnet = ResNet3d(50, 4, channels=1, outputs=1)
    for stage, dilation in enumerate(STAGE_DILATIONS, start=1):
        for block in resnet.get_submodule(f"layer{stage}").children():
            assert block.conv2.dilation == (dilation,) * 3


def test_feature_map_of_the_papers_volume_has_the_papers_shape() -> None:
    resnet = ResNet3d(10, 1, channels=1, outputs=1).eval()
    with torch.no_grad():
        x = resnet.stem(torch.zeros(1, 1, 70, 86, 86))
        assert x.shape[2:] == (18, 22, 22)
        for block in resnet.blocks:
            x = block(x)
    assert x.shape == (1, 8, 9, 11, 11)


def test_the_shortcut_is_normalised() -> None:
    block = ResNet3d(50, 4, channels=1, outputs=1).blocks[0].eval()
    x = torch.rand(1, 4, 4, 4, 4)
    before = block(x)
    block.downsample[1].running_mean += 1.0
    assert not torch.equal(block(x), before)
