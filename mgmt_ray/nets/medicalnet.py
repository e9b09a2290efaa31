"""Reading MedicalNet checkpoints strictly, and writing them for the synthetic cohort.

The public files are ``.pth`` pickles with a ``state_dict`` whose keys begin with ``module.``. Other
prefixes and wrappers, and safetensors, are read as well, if all keys fit but for them.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile, is_zipfile

import torch
from jaxtyping import Float
from safetensors.torch import load_file
from torch import Tensor, nn

from mgmt_ray.base import MgmtError, first_line, placeholder_fault, write_atomically
from mgmt_ray.nets.resnet3d import ResNet3d

STATE_DICT = "state_dict"
STEM = "conv1.weight"
ANCHOR = "layer1.0.conv1.weight"
"""In every network; what stands before it in a checkpoint's key is the name of a wrapper."""

IGNORED_PREFIXES = ("conv_seg.", "fc.")
"""Keys of a checkpoint that are not used: its segmentation head or its classifier."""

COMPILED = re.compile(r"\b_orig_mod\.")
"""What torch.compile adds to the names below a module."""

FOREIGN_CLASS = re.compile(r"GLOBAL (\S+)")
"""Torch's name for a class or function that a pickle asks for and that is no tensor."""

COPY_AGAIN = "Copy it again from MedicalNet's release."
SAVE_WEIGHTS = "Where it was made, save the weights alone: {'state_dict': network.state_dict()}."


class CheckpointMismatch(MgmtError):
    """A checkpoint does not fit the network that is to start from it."""


def load_medicalnet(resnet: ResNet3d, path: Path) -> None:
    """Load everything but the classifier of a network from a MedicalNet checkpoint.

    A stem of several channels gets the single-channel kernel repeated and divided by their number
    (weight inflation, Zhang et al. 2022), so that equal channels give the single channel's output.

    Raises:
        CheckpointMismatch: the file is not such a checkpoint, a key is missing, unused, or of
            another shape (the message names up to three of each), or a value is not a tensor of
            finite numbers.

    >>> from tempfile import TemporaryDirectory
    >>> source, target = (ResNet3d(10, width=2, channels=n, outputs=1) for n in (1, 4))
    >>> with TemporaryDirectory() as folder:
    ...     write_medicalnet(source, Path(folder, "weights.pth"))
    ...     load_medicalnet(target, Path(folder, "weights.pth"))
    >>> torch.equal(target.conv1.weight[:, :1], source.conv1.weight / 4)
    True
    """
    expected = {k: v for k, v in resnet.state_dict().items() if not k.startswith(IGNORED_PREFIXES)}
    pretrained = _read(path)
    _check_values(path, pretrained, expected)
    kernel = pretrained.get(STEM)
    if kernel is not None and kernel.ndim == 5 and kernel.shape[1] == 1:
        pretrained[STEM] = _inflated(kernel, expected[STEM].shape[1])
    # Checkpoints older than PyTorch 0.4.1 have no batch counters; nothing computes with them here.
    counters = {k for k in expected if k.endswith("num_batches_tracked")}
    missing = sorted(expected.keys() - pretrained.keys() - counters)
    unused = sorted(pretrained.keys() - expected.keys())
    reshaped = sorted(
        f"{k} {tuple(pretrained[k].shape)} instead of {tuple(expected[k].shape)}"
        for k in expected.keys() & pretrained.keys()
        if expected[k].shape != pretrained[k].shape
    )
    if missing or unused or reshaped:
        raise CheckpointMismatch(
            f"{path}: does not fit the network. Missing: {_shorten(missing)}; not used: "
            f"{_shorten(unused)}; of another shape: {_shorten(reshaped)}. "
            "Set depth and width of the study's networks to those of the checkpoint."
        )
    resnet.load_state_dict(resnet.state_dict() | pretrained)


def inflate_stem(resnet: ResNet3d, channels: int) -> None:
    """Inflate the stem of a single-channel network, as :func:`load_medicalnet` does.

    SpotTune's agent starts so: equal channels get the policies that one of them alone would get.
    """
    stem = resnet.conv1
    stem.weight = nn.Parameter(_inflated(stem.weight.detach(), channels))
    stem.in_channels = channels


def write_medicalnet(resnet: ResNet3d, path: Path) -> None:
    """Write a network without its classifier as a checkpoint in MedicalNet's format."""
    state = {
        f"module.{key}": value.detach().cpu().clone()
        for key, value in resnet.state_dict().items()
        if not key.startswith(IGNORED_PREFIXES)
    }
    write_atomically(path, lambda aside: torch.save({"state_dict": state}, aside))


def _inflated(
    kernel: Float[Tensor, "out 1 depth height width"], channels: int
) -> Float[Tensor, "out channels depth height width"]:
    """Repeat a stem's kernel over channels and divide it by their number."""
    return kernel.repeat(1, channels, 1, 1, 1) / channels


def _check_values(path: Path, state: Mapping[str, Any], expected: Mapping[str, Tensor]) -> None:
    for key, value in state.items():
        if fault := _value_fault(value, expected.get(key)):
            raise CheckpointMismatch(f"{path}: {key} {fault}. {SAVE_WEIGHTS}")


