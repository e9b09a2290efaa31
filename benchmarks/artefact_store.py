"""Layouts of a volume store: ``python -m benchmarks.artefact_store`` (see README.md)."""

from __future__ import annotations

import importlib.util
import json
import statistics
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from mgmt_ray.base import write_atomically, write_json
from mgmt_ray.preprocess.artefact_store import (
    Artefact,
    ArtefactPart,
    artefact_path,
    write_artefact,
    write_index,
)

KEY = "0123456789ab"


@dataclass(frozen=True)
class Options:
    """Write volumes of a cohort in each layout, and read a training and a validation set.

    Attributes:
        subjects: of the cohort; four fifths are read for training
        versions: of each subject
        shape: of a volume
        rounds: how often everything is timed
        entries: subjects in the index that is parsed and searched
    """

    subjects: int = 60
    versions: int = 5
    shape: tuple[int, int, int] = (70, 86, 86)
    rounds: int = 5
    entries: int = 25_000


class Layout(ABC):
    """One way to keep volumes [version, depth, height, width] of subjects in a folder."""

    def __init__(self, folder: Path, options: Options) -> None:
        self.folder, self.options = folder, options
        self.names = [f"v{i}" for i in range(options.versions)]

    @abstractmethod
    def write(self, subjects: Sequence[np.ndarray]) -> None: ...

    @abstractmethod
    def read(self, numbers: Sequence[int], num_versions: int) -> np.ndarray:
        """Read the first versions of subjects, and compare their checksums."""


class Npy(Layout):
    """A ``.npy`` file and a JSON file with checksums for each subject."""

    def write(self, subjects: Sequence[np.ndarray]) -> None:
        for number, volumes in enumerate(subjects):
            path = self.folder / f"S{number}-{KEY}"

            def save(aside: Path, volumes: np.ndarray = volumes) -> None:
                with aside.open("wb") as file:
                    np.save(file, volumes)

            write_atomically(path.with_suffix(".npy"), save)
            write_json(path.with_suffix(".json"), [sha256(v.data).hexdigest() for v in volumes])

    def read(self, numbers: Sequence[int], num_versions: int) -> np.ndarray:
        out = np.empty((len(numbers), num_versions, *self.options.shape), np.float16)
        for row, number in zip(out, numbers, strict=True):
            path = self.folder / f"S{number}-{KEY}"
            row[:] = np.load(path.with_suffix(".npy"), mmap_mode="r")[:num_versions]
            sums = json.loads(path.with_suffix(".json").read_text())
            assert all(sha256(v.data).hexdigest() == s for v, s in zip(row, sums, strict=False))
        return out


class Safetensors(Layout):
    """The package's store."""

    def write(self, subjects: Sequence[np.ndarray]) -> None:
        entries = {}
        for number, volumes in enumerate(subjects):
            path = artefact_path(self.folder, "T1", f"S{number}", KEY)
            write_artefact(path, Artefact(dict(zip(self.names, volumes, strict=True)), {}))
            entries[f"S{number}"] = {"file": path.name}
        write_index(self.folder, "T1", {}, entries)

    def read(self, numbers: Sequence[int], num_versions: int) -> np.ndarray:
        part = ArtefactPart(self.folder, "T1")
        out = np.empty((len(numbers), num_versions, *self.options.shape), np.float16)
        for row, number in zip(out, numbers, strict=True):
            arrays = part.load(f"S{number}", self.names[:num_versions]).arrays
            for volume, name in zip(row, arrays, strict=True):
                volume[:] = arrays[name]
        return out


class Zarr(Layout):
    """One array with a shard per subject and a chunk with CRC-32C per version; no compression."""

    def write(self, subjects: Sequence[np.ndarray]) -> None:
        import zarr

        shape = (len(subjects), *subjects[0].shape)
        array = zarr.create_array(
            str(self.folder / "T1.zarr"),
            shape=shape,
            dtype="float16",
            shards=(1, *shape[1:]),
            chunks=(1, 1, *shape[2:]),
            compressors=zarr.codecs.Crc32cCodec(),
            overwrite=True,
        )
        for number, volumes in enumerate(subjects):
            array[number] = volumes

    def read(self, numbers: Sequence[int], num_versions: int) -> np.ndarray:
        import zarr

        array = zarr.open_array(str(self.folder / "T1.zarr"), mode="r")
        out = np.empty((len(numbers), num_versions, *self.options.shape), np.float16)
        for row, number in zip(out, numbers, strict=True):
            row[:] = array[number, :num_versions]
        return out


