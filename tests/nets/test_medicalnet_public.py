"""The public MedicalNet code itself, where a checkout of it is given with --medicalnet DIR."""

import importlib.util
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from mgmt_ray.nets.medicalnet import load_medicalnet
from mgmt_ray.nets.resnet3d import ResNet3d
from tests.reference.medicalnet import block_names, outputs_by_part

SHORTCUT_TYPES = {10: "B", 18: "A", 34: "A", 50: "B"}
"""As MedicalNet's README says of its published weights."""


@pytest.fixture(scope="module")
def public(request: pytest.FixtureRequest):
    """The module ``models/resnet.py`` of the checkout."""
    folder = request.config.getoption("--medicalnet")
    if folder is None:
        pytest.skip("no checkout of MedicalNet given (--medicalnet DIR)")
    path = Path(folder) / "models" / "resnet.py"
    assert path.is_file(), f"{path}: not there, so {folder} is no checkout of MedicalNet"
    spec = importlib.util.spec_from_file_location("public_medicalnet", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.filterwarnings("ignore:`nn.init.kaiming_normal`")
@pytest.mark.parametrize("size", [(17, 19, 21), (32, 24, 18)])
@pytest.mark.parametrize("depth", [10, 18, 34, 50])
def test_the_public_code_computes_the_same_before_its_segmentation_head(
    depth: int, size: tuple[int, int, int], public, tmp_path: Path
) -> None:
    torch.manual_seed(depth)
    sizes = {f"sample_input_{axis}": n for axis, n in zip("DHW", size, strict=True)}
    theirs = getattr(public, f"resnet{depth}")(
        **sizes, num_seg_classes=2, shortcut_type=SHORTCUT_TYPES[depth], no_cuda=True
    )
    for module in theirs.modules():
        if isinstance(module, nn.BatchNorm3d):
            for tensor in (module.weight.data, module.running_var):
                tensor.uniform_(0.5, 1.5)
            for tensor in (module.bias.data, module.running_mean):
                tensor.normal_(0, 0.2)
    content = {"state_dict": nn.DataParallel(theirs).state_dict()}
    path = tmp_path / "net.pth"
    torch.save(content, path, _use_new_zipfile_serialization=False)
    ours = ResNet3d(depth, 64, channels=1, outputs=1)
    load_medicalnet(ours, path)

    volumes = torch.rand(2, 1, *size, dtype=torch.float64)
    state = {k: v.numpy() for k, v in theirs.state_dict().items()}
    plain = outputs_by_part(state, depth, volumes.numpy())
    theirs.double().eval()
    ours.double().eval()
    outputs = {}
    for name in block_names(depth):
        theirs.get_submodule(name).register_forward_hook(
            lambda module, inputs, output, name=name: outputs.update({name: output})
        )
    with torch.no_grad():
        theirs(volumes)
        x = ours.stem(volumes)
        for name in block_names(depth):
            x = ours.get_submodule(name)(x)
            for values in (x, torch.from_numpy(plain[name])):
                # float64 sums in another order
                torch.testing.assert_close(values, outputs[name], rtol=1e-10, atol=1e-12)
