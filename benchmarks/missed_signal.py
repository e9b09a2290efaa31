"""What networks make of a signal that two numbers show: ``python -m benchmarks.missed_signal``."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import tyro
from scipy import ndimage

from mgmt_ray.base import stream
from mgmt_ray.baselines.first_order import first_order_features, fit_first_order
from mgmt_ray.cohort.subject import Subject
from mgmt_ray.nets.build import NetworkConfig, build_volume_network
from mgmt_ray.preprocess.recipe import RecipeConfig, versions
from mgmt_ray.preprocess.volumes import make_versions
from mgmt_ray.selection.epoch_choice import EpochScore, choose_epoch
from mgmt_ray.synthetic.random_fields import smoothed_noise
from mgmt_ray.synthetic.scan_writer import write_scan
from mgmt_ray.training.dataset import volume_set
from mgmt_ray.training.loop import TrainingState, fit, training_rows
from mgmt_ray.training.metrics import auc, unit_weights
from mgmt_ray.training.pretrain import SourceTaskConfig, write_source_task_checkpoint
from mgmt_ray.training.training_config import TrainingConfig

GRID = (44, 52, 52)
WAVELENGTHS_MM = (3.0, 10.0)
"""Of the grating in the tumours: unmethylated, methylated."""


@dataclass(frozen=True)
class Variation:
    """A recipe, a network and a training; the defaults are those of the demo.

    Attributes:
        kind: of network.
        shrink: voxels of the scan per voxel of the volume.
        frame: sides of the cube around the tumour that is cut out; 0 takes the whole volume.
        zoom: voxels of the volume are repeated this often along each axis.
        scaling: "unit" is the papers'; "z" is mean 0 and deviation 1 of the tumour's voxels.
        centred: as of the network.
        width: channels of the stem.
        learning_rate: of the network.
        epochs: of the training.
        augmented: train on the augmented versions too.
        subjects: that train.
        largest_mm: half axes of the tumours are between a half of it and all of it.
    """

    kind: Literal["random", "transfer", "spottune"] = "random"
    shrink: int = 2
    frame: int = 0
    zoom: int = 1
    scaling: Literal["unit", "z"] = "unit"
    centred: bool = False
    width: int = 8
    learning_rate: float = 5e-3
    epochs: int = 10
    augmented: bool = True
    subjects: int = 120
    largest_mm: float = 6.5


VARIATIONS: dict[str, Variation] = {
    "demo": Variation(),
    "centred": Variation(centred=True),
    "frame, zoom": Variation(frame=12, zoom=2),
    "frame, zoom, centred": Variation(frame=12, zoom=2, centred=True),
    "z": Variation(scaling="z"),
    "transfer": Variation("transfer"),
    "transfer, centred": Variation("transfer", centred=True),
    "rate 1e-3": Variation(learning_rate=1e-3),
    "large tumours": Variation(largest_mm=13.0),
    "spottune": Variation("spottune"),
    "spottune, centred": Variation("spottune", centred=True),
    "full resolution, frame": Variation(shrink=1, frame=24),
    "subjects 300": Variation(subjects=300),
    "epochs 30": Variation(epochs=30),
    "width 16": Variation(width=16),
    "frame": Variation(frame=12),
    "originals, epochs 50": Variation(augmented=False, epochs=50),
}


@dataclass(frozen=True)
class Options:
    """Compare networks with logistic regression on first-order features.

    Attributes:
        variations: names; all if none are given
        seeds: trainings of each variation; a seed has weights and draws of its own
        validation: subjects that the epoch is chosen with
        test: subjects that the AUC is of
        source_steps: of the task whose weights transfer and SpotTune start from
        subjects: that train, instead of each variation's own
        epochs: of the trainings, instead of each variation's own
    """

    variations: tuple[str, ...] = tuple(VARIATIONS)
    seeds: int = 1
    validation: int = 60
    test: int = 160
    source_steps: int = 200
    subjects: int = 0
    epochs: int = 0


def main(options: Options) -> None:
    torch.set_num_threads(1)
    found: dict[str, dict[str, object]] = {}
    chosen = {name: resolve(VARIATIONS[name], options) for name in options.variations}
    with tempfile.TemporaryDirectory(prefix="mgmt-ray-benchmark-") as scratch:
        folder = Path(scratch)
        for name, variation in chosen.items():
            training = write_subjects(variation.subjects, "training", variation, folder)
            number = options.validation + options.test
            held_out = write_subjects(number, "held-out", variation, folder)
            started = time.process_time()
            found[name] = compare(variation, training, held_out, options, folder)
            found[name]["cpu_s"] = round(time.process_time() - started)
            print(name, found[name], flush=True)
    print(json.dumps({"name": "missed_signal", "variations": found}))


def resolve(variation: Variation, options: Options) -> Variation:
    return replace(
        variation,
        subjects=options.subjects or variation.subjects,
        epochs=options.epochs or variation.epochs,
    )


def write_subjects(number: int, purpose: str, variation: Variation, folder: Path) -> list[Subject]:
    """Write scans of tumours with a grating, whose wavelength depends on the label."""
    subjects = []
    for i in range(number):
        name = f"{purpose}-{i}-{variation.largest_mm:g}"
        paths = folder / f"{name}.nii.gz", folder / f"{name}-mask.nii.gz"
        if not paths[1].exists():
            random = stream(0, "missed signal", purpose, i)
            scan, mask = draw_tumour(WAVELENGTHS_MM[i % 2], variation.largest_mm, random)
            write_scan(scan, paths[0])
            write_scan(mask, paths[1])
        subjects.append(Subject(name, i % 2, {"PH": paths[0]}, paths[1]))
    return subjects


def draw_tumour(
    wavelength_mm: float, largest_mm: float, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return a scan and the mask of an ellipsoid, with a grating along any axis in the scan."""
    centre = [n / 2 + random.uniform(-0.1, 0.1) * n for n in GRID]
    offset = np.indices(GRID) - np.array(centre).reshape(3, 1, 1, 1)
    half_axes = random.uniform(largest_mm / 2, largest_mm, size=(3, 1, 1, 1))
    mask = ((offset / half_axes) ** 2).sum(axis=0) < 1
    direction = random.standard_normal(3)
    phase = np.tensordot(direction / np.linalg.norm(direction), offset, axes=1) / wavelength_mm
    grating = np.sqrt(2) * np.sin(2 * np.pi * (phase + random.uniform()))
    plain = smoothed_noise(GRID, 3.0, random) + random.standard_normal(GRID)
    values = 340 * random.normal(1, 0.1) + 60 * grating + 25 * plain
    return np.rint(np.clip(values, 1, None)).astype(np.float32), mask.astype(np.uint8)


