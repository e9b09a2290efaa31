"""Reading and writing weights and training states."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from mgmt_ray.base import MgmtError, file_checksum, first_line, write_atomically
from mgmt_ray.nets.network import Network

CHECKSUM_BYTES = 64
"""At the end of a training state: the SHA-256 (hexadecimal) of all before."""


class DamagedState(MgmtError):
    """A training state was cut off or changed, so that no training can continue from it."""


def trained_weights(network: Network) -> dict[str, Tensor]:
    """Copy, on the network's device, the parameters and BatchNorm statistics that training changes.

    Frozen ones are the pretrained checkpoint's and are not stored a second time.
    """
    frozen = _frozen_names(network)
    return {
        name: tensor.detach().clone()
        for name, tensor in network.state_dict().items()
        if name not in frozen
    }


def save_weights(weights: dict[str, Tensor], path: Path) -> None:
    """Write weights as a safetensors file, completely or not at all."""
    tensors = {name: tensor.cpu().contiguous() for name, tensor in weights.items()}
    write_atomically(path, lambda aside: aside.write_bytes(save(tensors)))


def load_weights(network: Network, path: Path, partial: bool = False) -> None:
    """Load a trial's weights into a network of the same configuration, in place.

    Args:
        partial: whether the network may train more parameters than the file has.

    Raises:
        MgmtError: the file is unreadable, or its names or shapes are not the network's.

    >>> from tempfile import TemporaryDirectory
    >>> from mgmt_ray.nets.slice_classifier import SliceClassifier
    >>> trained, network = SliceClassifier(), SliceClassifier()
    >>> with TemporaryDirectory() as folder:
    ...     save_weights(trained_weights(trained), Path(folder, "weights.safetensors"))
    ...     load_weights(network, Path(folder, "weights.safetensors"))
    >>> torch.equal(network.conv1.weight, trained.conv1.weight)
    True
    """
    try:
        weights = load_file(path)
    except (SafetensorError, OSError) as error:
        raise MgmtError(
            f"{path}: unreadable weights ({error}). Delete the trial's folder and rerun the study, "
            "which trains the trial again."
        ) from error
    state = network.state_dict()
    expected = state.keys() - _frozen_names(network)
    shapes_fit = all(state[name].shape == weights[name].shape for name in expected & weights.keys())
    names_fit = weights.keys() <= expected if partial else weights.keys() == expected
    if not names_fit or not shapes_fit:
        raise MgmtError(
            f"{path}: these weights belong to another network than the study describes. "
            "Use the study.yaml in the folder of the trials."
        )
    network.load_state_dict(state | weights)


def save_state(state: dict[str, Any], path: Path) -> None:
    """Write a training state and its checksum, completely or not at all."""

    def write(aside: Path) -> None:
        try:
            torch.save(state, aside)
            checksum = file_checksum(aside)
            with aside.open("ab") as file:  # what follows an archive is no part of it
                file.write(checksum.encode())
        except RuntimeError as error:  # what torch raises for a full disk
            raise OSError(first_line(error)) from error

    write_atomically(path, write)


def load_state(path: Path) -> dict[str, Any]:
    """Read a training state into CPU memory; no code in the file is executed.

    Raises:
        DamagedState: the file is not as it was written.
    """
    check_state(path)
    content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return content


def check_state(path: Path) -> None:
    """Raise DamagedState unless a training state is as it was written."""
    digest, remaining = hashlib.sha256(), path.stat().st_size - CHECKSUM_BYTES
    with path.open("rb") as file:
        while remaining > 0 and (chunk := file.read(min(remaining, 1 << 20))):
            digest.update(chunk)
            remaining -= len(chunk)
        if remaining or file.read() != digest.hexdigest().encode():
            raise DamagedState(f"{path}: its checksum is not the one at its end")


def _frozen_names(network: Network) -> set[str]:
    """Return the names of the parameters and buffers that training never changes."""
    was_training = network.training
    network.train()
    frozen = {name for name, p in network.named_parameters() if not p.requires_grad}
    for prefix, module in network.named_modules():
        if not module.training:
            frozen |= {f"{prefix}.{name}" for name, _ in module.named_buffers(recurse=False)}
    network.train(was_training)
    return frozen
