"""Weights and training states on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from mgmt_ray.base import MgmtError, first_line, write_atomically
from mgmt_ray.nets.build import AnyNetwork


def trained_weights(network: AnyNetwork) -> dict[str, Tensor]:
    """Copies, on the network's device, of what training changes: parameters and BatchNorm's.

    What stays frozen is the pretrained checkpoint's and is not kept a second time.
    """
    frozen = _frozen_names(network)
    return {
        name: tensor.detach().clone()
        for name, tensor in network.state_dict().items()
        if name not in frozen
    }


def save_weights(weights: dict[str, Tensor], path: Path) -> None:
    """Write weights as safetensors, completely or not at all."""
    tensors = {name: tensor.cpu().contiguous() for name, tensor in weights.items()}
    write_atomically(path, lambda aside: aside.write_bytes(save(tensors)))


def load_weights(network: AnyNetwork, path: Path, partial: bool = False) -> None:
    """Put a trial's weights into a network built as the trial's was.

    Args:
        network: changed in place.
        path: of the weights.
        partial: whether the network may train more than the trial did.

    Raises:
        MgmtError: the file is unreadable, or its names or shapes are not the network's.
    """
    try:
        weights = load_file(path)
    except (SafetensorError, OSError) as error:
        raise MgmtError(
            f"{path}: unreadable weights ({error}). Delete the trial's folder and run the study "
            "again: it trains that trial anew."
        ) from error
    own = network.state_dict()
    wanted = own.keys() - _frozen_names(network)
    shapes_fit = all(own[name].shape == weights[name].shape for name in wanted & weights.keys())
    names_fit = weights.keys() <= wanted if partial else weights.keys() == wanted
    if not names_fit or not shapes_fit:
        raise MgmtError(
            f"{path}: these weights are of another network than the study describes. "
            "Use the study.yaml that stands beside the trials."
        )
    network.load_state_dict(own | weights)


def save_state(state: dict[str, Any], path: Path) -> None:
    """Write a training state, completely or not at all."""

    def write(aside: Path) -> None:
        try:
            torch.save(state, aside)
        except RuntimeError as error:  # torch's word for a full disk
            raise OSError(first_line(error)) from error

    write_atomically(path, write)


def load_state(path: Path) -> dict[str, Any]:
    """Read a training state; tensors go to CPU memory, and no code in the file is run."""
    content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return content


def _frozen_names(network: AnyNetwork) -> set[str]:
    """Names of the parameters and buffers that training never changes."""
    was_training = network.training
    network.train()
    frozen = {name for name, p in network.named_parameters() if not p.requires_grad}
    for prefix, module in network.named_modules():
        if not module.training:
            frozen |= {f"{prefix}.{name}" for name, _ in module.named_buffers(recurse=False)}
    network.train(was_training)
    return frozen
