"""Our networks compute what MedicalNet's do, part by part, from files in its format."""

import gzip
import importlib.util
import sys
from argparse import Namespace
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from mgmt_ray.nets.build import NetworkConfig, build_volume_network
from mgmt_ray.nets.medicalnet import CheckpointMismatch, load_medicalnet, write_medicalnet
from mgmt_ray.nets.resnet3d import ResNet3d
from tests.reference.medicalnet import (
    block_names,
    outputs_by_part,
    random_state,
    write_checkpoint,
)


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
    "content", [b"not a pickle", b"hello" * 1000, b"\x80\x02c__builtin__\nprint\n."]
)
def test_a_file_that_is_no_checkpoint_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "net.pth").write_bytes(content)
    with pytest.raises(CheckpointMismatch, match="not a readable weights file"):
        load_medicalnet(make_resnet(1), tmp_path / "net.pth")


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"model_state_dict": state, "epoch": 3},
        lambda state: {"net": {"weights": state}, "optimizer": {"state": {0: torch.ones(1)}}},
        lambda state: {"state_dict": state, "ema": {k: v + 1 for k, v in state.items()}},
        lambda state: {"state_dict": {k: v.double() for k, v in state.items()}},
        *(
            lambda state, p=prefix: {"state_dict": {p + k: v for k, v in state.items()}}
            for prefix in (
                "module.module.",
                "model.",
                "backbone.",
                "_orig_mod.",
                "net.0._orig_mod.",
            )
        ),
    ],
)
def test_a_wrapper_around_fitting_weights_is_taken_off(tmp_path: Path, wrap) -> None:
    source, target = make_resnet(1), make_resnet(2)
    state = {k: v for k, v in source.state_dict().items() if not k.startswith("fc.")}
    torch.save(wrap(state), tmp_path / "net.pth")
    load_medicalnet(target, tmp_path / "net.pth")
    assert all(torch.equal(target.state_dict()[k], v) for k, v in state.items())


def test_a_checkpoint_of_half_precision_is_loaded_rounded(tmp_path: Path) -> None:
    source, target = make_resnet(1), make_resnet(2)
    state = {k: v.bfloat16() for k, v in source.state_dict().items() if not k.startswith("fc.")}
    torch.save({"state_dict": state}, tmp_path / "net.pth")
    load_medicalnet(target, tmp_path / "net.pth")
    assert torch.equal(target.conv1.weight, source.conv1.weight.bfloat16().float())


def test_safetensors_are_loaded(tmp_path: Path) -> None:
    source, target = make_resnet(1), make_resnet(2)
    save_file({f"module.{k}": v for k, v in source.state_dict().items()}, tmp_path / "net.pth")
    load_medicalnet(target, tmp_path / "net.pth")
    assert torch.equal(target.conv1.weight, source.conv1.weight)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("layer1.0.bn1.weight", torch.full((4,), float("nan")), "layer1.0.bn1.weight has values"),
        ("layer1.0.bn1.weight", torch.full((4,), 1e300, dtype=torch.float64), "NaN or infinite"),
        ("layer1.0.bn1.weight", torch.ones(4).to_sparse(), "sparse"),
        ("layer1.0.bn1.weight", torch.ones(4, dtype=torch.int8), "of type torch.int8"),
        ("conv1.weight", [1.0, 2.0], "conv1.weight is of type list"),
        ("conv1.weight", torch.ones(4), r"conv1.weight \(4,\) instead of"),
        ("epoch", 7, "epoch is of type int"),
        ("head.weight", torch.ones(4), "not used: head.weight"),
    ],
)
def test_values_that_are_no_weights_are_named(
    tmp_path: Path, key: str, value: object, message: str
) -> None:
    state = {k: v for k, v in make_resnet(1).state_dict().items() if not k.startswith("fc.")}
    torch.save({"state_dict": state | {key: value}}, tmp_path / "net.pth")
    with pytest.raises(CheckpointMismatch, match=message):
        load_medicalnet(make_resnet(2), tmp_path / "net.pth")


def test_two_networks_in_a_file_are_named(tmp_path: Path) -> None:
    state = make_resnet(1).state_dict()
    prefixed = {f"ema.{key}": value for key, value in state.items()}
    for content, found in (
        ({"student": state, "teacher": state}, r"student, teacher"),
        ({"state_dict": state | prefixed}, "'', 'ema.'"),
        ({"state_dict": prefixed | {"bn1.weight": torch.ones(4)}}, "'ema.'"),
    ):
        torch.save(content, tmp_path / "net.pth")
        with pytest.raises(CheckpointMismatch, match=rf"several networks \({found}\)"):
            load_medicalnet(make_resnet(2), tmp_path / "net.pth")


def write_cut(path: Path, size: int) -> None:
    write_medicalnet(make_resnet(1), path)
    path.write_bytes(path.read_bytes()[:size])


def zeroed(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: torch.zeros_like(value) for name, value in state.items()}