def compare(
    variation: Variation,
    training: Sequence[Subject],
    held_out: Sequence[Subject],
    options: Options,
    folder: Path,
) -> dict[str, object]:
    """Return the AUCs of regression and network on the same prepared volumes."""
    volumes = {
        "training": prepare(training, variation, augmented=variation.augmented),
        "held-out": prepare(held_out, variation, augmented=False),
    }
    labels = {
        name: [s.label for s in part]
        for name, part in (("training", training), ("held-out", held_out))
    }
    originals = {name: part[:, 0] for name, part in volumes.items()}
    features = {
        name: np.array([first_order_features(v) for v in part]) for name, part in originals.items()
    }
    model = fit_first_order(features["training"], np.array(labels["training"]))
    expected = area(model.predict(features["held-out"]), labels["held-out"], options.validation)
    trained = [
        train(variation, volumes, labels, seed, options, folder) for seed in range(options.seeds)
    ]
    return {
        "first_order": round(expected, 3),
        "auc": [round(test, 3) for test, _ in trained],
        "training_auc": [round(train, 3) for _, train in trained],
        "median_voxels": int(np.median([(v != 0).sum() for v in originals["training"]])),
    }


def prepare(subjects: Sequence[Subject], variation: Variation, *, augmented: bool) -> np.ndarray:
    """Return volumes [subject, version, depth, height, width]."""
    side = tuple(n // variation.shrink for n in (40, 48, 48))
    recipe = RecipeConfig(
        window=((2, 42), (2, 50), (2, 50)),
        shrink=variation.shrink,
        shape=(side[0], side[1], side[2]),
        deform_sigma_voxels=2.0 / variation.shrink,
        noise_std=0.02,
        allow_clipping=True,
    )
    names = versions(recipe) if augmented else ("original",)
    return np.stack(
        [
            np.stack([change(v, variation) for v in make_versions(s, "PH", recipe, names)[0]])
            for s in subjects
        ]
    )


def change(volume: np.ndarray, variation: Variation) -> np.ndarray:
    """Cut out, zoom and scale a prepared volume."""
    if variation.frame:
        (box,) = ndimage.find_objects((volume != 0).astype(np.int8))
        centre = [(b.start + b.stop) // 2 for b in box]
        side = variation.frame
        padded = np.pad(volume, side)
        volume = padded[
            tuple(slice(c + side - side // 2, c + 2 * side - side // 2) for c in centre)
        ]
    volume = volume.repeat(variation.zoom, 0).repeat(variation.zoom, 1).repeat(variation.zoom, 2)
    if variation.scaling == "unit":
        return volume
    inside = volume != 0
    voxels = volume[inside].astype(np.float32)
    scaled = np.zeros(volume.shape, np.float16)
    scaled[inside] = (voxels - voxels.mean()) / max(float(voxels.std()), 1e-6)
    return scaled


def area(probability: Sequence[float] | np.ndarray, labels: Sequence[int], skip: int) -> float:
    """Return the AUC of the subjects after the first ``skip``."""
    chosen = np.array(labels)[skip:]
    return float(auc(chosen, np.array(probability)[skip:], unit_weights(len(chosen)))[0])


def train(
    variation: Variation,
    volumes: dict[str, np.ndarray],
    labels: dict[str, list[int]],
    seed: int,
    options: Options,
    folder: Path,
) -> tuple[float, float]:
    """Return AUC of the test subjects and of the training rows in the chosen epoch."""
    config = TrainingConfig(
        epochs=variation.epochs,
        batch_size=12,
        learning_rate=variation.learning_rate,
        agent_learning_rate=1e-3,
        temperature=1.0,
        validation_draws=4,
    )
    sets = {
        name: volume_set([part], labels[name], [f"{name}-{i}" for i in range(len(part))], "cpu")
        for name, part in volumes.items()
    }
    torch.manual_seed(seed)
    checkpoint = folder / f"{variation.width}.pth"
    if variation.kind != "random" and not checkpoint.exists():
        source = SourceTaskConfig(width=variation.width, steps=options.source_steps)
        write_source_task_checkpoint(source, checkpoint)
    sizes = {"depth": 10, "width": variation.width, "centred": variation.centred}
    agent = {"agent_depth": 10, "agent_width": 4} if variation.kind == "spottune" else {}
    network_config = NetworkConfig.model_validate({"kind": variation.kind, **sizes, **agent})
    network = build_volume_network(
        network_config, 1, 1.0, None if variation.kind == "random" else checkpoint
    )
    rows = sets["training"].select(training_rows(sets["training"].labels.numpy(), config, seed))
    history, tests, trains = [], [], []
    for epoch in fit(TrainingState(network, config), rows, sets["held-out"], config, seed):
        probability = np.array(epoch.predictions.columns["probability"])
        truth = np.array(labels["held-out"])
        called = probability[: options.validation] >= 0.5
        real = truth[: options.validation] == 1
        history.append(EpochScore(epoch.number, called[real].mean(), (~called[~real]).mean()))
        tests.append(area(probability, labels["held-out"], options.validation))
        trains.append(epoch.train.auc)
    kept = choose_epoch(history).epoch - 1
    return tests[kept], trains[kept]


if __name__ == "__main__":
    main(tyro.cli(Options))
