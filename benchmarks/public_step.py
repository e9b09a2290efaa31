"""The paper's public training step against ours, with the same weights."""

from __future__ import annotations

import contextlib
import io
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from benchmarks.device import (
    FULL_SHAPE,
    FULL_WIDTH,
    SMALL_SHAPE,
    Timing,
    in_turns,
    median_s,
    wall_ratio,
)
from benchmarks.naive_routes import steering_noise
from benchmarks.our_step import Case, OurTraining, spottune
from benchmarks.public_code import load_public_code
from benchmarks.public_routes import public_state, with_public_faults
from benchmarks.volumes import random_volumes, resident
from mgmt_ray.nets.policy import gumbel_noise
from mgmt_ray.nets.spottune import SpotTune
from mgmt_ray.training.training_config import TrainingConfig

ROUNDS = 4


class NoMetric:
    """Replaces torchmetrics in the public code; takes no time, which favours that code."""

    def __call__(self, *_values: Tensor) -> Tensor:
        return torch.zeros(())

    def compute(self) -> Tensor:
        return torch.zeros(())

    def reset(self) -> None:
        pass


class NoWriter:
    def add_scalars(self, *_values: object) -> None:
        pass


def compare_with_public_step(checkout: Path, device: str) -> dict[str, object]:
    """Compare one step at the paper's width; full-size volumes on a GPU, small ones on a CPU.

    The public trainer runs unchanged, with its data set and loader, on files in its layout.

    Returns:
        ``ratio``: its time over ours (bf16, compiled on a GPU), median over rounds;
        ``difference``: largest difference of a logit in fp32 once ours has its faults in the
        network, with the frozen BatchNorms of both in evaluation mode.
    """
    shape = FULL_SHAPE if device.startswith("cuda") else SMALL_SHAPE
    run_model = load_public_code(checkout, "run_model_torch")
    config = TrainingConfig(precision="bf16", compile=device.startswith("cuda"))
    case = Case(device, FULL_WIDTH, shape, config)
    with tempfile.TemporaryDirectory(prefix="mgmt-ray-benchmark-") as scratch:
        volumes, labels = random_volumes(config.batch_size, shape)
        loader = public_loader(run_model, volumes, Path(scratch))
        network = spottune(case)
        public = public_trainer(run_model, network, loader, device)
        difference = logit_difference(public, network, torch.from_numpy(volumes).to(device).float())
        ours = OurTraining(network, config, resident(volumes, labels, device))
        timings: tuple[list[Timing], list[Timing]] = ([], [])
        runs: list[Callable[[], None]] = [partial(public_epoch, public), ours.step]
        for number in range(-1, ROUNDS):  # the first round warms up
            for own, (_, seconds) in zip(timings, in_turns(runs, number, device), strict=True):
                own.append(seconds)
            print(*(f"{own[-1].wall_s:.3f} s" for own in timings), flush=True)
    theirs, own = (seconds[1:] for seconds in timings)
    return {
        "ratio": wall_ratio(theirs, own),
        "difference": difference,
        "public_s": round(median_s(theirs), 4),
        "ours_s": round(median_s(own), 4),
        "batch": config.batch_size,
        "shape": list(shape),
    }


def public_loader(run_model: ModuleType, volumes: np.ndarray, folder: Path) -> Any:
    """Return the public code's loader of its data set, on files in its layout."""
    names = [f"UPENN-GBM-{i:05}_11" for i in range(len(volumes))]
    for name, volume in zip(names, volumes, strict=True):
        np.save(folder / f"{name}_T2.npy", volume.astype(np.float64))
    labels = pd.Series([[float(i % 2)] for i in range(len(names))], index=names)
    data = run_model.DatasetGenerator(
        labels.index, labels, data_dir=str(folder), modality=["T2"], n_channels=1
    )
    return run_model.DataLoader(data, batch_size=len(names), shuffle=True)


def public_trainer(run_model: ModuleType, network: SpotTune, loader: Any, device: str) -> Any:
    """Return the public trainer with our weights; its constructor needs log files and metrics."""
    runner = object.__new__(run_model.RunModel)
    runner.model = run_model.resnet_spottune(num_classes=1, in_channels=1).to(device)
    runner.model.load_state_dict(public_state(network))
    runner.freeze_layers(ignore=["classify", "parallel_blocks"])
    num_outputs = 2 * network.num_routed_blocks
    runner.agent = run_model.resnet_agent(num_classes=num_outputs, in_channels=1).to(device)
    trained = [p for p in runner.model.parameters() if p.requires_grad]
    runner.optimizer = torch.optim.Adam(trained, lr=1e-5, weight_decay=1e-8)
    runner.agent_optimizer = torch.optim.Adam(runner.agent.parameters(), lr=1e-4)
    runner.loss_fn = torch.nn.BCEWithLogitsLoss()
    runner.acc_fn, runner.auc_fn, runner.sen_fn, runner.spe_fn = (NoMetric() for _ in range(4))
    runner.writer, runner.epoch = NoWriter(), 0
    runner.spottune, runner.use_clinical, runner.n_classes = True, False, 1
    runner.device, runner.gumbel_temperature = device, network.temperature
    runner.train_dataloader = loader
    # its own noise is drawn on a CUDA device only
    runner.sample_gumbel = lambda size: gumbel_noise(size[0], size[1], torch.Generator()).to(
        device, torch.float32
    )
    return runner


def public_epoch(runner: Any) -> None:
    """Train one epoch of one batch."""
    with contextlib.redirect_stdout(io.StringIO()):  # its progress
        runner.train()


def logit_difference(runner: Any, network: SpotTune, volumes: Tensor) -> float:
    routes = torch.rand(len(volumes), network.num_routed_blocks, device=volumes.device).round()
    faulty = with_public_faults(network).train()
    runner.model.train()
    for part in (runner.model.bn1, runner.model.blocks):
        part.eval()
    before = {name: value.clone() for name, value in runner.model.state_dict().items()}
    with torch.no_grad():
        theirs = runner.model(volumes, routes).squeeze(1)
        ours = faulty(volumes, steering_noise(routes))
    runner.model.load_state_dict(before)
    return float((theirs - ours).abs().max())
