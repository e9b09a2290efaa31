"""Reading and writing weights and training states."""

from __future__ import annotations

import hashlib
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from mgmt_ray.base import MgmtError, first_line, write_atomically
from mgmt_ray.nets.network import Network

CHECKSUM_BYTES = 64
"""At the end of a training state: the SHA-256 (hexadecimal) of all before."""


class DamagedState(MgmtError):
    """A training state was cut off or changed, so that no training can continue from it."""


def trained_weights(network: Network) -> dict[str, Tensor]:
    """Copy, on the network's device, the parameters and BatchNorm statistics that training changes.

    Frozen ones are the pretrained checkpoint's and are not stored a second time.
    """
    return {name: tensor.clone() for name, tensor in trained_tensors(network).items()}


def trained_tensors(network: Network) -> dict[str, Tensor]:
    """Return what :func:`trained_weights` copies: the network's own memory."""
    frozen = _frozen_names(network)
    return {name: t.detach() for name, t in network.state_dict().items() if name not in frozen}


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
            with aside.open("wb") as file:
                hashing = _HashingFile(file)
                torch.save(state, hashing)  # type: ignore[arg-type]
                # what follows an archive is no part of it
                file.write(hashing.digest.hexdigest().encode())
        except RuntimeError as error:  # what torch raises for a full disk
            raise OSError(first_line(error)) from error

    write_atomically(path, write)


class _HashingFile:
    """A file that is hashed while it is written, and so need not be read again."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.digest = hashlib.sha256()

    def write(self, content: bytes | memoryview) -> int:
        self.digest.update(content)
        return self.file.write(content)

    def flush(self) -> None:
        self.file.flush()


class StateWriter:
    """Writes training states in a thread beside the training, one after the other.

    Leaving the context waits for the last file.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     with StateWriter() as writer:
    ...         writer.save({"epoch": 1}, Path(folder, "state.pt"))
    ...     load_state(Path(folder, "state.pt"))
    {'epoch': 1}
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1)
        self._pending: Future[None] | None = None

    def save(self, state: dict[str, Any], path: Path) -> None:
        """Copy a state into CPU memory and start to write it (see :func:`save_state`).

        Waits until the file before is written, and raises the error of writing that.
        """
        self._wait()
        self._pending = self._thread.submit(save_state, _copy_to_cpu(state, {}), path)

    def _wait(self) -> None:
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def __enter__(self) -> StateWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._thread.shutdown()
        if error is None:  # else that one matters more
            self._wait()


def _copy_to_cpu(value: Any, copies: dict[int, Tensor]) -> Any:
    """Copy nested containers and tensors, a tensor that occurs twice once.

    Args:
        copies: of the tensors so far, by the identity of what was copied.
    """
    match value:
        case Tensor():
            if id(value) not in copies:
                copies[id(value)] = value.detach().to("cpu", copy=True)
            return copies[id(value)]
        case dict():
            return {key: _copy_to_cpu(entry, copies) for key, entry in value.items()}
        case list() | tuple():
            return type(value)(_copy_to_cpu(entry, copies) for entry in value)
        case _:
            return value


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
