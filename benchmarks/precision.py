"""AUC after training in bfloat16 and in float32: ``python -m benchmarks.precision``."""

from __future__ import annotations

import json
import statistics
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
import tyro
from scipy import stats

from benchmarks.device import Timing, in_turns, wall_ratio
from benchmarks.volumes import Shape, textured_volumes
from mgmt_ray.nets.build import NetworkConfig, build_volume_network
from mgmt_ray.training.dataset import VolumeSet
from mgmt_ray.training.loop import TrainingState, fit
from mgmt_ray.training.pretrain import SourceTaskConfig, write_source_task_checkpoint
from mgmt_ray.training.training_config import Precision, TrainingConfig

NETWORK = NetworkConfig(kind="spottune", depth=10, width=8, agent_depth=10, agent_width=4)
PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16")


@dataclass(frozen=True)
class Options:
    """Train the demo's SpotTune on synthetic volumes in both precisions.

    Attributes:
        seeds: trainings in each precision, 2 at least; a seed has data and draws of its own
        subjects: that train, and as many that validate
        epochs: of each training
        signal: amplitude of the label's texture, in standard deviations of the common texture
        source_steps: of the task whose weights all networks start from
        shape: depth, height, width of a volume
        device: as torch names it
    """

    seeds: int = 5
    subjects: int = 60
    epochs: int = 12
    signal: float = 2.0
    source_steps: int = 200
    shape: Shape = (20, 24, 24)
    device: str = "cpu"


def main(options: Options) -> None:
    torch.set_num_threads(1)
    auc: dict[Precision, list[float]] = {p: [] for p in PRECISIONS}
    timings: dict[Precision, list[Timing]] = {p: [] for p in PRECISIONS}
    source = SourceTaskConfig(shape=options.shape, steps=options.source_steps)
    with tempfile.TemporaryDirectory(prefix="mgmt-ray-benchmark-") as scratch:
        checkpoint = Path(scratch) / "source.pth"
        write_source_task_checkpoint(source, checkpoint)
        for seed in range(options.seeds):
            sets = make_set(options, seed, "training"), make_set(options, seed, "validation")
            runs = [partial(trained_auc, sets, p, seed, checkpoint, options) for p in PRECISIONS]
            for p, (found, seconds) in zip(
                PRECISIONS, in_turns(runs, seed, options.device), strict=True
            ):
                auc[p].append(found)
                timings[p].append(seconds)
            print(seed, {p: round(values[-1], 3) for p, values in auc.items()}, flush=True)
    print(json.dumps(summary(options, auc, timings)))


def make_set(options: Options, seed: int, part: str) -> VolumeSet:
    return textured_volumes(
        options.subjects, options.shape, part, seed, options.signal, options.device
    )


def trained_auc(
    sets: tuple[VolumeSet, VolumeSet],
    precision: Precision,
    seed: int,
    checkpoint: Path,
    options: Options,
) -> float:
    """Train, and return the validation AUC after the last epoch."""
    config = TrainingConfig(
        epochs=options.epochs,
        batch_size=6,
        learning_rate=3e-3,
        agent_learning_rate=1e-3,
        temperature=1.0,
        precision=precision,
    )
    torch.manual_seed(seed)
    network = build_volume_network(NETWORK, 1, config.temperature, checkpoint).to(options.device)
    *_, last = fit(TrainingState(network, config), *sets, config, seed)
    return last.validation.auc


def summary(
    options: Options, auc: dict[Precision, list[float]], timings: dict[Precision, list[Timing]]
) -> dict[str, object]:
    gaps = [half - full for full, half in zip(auc["fp32"], auc["bf16"], strict=True)]
    mean = statistics.mean(gaps)
    reach = half_width(gaps)
    return {
        "name": "precision",
        "ratio": wall_ratio(timings["fp32"], timings["bf16"]),
        "difference": round(max(abs(gap) for gap in gaps), 4),
        "paired_difference": round(mean, 4),
        "paired_interval": [round(mean - reach, 4), round(mean + reach, 4)],
        "interval_holds_0": abs(mean) <= reach,
        "mean_auc": {p: round(statistics.mean(values), 4) for p, values in auc.items()},
        "deviation": {p: round(statistics.stdev(values), 4) for p, values in auc.items()},
        "auc": {p: [round(v, 4) for v in values] for p, values in auc.items()},
        "seeds": options.seeds,
        "epochs": options.epochs,
        "subjects": options.subjects,
        "signal": options.signal,
        "device": options.device,
    }


def half_width(gaps: list[float]) -> float:
    """Return half the width of the 95 % t-interval of the mean difference over seeds."""
    standard_error = statistics.stdev(gaps) / len(gaps) ** 0.5
    return float(stats.t.ppf(0.975, len(gaps) - 1)) * standard_error


if __name__ == "__main__":
    main(tyro.cli(Options))