def _value_fault(value: object, expected: Tensor | None) -> str:
    """Say why a value is no tensor of finite numbers in the network's type; empty if it is one."""
    if not isinstance(value, Tensor):
        return f"is of type {type(value).__name__}, not a tensor"
    if value.layout != torch.strided or value.is_quantized or value.is_meta:
        return "is a sparse, quantized or meta tensor, not one of plain numbers"
    of_type = expected.dtype if expected is not None else value.dtype
    if value.is_complex() or (of_type.is_floating_point and not value.is_floating_point()):
        return f"has numbers of type {value.dtype}, not floating point"
    if not value.to(of_type).isfinite().all():
        return "has values that are NaN or infinite"
    if value.dim() > 2 and not value.any():  # a kernel
        return "is 0 everywhere, as no training leaves it"
    return ""


def _read(path: Path) -> dict[str, Any]:
    """Return the values of a checkpoint by their names in the network, without its head."""
    content = _read_content(path)
    states = dict(_find_states(content))
    if not states:
        raise CheckpointMismatch(
            f"{path}: holds no `state_dict` with {ANCHOR}, so it is not a MedicalNet checkpoint. "
            "Give the .pth file of MedicalNet's release."
        )
    if STATE_DICT in states:
        states = {STATE_DICT: states[STATE_DICT]}
    wrapped = next(iter(states.values()))
    names = {key: COMPILED.sub("", key) for key in wrapped}
    prefixes = [name.removesuffix(ANCHOR) for name in names.values() if _is_anchor(name)]
    state = {names[key].removeprefix(prefixes[0]): value for key, value in wrapped.items()}
    if len(states) > 1 or len(prefixes) > 1 or len(state) < len(wrapped):
        found = ", ".join(states if len(states) > 1 else map(repr, prefixes))
        raise CheckpointMismatch(
            f"{path}: holds several networks ({found}). Save one of them alone, as "
            "{'state_dict': weights}."
        )
    return {key: value for key, value in state.items() if not key.startswith(IGNORED_PREFIXES)}


def _find_states(content: object, name: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each dictionary of weights, in dictionaries to any depth, after its dotted name."""
    if not isinstance(content, dict):
        return
    if any(_is_anchor(key) for key in content):
        yield name, {str(key): value for key, value in content.items()}
        return
    for key, value in content.items():
        yield from _find_states(value, f"{name}.{key}" if name else str(key))


def _is_anchor(key: object) -> bool:
    return isinstance(key, str) and f".{COMPILED.sub('', key)}".endswith(f".{ANCHOR}")


def _read_content(path: Path) -> object:
    """Return what a file of weights holds; no code in it is executed."""
    if not path.exists():
        found = "the link is broken" if path.is_symlink() else "no such file"
        raise CheckpointMismatch(
            f"{path}: {found}. Give MedicalNet's .pth file with --checkpoint FILE."
        )
    try:
        with path.open("rb") as file:
            head = file.read(1024)
    except OSError as error:
        raise CheckpointMismatch(
            f"{path}: is not a readable weights file: it cannot be opened "
            f"({error.strerror or first_line(error)}). Check its path and permissions."
        ) from error
    try:
        if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < path.stat().st_size:
            return load_file(path)  # safetensors: the length of a JSON header, and the header
        with warnings.catch_warnings(action="ignore"):  # of torch, before it refuses TorchScript
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # an unpickler may raise anything on bytes that are no pickle
        found, remedy = _describe_fault(path, head, error)
        raise CheckpointMismatch(
            f"{path}: is not a readable weights file: {found}. {remedy}"
        ) from error


def _describe_fault(path: Path, head: bytes, error: Exception) -> tuple[str, str]:
    """Return what a file is that cannot be read, and a remedy; torch's own advice is unsafe."""
    if not head:
        return "it is empty", COPY_AGAIN
    if fault := placeholder_fault(head):
        return f"it is {fault[0]}", f"{fault[1]}."
    if found := FOREIGN_CLASS.search(str(error)):
        return f"it holds Python objects ({found[1]}), which could run any code", SAVE_WEIGHTS
    if "TorchScript" in str(error):
        return "it is a TorchScript archive", SAVE_WEIGHTS
    if head.startswith(b"PK") and not is_zipfile(path):
        return "it is cut off", COPY_AGAIN
    if _is_archive(path, head):
        return "it is an archive, or compressed", "Unpack it, and give the .pth file in it."
    return "it is damaged, or of another format", COPY_AGAIN


def _is_archive(path: Path, head: bytes) -> bool:
    """Whether a file is compressed, a tar, or a zip archive other than torch's own."""
    if head.startswith(b"PK"):
        try:
            with ZipFile(path) as archive:
                return not any(name.endswith("data.pkl") for name in archive.namelist())
        except BadZipFile:
            return False
    return head.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ")) or head[257:262] == b"ustar"


def _shorten(keys: list[str]) -> str:
    """Name the first three keys and the number of others."""
    more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
    return ", ".join(keys[:3]) + more if keys else "none"
