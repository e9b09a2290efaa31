"""Reading MedicalNet checkpoints strictly, and writing them for the synthetic cohort.

The public files are ``.pth`` pickles with a ``state_dict`` whose keys begin with ``module.``.
"""

from __future__ import annotations

from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mgmt_ray.base import MgmtError, first_line, write_atomically
from mgmt_ray.nets.resnet3d import ResNet3d

IGNORED_PREFIXES = ("conv_seg.", "fc.")
"""Keys of a checkpoint that are not used: its segmentation head or its classifier."""


class CheckpointMismatch(MgmtError):
    """A checkpoint does not fit the network that is to start from it."""


def load_medicalnet(resnet: ResNet3d, path: Path) -> None:
    """Load everything but the classifier of a network from a MedicalNet checkpoint.

    A stem of several channels gets the single-channel kernel repeated and divided by their number
    (weight inflation, Zhang et al. 2022), so that equal channels give the single channel's output.

    Raises:
        CheckpointMismatch: the file is not such a checkpoint, or a key is missing, unused, or of
            another shape; the message names up to three of each.

    >>> from tempfile import TemporaryDirectory
    >>> source, target = (ResNet3d(10, width=2, channels=n, outputs=1) for n in (1, 4))
    >>> with TemporaryDirectory() as folder:
    ...     write_medicalnet(source, Path(folder, "weights.pth"))
    ...     load_medicalnet(target, Path(folder, "weights.pth"))
    >>> torch.equal(target.conv1.weight[:, :1], source.conv1.weight / 4)
    True
    """
    pretrained = _read(path)
    expected = {k: v for k, v in resnet.state_dict().items() if not k.startswith(IGNORED_PREFIXES)}
    kernel = pretrained.get("conv1.weight")
    if kernel is not None and kernel.shape[1] == 1:
        pretrained["conv1.weight"] = _inflated(kernel, expected["conv1.weight"].shape[1])
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


def _read(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise CheckpointMismatch(
            f"{path}: there is no such file. Give MedicalNet's .pth file with --checkpoint FILE."
        )
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # an unpickler may raise anything on bytes that are no pickle
        raise CheckpointMismatch(
            f"{path}: is not a readable weights file ({first_line(error)}). "
            "Copy it again from MedicalNet's release."
        ) from error
    if not isinstance(content, dict) or not isinstance(content.get("state_dict"), dict):
        raise CheckpointMismatch(
            f"{path}: holds no `state_dict`, so it is not a MedicalNet checkpoint. "
            "Give the .pth file of MedicalNet's release."
        )
    state = {key.removeprefix("module."): value for key, value in content["state_dict"].items()}
    return {key: value for key, value in state.items() if not key.startswith(IGNORED_PREFIXES)}


def _shorten(keys: list[str]) -> str:
    """Name the first three keys and the number of others."""
    more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
    return ", ".join(keys[:3]) + more if keys else "none"
