"""The paper's public training step beside ours, with the same weights."""

from __future__ import annotations

import contextlib
import io
import statistics
import tempfile
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from benchmarks.naive_routes import make_network, steering_noise
from benchmarks.public_code import load_public_code
from benchmarks.public_routes import WIDTH, public_state, with_public_faults
from mgmt_ray.nets.policy import gumbel_noise
from mgmt_ray.nets.spottune import SpotTune
from mgmt_ray.training.config import TrainingConfig
from mgmt_ray.training.dataset import volume_set
from mgmt_ray.training.loop import TrainingState
from mgmt_ray.training.precision import arrange, compiled
from mgmt_ray.training.step import train_step

TEMPERATURE, ROUNDS = 100.0, 3


class NoMetric:
    """Stands where the public code has torchmetrics; costs nothing, which favours that code."""

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
    """One step of both at the paper's width, its volumes on a GPU and small ones on a CPU.

    The public trainer runs as it is, with its data set and loader, on files in its layout.

    Returns:
        ``ratio``: its time over ours (bf16, compiled on a GPU), median over rounds;
        ``difference``: largest difference of a logit in fp32 once ours has its faults in the
        network, with the frozen BatchNorms of both in evaluation mode.
    """
    on_gpu = device.startswith("cuda")
    shape, batch = (70, 86, 86) if on_gpu else (24, 32, 32), 12
    run_model = load_public_code(checkout, "run_model_torch")
    config = TrainingConfig(temperature=TEMPERATURE, precision="bf16", compile=on_gpu)
    with tempfile.TemporaryDirectory(prefix="mgmt-ray-benchmark-") as scratch:
        random = np.random.default_rng(3)
        volumes = random.random((batch, 1, *shape), dtype=np.float32).astype(np.float16)
        loader = public_loader(run_model, volumes, Path(scratch))
        network = trainable(make_network(WIDTH)).to(device)
        public = public_trainer(run_model, network, loader, device)
        difference = logit_difference(public, network, torch.from_numpy(volumes).to(device).float())
        step = our_step(network, volumes, config, device)
        seconds: tuple[list[float], list[float]] = ([], [])
        for _ in range(ROUNDS + 1):
            for own, run in zip(seconds, (lambda: public_epoch(public), step), strict=True):
                started = time.perf_counter()
                run()
                if on_gpu:
                    torch.cuda.synchronize()
                own.append(time.perf_counter() - started)
            print(f"public {seconds[0][-1]:.3f} s, ours {seconds[1][-1]:.3f} s", flush=True)
    pairs = list(zip(*seconds, strict=True))[1:]  # the first round warms up
    return {
        "ratio": round(statistics.median(theirs / ours for theirs, ours in pairs), 2),
        "difference": difference,
        "public_s": round(statistics.median(theirs for theirs, _ in pairs), 4),
        "ours_s": round(statistics.median(ours for _, ours in pairs), 4),
        "batch": batch,
        "shape": list(shape),
    }


def trainable(network: SpotTune) -> SpotTune:
    for parameters in network.parameter_groups().values():
        for parameter in parameters:
            parameter.requires_grad_(True)
    return network.train()


def public_loader(run_model: ModuleType, volumes: np.ndarray, folder: Path) -> Any:
    """Its data set on files of its own layout, in its loader."""
    names = [f"UPENN-GBM-{i:05}_11" for i in range(len(volumes))]
    for name, volume in zip(names, volumes, strict=True):
        np.save(folder / f"{name}_T2.npy", volume.astype(np.float64))
    labels = pd.Series([[float(i % 2)] for i in range(len(names))], index=names)
    data = run_model.DatasetGenerator(
        labels.index, labels, data_dir=str(folder), modality=["T2"], n_channels=1
    )
    return run_model.DataLoader(data, batch_size=len(names), shuffle=True)


def public_trainer(run_model: ModuleType, network: SpotTune, loader: Any, device: str) -> Any:
    """Its trainer with our weights; its constructor asks for log files and metrics."""
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
    runner.device, runner.gumbel_temperature = device, TEMPERATURE
    runner.train_dataloader = loader
    # its own noise is drawn on a CUDA device only
    runner.sample_gumbel = lambda size: gumbel_noise(size[0], size[1], torch.Generator()).to(
        device, torch.float32
    )
    return runner


def public_epoch(runner: Any) -> None:
    """One epoch, of one batch."""
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


def our_step(network: SpotTune, volumes: np.ndarray, config: TrainingConfig, device: str) -> Any:
    arrange(network, config.precision)
    optimizer = TrainingState(network, config).optimizer
    number = len(volumes)
    names = [str(i) for i in range(number)]
    data = volume_set([volumes], [i % 2 for i in range(number)], names, device)
    noise = torch.Generator().manual_seed(0)
    trained = compiled(network, config, data.volumes.device).train()

    def step() -> None:
        train_step(
            trained,
            optimizer,
            data.select(np.random.default_rng(0).permutation(number)),
            gumbel_noise(number, network.num_routed_blocks, noise),
            keep=None,
            weights=None,
            num_rows=number,
            num_workers=1,
            precision=config.precision,
        )

    return step