def main(options: Options) -> None:
    """Measure, and print the summary as one line of JSON."""
    random = np.random.default_rng(0)
    shape = (options.versions, *options.shape)
    subjects = [random.random(shape).astype(np.float16) for _ in range(options.subjects)]
    layouts: dict[str, type[Layout]] = {"npy": Npy, "safetensors": Safetensors}
    if importlib.util.find_spec("zarr"):
        layouts["zarr"] = Zarr
    else:
        print("zarr is not installed and left out; pip install 'zarr>=3' to compare it")
    with tempfile.TemporaryDirectory(prefix="mgmt-ray-benchmark-") as scratch:
        seconds, difference = measure(layouts, subjects, Path(scratch), options)
        index = time_index(Path(scratch), options.entries)
    cpu_s = {name: times["read_training_cpu_s"] for name, times in seconds.items()}
    summary = {
        "name": "artefact_store",
        "ratio": round(cpu_s["npy"] / cpu_s["safetensors"], 2),
        "difference": difference,
        "megabytes": round(sum(s.nbytes for s in subjects) / 1e6),
        **seconds,
        **index,
    }
    print(json.dumps(summary))


def measure(
    layouts: dict[str, type[Layout]],
    subjects: Sequence[np.ndarray],
    scratch: Path,
    options: Options,
) -> tuple[dict[str, dict[str, float]], float]:
    """Return median wall and CPU seconds by layout, and the largest difference of a voxel read."""
    num_training = max(1, 4 * len(subjects) // 5)
    training, validation = range(num_training), range(num_training, len(subjects))
    times: dict[str, dict[str, list[float]]] = {name: {} for name in layouts}
    difference = 0.0
    for number in range(options.rounds):
        for name in sorted(layouts, reverse=bool(number % 2)):
            folder = scratch / name
            folder.mkdir(exist_ok=True)
            layout = layouts[name](folder, options)
            found: dict[str, Any] = {}
            actions: dict[str, Callable[[], Any]] = {
                "write": lambda layout=layout: layout.write(subjects),
                "read_training": lambda layout=layout: layout.read(training, options.versions),
                "read_validation": lambda layout=layout: layout.read(validation, 1),
            }
            for action, call in actions.items():
                started, cpu_started = time.perf_counter(), time.process_time()
                found[action] = call()
                wall, cpu = time.perf_counter() - started, time.process_time() - cpu_started
                times[name].setdefault(f"{action}_s", []).append(wall)
                times[name].setdefault(f"{action}_cpu_s", []).append(cpu)
            for row, volumes in zip(found["read_training"], subjects, strict=False):
                difference = max(difference, float(np.abs(row - volumes).max()))
    medians = {
        name: {action: round(statistics.median(values), 6) for action, values in actions.items()}
        for name, actions in times.items()
    }
    return medians, difference


def time_index(scratch: Path, num_entries: int) -> dict[str, float | int]:
    """Return seconds of parsing a large index, of opening it again, and of finding all subjects."""
    entries = {
        f"S{number}": {
            "file": f"S{number}-{KEY}.safetensors",
            "versions": {f"v{i}": [64 * "a", {"clipped_voxels": 0}] for i in range(5)},
        }
        for number in range(num_entries)
    }
    write_index(scratch, "large", {}, entries)
    seconds = []
    for _ in range(2):
        started = time.perf_counter()
        part = ArtefactPart(scratch, "large")
        seconds.append(time.perf_counter() - started)
    started = time.perf_counter()
    part.check_present(entries)
    return {
        "entries": num_entries,
        "first_open_s": round(seconds[0], 3),
        "next_open_s": round(seconds[1], 6),
        "find_all_s": round(time.perf_counter() - started, 6),
    }


if __name__ == "__main__":
    main(tyro.cli(Options))
