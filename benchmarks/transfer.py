"""How much running a frozen network once saves: ``python -m benchmarks.transfer``."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import tyro
from torch.nn.functional import binary_cross_entropy_with_logits

from mgmt_ray.base import stream
from mgmt_ray.nets.plain import PlainNetwork
from mgmt_ray.nets.resnet3d import ResNet3d
from mgmt_ray.training.config import TrainingConfig
from mgmt_ray.training.dataset import VolumeSet, volume_set
from mgmt_ray.training.loop import TrainingState, fit

SEED = 0
BLOCK_EPOCHS = 5


@dataclass(frozen=True)
class Options:
    """Measure the training of the transfer network.

    Attributes:
        epochs: of the training
        volumes: that train
        subjects: that validate
        width: channels of the ResNet-50's stem
        shape: depth, height, width of a volume
        batch: volumes per step
        device: as torch names it
    """

    epochs: int = 90
    volumes: int = 60
    subjects: int = 12
    width: int = 32
    shape: tuple[int, int, int] = (24, 32, 32)
    batch: int = 12
    device: str = "cpu"


@dataclass(frozen=True, slots=True)
class Comparison:
    """Both ways, epoch by epoch in turns.

    Attributes:
        plain_s: seconds per epoch.
        ours_s: seconds per epoch; the first includes the frozen part.
        difference: largest of any trained weight and of any epoch's validation probability.
    """

    plain_s: list[float]
    ours_s: list[float]
    difference: float

    @property
    def ratio(self) -> float:
        return round(sum(self.plain_s) / sum(self.ours_s), 2)


def main(options: Options) -> None:
    torch.set_num_threads(1)
    classifier = compare(options, trained_blocks=0, epochs=options.epochs)
    two_blocks = compare(options, trained_blocks=2, epochs=min(BLOCK_EPOCHS, options.epochs))
    print(
        json.dumps(
            {
                "name": "transfer",
                "ratio": classifier.ratio,
                "difference": classifier.difference,
                "epochs": options.epochs,
                "plain_epoch_s": round(float(np.median(classifier.plain_s)), 4),
                "ours_first_epoch_s": round(classifier.ours_s[0], 4),
                "ours_epoch_s": round(float(np.median(classifier.ours_s[1:])), 4),
                "two_blocks_ratio": two_blocks.ratio,
                "two_blocks_difference": two_blocks.difference,
                "two_blocks_epochs": min(BLOCK_EPOCHS, options.epochs),
                "volumes": options.volumes,
                "width": options.width,
                "shape": list(options.shape),
                "device": options.device,
            }
        )
    )


def compare(options: Options, trained_blocks: int, epochs: int) -> Comparison:
    """Train the same network twice on the same data, an epoch of each in turns."""
    config = TrainingConfig(
        epochs=epochs, batch_size=options.batch, learning_rate=1e-3, schedule="constant"
    )
    training = random_volumes(options.volumes, options, 1)
    validation = random_volumes(options.subjects, options, 2)
    state = TrainingState(make_network(options, trained_blocks), config)
    ours = fit(state, training, validation, config, SEED)
    network = make_network(options, trained_blocks)
    plain = train_plainly(network, training, validation, config)
    seconds: tuple[list[float], list[float]] = ([], [])
    difference = 0.0
    for number in range(1, epochs + 1):
        started = time.perf_counter()
        expected = next(plain)
        seconds[0].append(time.perf_counter() - started)
        started = time.perf_counter()
        epoch = next(ours)
        seconds[1].append(time.perf_counter() - started)
        difference = max(difference, float(np.abs(epoch.predictions.probability - expected).max()))
        if number in (1, 2, epochs):
            print(f"{trained_blocks} blocks trained, epoch {number}:", end=" ")
            print(f"plain {seconds[0][-1]:.4f} s, ours {seconds[1][-1]:.4f} s", flush=True)
    weights = state.network.state_dict()
    for name, value in network.state_dict().items():
        difference = max(difference, float((weights[name] - value).abs().max()))
    return Comparison(*seconds, difference)


def train_plainly(
    network: PlainNetwork, training: VolumeSet, validation: VolumeSet, config: TrainingConfig
) -> Iterator[np.ndarray]:
    """The whole network on every volume of every epoch; yields validation probabilities."""
    trained = [p for p in network.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=config.learning_rate)
    for epoch in range(1, config.epochs + 1):
        network.train()
        order = stream(SEED, "order", epoch).permutation(len(training))
        for rows in np.array_split(order, -(-len(training) // config.batch_size)):
            index = torch.from_numpy(rows).to(training.volumes.device)
            logits = network(training.volumes[index].float())
            loss = binary_cross_entropy_with_logits(logits, training.labels[index], reduction="sum")
            optimizer.zero_grad()
            (loss / len(rows)).backward()
            optimizer.step()
        network.eval()
        with torch.no_grad():
            parts = [network(part.float()) for part in validation.volumes.split(12)]
        yield torch.sigmoid(torch.cat(parts)).double().cpu().numpy()


def make_network(options: Options, trained_blocks: int) -> PlainNetwork:
    torch.manual_seed(SEED)
    resnet = ResNet3d(50, options.width, channels=1, outputs=1)
    return PlainNetwork(resnet, trained_blocks).to(options.device)


def random_volumes(number: int, options: Options, seed: int) -> VolumeSet:
    volumes = np.random.default_rng(seed).random((number, 1, *options.shape))
    labels = [i % 2 for i in range(number)]
    return volume_set([volumes], labels, [f"{seed}-{i}" for i in range(number)], options.device)


if __name__ == "__main__":
    main(tyro.cli(Options))
