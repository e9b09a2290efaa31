"""Speed of training and predicting slices in batches: ``python -m benchmarks.slices``."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import torch
import tyro

from benchmarks.device import (
    Timing,
    count_operations,
    in_turns,
    matrix_rate,
    process_ratio,
    timed,
    wall_ratio,
)
from benchmarks.our_step import OurTraining
from benchmarks.plain_slices import (
    PlainTraining,
    ScanFiles,
    TurnedSlices,
    forward_one_by_one,
    predict_plainly,
)
from benchmarks.scans import make_scans, subject_slices, training_rows
from mgmt_ray.nets.myronenko import SegmentationNetwork
from mgmt_ray.preprocess.axial_slices import SubjectSlices
from mgmt_ray.preprocess.histogram_matching import learn_standard
from mgmt_ray.training.dataset import VolumeSet
from mgmt_ray.training.training_config import Precision, SegmentationTraining
from mgmt_ray.trials.segmenter import Segmenter


@dataclass(frozen=True)
class Options:
    """Measure the segmentation of slices.

    Attributes:
        device: as torch names it
        width: channels of the first stage; the paper's are 32
        shape: height and width of a slice
        slices: of a scan
        batch: slices per training step
        precision: of ours
        steps: of a round
        rounds: how often all are timed
    """

    device: str = "cuda" if torch.cuda.is_available() else "cpu"
    width: int = 32
    shape: tuple[int, int] = (128, 128)
    slices: int = 24
    batch: int = 8
    precision: Precision = "fp32"
    steps: int = 1
    rounds: int = 5


Spending = tuple[list[Timing], ...]


def main(options: Options) -> None:
    torch.set_num_threads(1)
    print(json.dumps(measure(options)))


def measure(options: Options) -> dict[str, object]:
    """Time both trainings and both predictions, alternately."""
    scans, masks = make_scans(options.slices, options.shape)
    with tempfile.TemporaryDirectory() as folder:
        files = ScanFiles(Path(folder), scans, masks)
        training = measure_training(options, files, scans, masks)
        inference = measure_inference(options, files, scans, masks)
    return {
        "name": "slices",
        "ratio": inference["ratio"],
        "difference": max(float(part["difference"]) for part in (training, inference)),
        "training": training,
        "inference": inference,
        "device": options.device,
        "width": options.width,
        "shape": list(options.shape),
        "slices": options.slices,
        "batch": options.batch,
        "precision": options.precision,
    }


def measure_training(
    options: Options, files: ScanFiles, scans: list[np.ndarray], masks: list[np.ndarray]
) -> dict[str, float]:
    """Time steps of both alternately; our preparation once per training is timed separately."""
    data, once = timed(partial(training_rows, scans, masks, options.device), options.device)
    config = SegmentationTraining(batch_size=options.batch, precision=options.precision)
    plain = PlainTraining(
        make_network(options), files, options.batch, config.learning_rate, options.device
    )
    ours = OurTraining(make_network(options), config, data)
    difference = step_difference(options, ours, plain)
    timings: Spending = ([], [])
    for number in range(-1, options.rounds):
        both = in_turns(
            (partial(many, plain.step, options), partial(many, ours.step, options)),
            number,
            options.device,
        )
        for own, (_, seconds) in zip(timings, both, strict=True):
            own.extend([seconds] if number >= 0 else [])  # the first round warms up
    seen = options.steps * options.batch
    operations = count_operations(ours.step) / options.batch
    floor = matrix_rate_of(options.device) / operations
    item = [timed(partial(plain.loader.dataset.__getitem__, i), "cpu")[1] for i in range(9)]
    return {
        "ratio": wall_ratio(*timings),
        "process_ratio": process_ratio(*timings),
        "difference": difference,
        "input_difference": input_difference(plain.loader.dataset, data),
        "slices_per_second": round(seen / busy_s(timings[1], options.device), 2),
        "plain_slices_per_second": round(seen / busy_s(timings[0], options.device), 2),
        "gflop_per_slice": round(operations / 1e9, 3),
        "floor_slices_per_second": round(floor, 2),
        "plain_input_ms": round(1e3 * busy_s(item, "cpu"), 2),
        "once_ms": round(1e3 * busy_s([once], options.device) / len(data), 2),
    }


def measure_inference(
    options: Options, files: ScanFiles, scans: list[np.ndarray], masks: list[np.ndarray]
) -> dict[str, float]:
    """Time the segmentation of a scan by both alternately, and the lower bound of the time."""
    network = make_network(options).eval().requires_grad_(False)
    standard = learn_standard((str(i), scan) for i, scan in enumerate(scans))
    segmenter = Segmenter(network, standard, options.precision)
    slices = subject_slices(scans[0], masks[0])
    normal = torch.from_numpy(segmenter.normalise(slices)).to(options.device)
    runs = (
        partial(predict_plainly, network, files, 0, options.device),
        partial(segment, segmenter, slices),
        partial(forward_one_by_one, network, normal),
        partial(segmenter.predict, normal.cpu().numpy()),
    )
    timings: Spending = ([], [], [], [])
    rates, difference = [], 0.0
    for number in range(-1, options.rounds):
        rates.append(matrix_rate_of(options.device))
        found = in_turns(runs, number, options.device)
        difference = max(difference, float(np.abs(found[0][0] - found[1][0]).max()))
        for own, (_, seconds) in zip(timings, found, strict=True):
            own.extend([seconds] if number >= 0 else [])
    operations = count_operations(lambda: network(normal[:1]))
    rate = max(rates)
    plain, ours, one_by_one, batched = (
        1e3 * busy_s(own, options.device) / options.slices for own in timings
    )
    fractions = {
        name: round(operations / (ms / 1e3) / rate, 3)
        for name, ms in (("one_by_one", one_by_one), ("ours", batched))
    }
    return {
        "ratio": wall_ratio(timings[0], timings[1]),
        "process_ratio": process_ratio(timings[0], timings[1]),
        "forward_ratio": wall_ratio(timings[2], timings[3]),
        "forward_process_ratio": process_ratio(timings[2], timings[3]),
        "difference": difference,
        "ms_per_slice": round(ours, 2),
        "plain_ms_per_slice": round(plain, 2),
        "forward_ms_per_slice": round(batched, 2),
        "one_by_one_ms_per_slice": round(one_by_one, 2),
        "gflop_per_slice": round(operations / 1e9, 3),
        "matrix_gflop_per_s": round(rate / 1e9, 1),
        "floor_ms_per_slice": round(1e3 * operations / rate, 2),
        "one_by_one_fraction": fractions["one_by_one"],
        "ours_fraction": fractions["ours"],
        "most_ratio": round(plain / (1e3 * operations / rate), 2),
    }


def busy_s(timings: list[Timing], device: str) -> float:
    """Return the median CPU time, which other load disturbs less; wall time on a GPU."""
    on_gpu = device.startswith("cuda")
    return median(s.wall_s if on_gpu else s.process_s for s in timings)


def matrix_rate_of(device: str) -> float:
    """Return the operations per second of a float32 matrix product, timed as :func:`busy_s`."""
    if device.startswith("cuda"):
        return matrix_rate(device, "fp32")
    a, b = (torch.rand(1536, 1536) for _ in range(2))
    return 2 * 1536**3 / min(timed(lambda: a @ b, device)[1].process_s for _ in range(7))


def make_network(options: Options) -> SegmentationNetwork:
    """Return a network; the weights are the same in each call."""
    torch.manual_seed(0)
    return SegmentationNetwork(options.width, options.shape).to(options.device)


def many(step: object, options: Options) -> None:
    for _ in range(options.steps):
        step()  # type: ignore[operator]


def segment(segmenter: Segmenter, slices: SubjectSlices) -> np.ndarray:
    return segmenter.predict(segmenter.normalise(slices))


def step_difference(options: Options, ours: OurTraining, plain: PlainTraining) -> float:
    """Return the norm of the difference of one step's gradients over their norm, as one vector.

    Both have the same weights before the step. Single tensors are not compared, since some
    gradients are 0, as that of a bias before a GroupNorm of one channel.
    """
    batch = ours.data.select(np.arange(options.batch))
    noise, keep = ours.draw(options.batch)
    ours.learn(batch, (noise, keep))
    device = options.device
    plain.learn(batch.volumes.float(), batch.labels, noise.to(device), keep.to(device))
    found, expected = (
        torch.cat([p.grad.flatten() for p in network.parameters()]).double()
        for network in (ours.network, plain.network)
    )
    return float((found - expected).norm() / expected.norm())


def input_difference(plain: TurnedSlices, ours: VolumeSet) -> float:
    """Return the largest difference of a pixel of training slices; ours are in float16."""
    rows = range(0, len(plain), max(1, len(plain) // 20))
    return max(float((plain[row][0] - ours.volumes[row].cpu().float()).abs().max()) for row in rows)


if __name__ == "__main__":
    main(tyro.cli(Options))