@pytest.mark.parametrize(
    ("write", "found"),
    [
        (lambda path: path.write_bytes(b""), "it is empty"),
        (
            lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\n"),
            "git lfs pull",
        ),
        (lambda path: path.write_text("/annex/objects/SHA256E-s185--1.pth\n"), "git-annex"),
        (lambda path: path.write_text("\n<!DOCTYPE html><html>"), "it is a web page"),
        (lambda path: path.write_bytes(b"PK\3\4" + bytes(90)), "it is cut off"),
        (lambda path: write_cut(path, 5000), "it is cut off"),
        (lambda path: write_cut(path, 600), "it is cut off"),
        (
            lambda path: torch.save({"state_dict": zeroed(make_resnet(1).state_dict())}, path),
            "conv1.weight is 0 everywhere",
        ),
        (lambda path: ZipFile(path, "w").writestr("resnet_50.pth", b"1"), "Unpack it"),
        (lambda path: path.write_bytes(gzip.compress(b"weights")), "Unpack it"),
        (lambda path: path.symlink_to("nowhere.pth"), "the link is broken"),
        (lambda path: path.mkdir(), "cannot be opened"),
        (
            lambda path: torch.save(nn.Linear(1, 1), path),
            r"objects \(torch.nn.modules.linear.Linear",
        ),
        (
            lambda path: torch.save(
                {"args": Namespace()}, path, _use_new_zipfile_serialization=False
            ),
            r"objects \(argparse.Namespace",
        ),
        (lambda path: torch.jit.script(nn.Linear(1, 1)).save(str(path)), "a TorchScript archive"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_what_a_file_really_is_is_said_without_unsafe_advice(tmp_path: Path, write, found) -> None:
    write(tmp_path / "net.pth")
    with pytest.raises(CheckpointMismatch, match=found) as caught:
        load_medicalnet(make_resnet(1), tmp_path / "net.pth")
    assert "weights_only" not in str(caught.value) and "\n" not in str(caught.value)


def test_a_missing_checkpoint_says_how_to_give_one(tmp_path: Path) -> None:
    with pytest.raises(CheckpointMismatch, match="--checkpoint FILE"):
        load_medicalnet(make_resnet(1), tmp_path / "absent.pth")


# the last leaves 9 voxels along an axis in stage 4, whose outer taps are 4 voxels away
SIZES = [(16, 18, 20), (9, 13, 17), (5, 72, 7)]

# float64 sums of up to 14 000 products in another order, through at most 50 layers: about 1e-14
EXACT = {"rtol": 1e-10, "atol": 1e-12}


def volumes(size: tuple[int, int, int], number: int = 2) -> np.ndarray:
    return np.random.default_rng(sum(size)).random((number, 1, *size))


def loaded(depth: int, width: int, path: Path) -> ResNet3d:
    torch.manual_seed(99)
    resnet = ResNet3d(depth, width, channels=1, outputs=1)
    load_medicalnet(resnet, path)
    return resnet.double().eval()


def our_outputs(resnet: ResNet3d, depth: int, values: np.ndarray) -> dict[str, Tensor]:
    with torch.no_grad():
        outputs = {"stem": resnet.stem(torch.from_numpy(values))}
        x = outputs["stem"]
        for name in block_names(depth):
            x = outputs[name] = resnet.get_submodule(name)(x)
    assert len(outputs) == 1 + len(resnet.blocks)
    return outputs


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("depth", [10, 18, 34, 50])
def test_every_part_computes_what_the_plain_network_does(
    depth: int, size: tuple[int, int, int], tmp_path: Path
) -> None:
    state = random_state(depth, width=6, seed=depth)
    resnet = loaded(depth, 6, write_checkpoint(state, tmp_path / "net.pth"))
    expected = outputs_by_part(state, depth, volumes(size))
    for name, ours in our_outputs(resnet, depth, volumes(size)).items():
        assert ours.std() > 0.01, f"{name} is almost constant, so it shows nothing"
        torch.testing.assert_close(
            ours, torch.from_numpy(expected[name]), **EXACT, msg=lambda m, n=name: f"{n}: {m}"
        )


@pytest.mark.parametrize("branch", ["frozen", "tuned"])
def test_every_block_of_both_branches_computes_what_the_checkpoint_says(
    branch: str, tmp_path: Path
) -> None:
    """Each block gets the plain network's input, so that a wrong one is the one that is named."""
    state = random_state(50, width=4, seed=3)
    config = NetworkConfig(kind="spottune", depth=50, width=4, agent_width=2)
    network = build_volume_network(config, 1, 1.0, write_checkpoint(state, tmp_path / "net.pth"))
    network.double().eval()
    values = volumes((10, 13, 12))
    expected = {k: torch.from_numpy(v) for k, v in outputs_by_part(state, 50, values).items()}
    names = block_names(50)
    assert len(network.blocks) == len(names) == 16
    with torch.no_grad():
        torch.testing.assert_close(
            network.stem(torch.from_numpy(values)), expected["stem"], **EXACT
        )
        for before, name, block in zip(["stem", *names], names, network.blocks, strict=False):
            ours = getattr(block, branch)(expected[before])
            torch.testing.assert_close(
                ours, expected[name], **EXACT, msg=lambda m, n=name: f"{branch} {n}: {m}"
            )
        whole = torch.from_numpy(values)
        for route in ("frozen", "tuned"):
            choice = torch.full((2,), float(route == "tuned"), dtype=torch.float64)
            x = network.stem(whole)
            for block in network.blocks:
                x = block(x, choice)
            torch.testing.assert_close(x, expected[names[-1]], **EXACT)


@pytest.mark.parametrize("trainable_blocks", [0, 2])
def test_transfer_computes_what_the_checkpoint_says(trainable_blocks: int, tmp_path: Path) -> None:
    state = random_state(50, width=4, seed=4)
    config = NetworkConfig(kind="transfer", depth=50, width=4, trainable_blocks=trainable_blocks)
    network = build_volume_network(config, 1, 1.0, write_checkpoint(state, tmp_path / "net.pth"))
    network.double().eval()
    values = volumes((10, 13, 12))
    features = outputs_by_part(state, 50, values)["layer4.2"].mean(axis=(2, 3, 4))
    with torch.no_grad():
        expected = torch.from_numpy(features) @ network.resnet.fc.weight.T + network.resnet.fc.bias
        torch.testing.assert_close(network(torch.from_numpy(values)), expected.squeeze(1), **EXACT)


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
