"""Whether bfloat16 learns as well as float32: ``python -m benchmarks.precision``."""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro

from mgmt_ray.base import stream
from mgmt_ray.cohort.texture import smoothed_noise
from mgmt_ray.nets.build import NetworkConfig, build
from mgmt_ray.training.config import Precision, TrainingConfig
from mgmt_ray.training.dataset import VolumeSet, volume_set
from mgmt_ray.training.loop import TrainingState, fit
from mgmt_ray.training.pretrain import SourceTaskConfig, write_source_task_checkpoint

SHAPE = (20, 24, 24)
COARSE, FINE = 2.5, 1.0
"""Grain of the lesions' texture in voxels: methylated and unmethylated."""

NETWORK = NetworkConfig(kind="spottune", depth=10, width=8, agent_depth=10, agent_width=4)
PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16")


@dataclass(frozen=True)
class Options:
    """Train the demo's SpotTune on synthetic volumes in both precisions.

    Attributes:
        seeds: trainings in each precision; a seed has data and draws of its own
        subjects: that train, and as many that validate
        epochs: of each training
        signal: strength of the texture that tells the label, beside noise of strength 1
        device: as torch names it
    """

    seeds: int = 5
    subjects: int = 60
    epochs: int = 12
    signal: float = 2.0
    device: str = "cpu"


def main(options: Options) -> None:
    torch.set_num_threads(1)
    auc: dict[Precision, list[float]] = {p: [] for p in PRECISIONS}
    seconds: dict[Precision, list[float]] = {p: [] for p in PRECISIONS}
    with tempfile.TemporaryDirectory(prefix="mgmt-ray-benchmark-") as scratch:
        checkpoint = Path(scratch) / "source.pth"
        write_source_task_checkpoint(SourceTaskConfig(shape=SHAPE), checkpoint)
        for seed in range(options.seeds):
            sets = lesion_set(options, seed, "training"), lesion_set(options, seed, "validation")
            for precision in PRECISIONS:
                started = time.perf_counter()
                auc[precision].append(trained_auc(sets, precision, seed, checkpoint, options))
                seconds[precision].append(time.perf_counter() - started)
            print(seed, {p: round(values[-1], 3) for p, values in auc.items()}, flush=True)
    print(json.dumps(summary(options, auc, seconds)))


def lesion_set(options: Options, seed: int, part: str) -> VolumeSet:
    """Lesions whose texture is coarse or fine by their label, with noise of any grain on top."""
    random = stream(seed, part)
    grid = np.stack(np.meshgrid(*(np.arange(n) - (n - 1) / 2 for n in SHAPE), indexing="ij"))
    labels = [i % 2 for i in range(options.subjects)]
    volumes = []
    for label in labels:
        inside = np.linalg.norm(grid - random.uniform(-2, 2, (3, 1, 1, 1)), axis=0) < 8
        told = smoothed_noise(SHAPE, COARSE if label else FINE, random)
        other = smoothed_noise(SHAPE, random.uniform(FINE, COARSE), random)
        volumes.append(np.where(inside, 0.5 + 0.1 * (options.signal * told + other), 0).clip(0, 1))
    names = [f"{part}-{i}" for i in range(len(labels))]
    return volume_set([np.stack(volumes)[:, None]], labels, names, options.device)


def trained_auc(
    sets: tuple[VolumeSet, VolumeSet],
    precision: Precision,
    seed: int,
    checkpoint: Path,
    options: Options,
) -> float:
    """Validation AUC after the last epoch."""
    config = TrainingConfig(
        epochs=options.epochs,
        batch_size=6,
        learning_rate=3e-3,
        agent_learning_rate=1e-3,
        temperature=1.0,
        precision=precision,
    )
    torch.manual_seed(seed)
    network = build(NETWORK, 1, config.temperature, checkpoint).to(options.device)
    *_, last = fit(TrainingState(network, config), *sets, config, seed)
    return last.validation.auc


def summary(
    options: Options,
    auc: dict[Precision, list[float]],
    seconds: dict[Precision, list[float]],
) -> dict[str, object]:
    mean = {p: statistics.mean(values) for p, values in auc.items()}
    gaps = [half - full for full, half in zip(*auc.values(), strict=True)]
    return {
        "name": "precision",
        "ratio": round(statistics.median(f / h for f, h in zip(*seconds.values(), strict=True)), 2),
        "difference": round(mean["bf16"] - mean["fp32"], 4),
        "standard_error": round(statistics.stdev(gaps) / len(gaps) ** 0.5, 4),
        "mean_auc": {p: round(value, 4) for p, value in mean.items()},
        "deviation": {p: round(statistics.stdev(values), 4) for p, values in auc.items()},
        "auc": {p: [round(v, 4) for v in values] for p, values in auc.items()},
        "epochs": options.epochs,
        "subjects": options.subjects,
        "device": options.device,
    }


if __name__ == "__main__":
    main(tyro.cli(Options))
