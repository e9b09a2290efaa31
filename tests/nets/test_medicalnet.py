from pathlib import Path

import pytest
import torch

from mgmt_ray.nets.medicalnet import CheckpointMismatch, load_medicalnet, write_medicalnet
from mgmt_ray.nets.resnet3d import ResNet3d


def make_resnet(seed: int, depth: int = 50) -> ResNet3d:
    torch.manual_seed(seed)
    return ResNet3d(depth, 4, channels=1, outputs=1)


def write_as_medicalnet_does(resnet: ResNet3d, path: Path, **changes: torch.Tensor | None) -> None:
    """The public file: an old-style pickle with the segmentation head and without the counters."""
    state = {f"module.{k}": v for k, v in resnet.state_dict().items() if not k.startswith("fc.")}
    state = {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}
    state["module.conv_seg.0.weight"] = torch.zeros(3)
    for key, value in changes.items():
        name = "module." + key.replace("__", ".")
        state.pop(name, None)
        if value is not None:
            state[name] = value
    content = {"epoch": 24, "state_dict": state}
    torch.save(content, path, _use_new_zipfile_serialization=False)


def test_every_weight_of_all_blocks_is_loaded(tmp_path: Path) -> None:
    source, target = make_resnet(1), make_resnet(2)
    for module in source.modules():
        if isinstance(module, torch.nn.BatchNorm3d):
            module.running_mean.uniform_()
    write_as_medicalnet_does(source, tmp_path / "net.pth")
    classifier = target.fc.weight.clone()
    load_medicalnet(target, tmp_path / "net.pth")
    for name, value in target.state_dict().items():
        if not name.startswith("fc."):
            assert torch.equal(value, source.state_dict()[name]), name
    assert torch.equal(target.fc.weight, classifier)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layer3__4__conv2__weight": None}, "Missing: layer3.4.conv2.weight;"),
        ({"layer9__0__conv1__weight": torch.zeros(1)}, "not used: layer9.0.conv1.weight;"),
        ({"bn1__weight": torch.zeros(9)}, r"bn1.weight \(9,\) instead of \(4,\)"),
    ],
)
def test_a_key_that_does_not_fit_is_named(
    tmp_path: Path, changes: dict[str, torch.Tensor | None], message: str
) -> None:
    write_as_medicalnet_does(make_resnet(1), tmp_path / "net.pth", **changes)
    with pytest.raises(CheckpointMismatch, match=message):
        load_medicalnet(make_resnet(2), tmp_path / "net.pth")


def test_a_checkpoint_of_another_depth_is_refused_and_nothing_is_loaded(tmp_path: Path) -> None:
    write_medicalnet(make_resnet(1, depth=34), tmp_path / "net.pth")
    target = make_resnet(2)
    before = target.conv1.weight.clone()
    with pytest.raises(CheckpointMismatch, match="Set depth and width"):
        load_medicalnet(target, tmp_path / "net.pth")
    assert torch.equal(target.conv1.weight, before)


@pytest.mark.parametrize(
    "content", [b"", b"not a pickle", b"hello" * 1000, b"\x80\x02c__builtin__\nprint\n."]
)
def test_a_file_that_is_no_checkpoint_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "net.pth").write_bytes(content)
    with pytest.raises(CheckpointMismatch, match="not a readable weights file"):
        load_medicalnet(make_resnet(1), tmp_path / "net.pth")


def test_a_missing_checkpoint_says_how_to_give_one(tmp_path: Path) -> None:
    with pytest.raises(CheckpointMismatch, match="--checkpoint FILE"):
        load_medicalnet(make_resnet(1), tmp_path / "absent.pth")
