import torch

from mgmt_ray.nets.resnet3d import ResNet3d


def test_feature_map_of_the_papers_volume_has_the_papers_shape() -> None:
    resnet = ResNet3d(10, 1, channels=1, outputs=1).eval()
    with torch.no_grad():
        x = resnet.stem(torch.zeros(1, 1, 70, 86, 86))
        assert x.shape[2:] == (18, 22, 22)
        for block in resnet.blocks:
            x = block(x)
    assert x.shape == (1, 8, 9, 11, 11)
