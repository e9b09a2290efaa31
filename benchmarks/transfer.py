"""Speed of running a frozen network only once: ``python -m benchmarks.transfer``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
import tyro
from torch.nn.functional import binary_cross_entropy_with_logits

from benchmarks.device import SMALL_SHAPE, Timing, in_turns, median_s
from benchmarks.volumes import Shape, random_volumes, resident
from mgmt_ray.base import stream
from mgmt_ray.nets.resnet3d import ResNet3d
from mgmt_ray.nets.single_path import PlainNetwork
from mgmt_ray.training.dataset import VolumeSet, even_batches
from mgmt_ray.training.evaluate import ROWS_PER_BATCH
from mgmt_ray.training.loop import TrainingState, fit
from mgmt_ray.training.training_config import TrainingConfig

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
    shape: Shape = SMALL_SHAPE
    batch: int = 12
    device: str = "cpu"


@dataclass(frozen=True, slots=True)
class Comparison:
    """Times of both trainings, whose epochs alternate.

    Attributes:
        plain: by epoch.
        ours: by epoch; the first includes the frozen part.
        difference: largest of any trained weight and of any epoch's validation probability.
    """

    plain: list[Timing]
    ours: list[Timing]
    difference: float

    @property
    def ratio(self) -> float:
        return round(sum(s.wall_s for s in self.plain) / sum(s.wall_s for s in self.ours), 2)


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
                "plain_epoch_s": round(median_s(classifier.plain), 4),
                "ours_first_epoch_s": round(classifier.ours[0].wall_s, 4),
                "ours_epoch_s": round(median_s(classifier.ours[1:]), 4),
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
    """Train the same network twice on the same data, with alternating epochs."""
    config = TrainingConfig(
        epochs=epochs, batch_size=options.batch, learning_rate=1e-3, schedule="constant"
    )
    training, validation = (
        resident(*random_volumes(number, options.shape, seed), options.device)
        for seed, number in ((1, options.volumes), (2, options.subjects))
    )
    state = TrainingState(make_network(options, trained_blocks), config)
    ours = fit(state, training, validation, config, SEED)
    network = make_network(options, trained_blocks)
    plain = train_plainly(network, training, validation, config)
    timings: tuple[list[Timing], list[Timing]] = ([], [])
    probabilities = (partial(next, plain), lambda: next(ours).predictions.probability)
    difference = 0.0
    for number in range(epochs):
        both = in_turns(probabilities, number, options.device)
        for own, (_, seconds) in zip(timings, both, strict=True):
            own.append(seconds)
        (expected, _), (found, _) = both
        difference = max(difference, float(np.abs(found - expected).max()))
        if number in (0, 1, epochs - 1):
            print(f"{trained_blocks} blocks trained, epoch {number + 1}:", end=" ")
            print(*(f"{own[-1].wall_s:.4f} s" for own in timings), flush=True)
    weights = state.network.state_dict()
    for name, value in network.state_dict().items():
        difference = max(difference, float((weights[name] - value).abs().max()))
    return Comparison(*timings, difference)


def train_plainly(
    network: PlainNetwork, training: VolumeSet, validation: VolumeSet, config: TrainingConfig
) -> Iterator[np.ndarray]:
    """Run the whole network on every volume of every epoch; yield validation probabilities."""
    trained = [p for p in network.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=config.learning_rate)
    for epoch in range(1, config.epochs + 1):
        network.train()
        order = stream(SEED, "order", epoch).permutation(len(training))
        for rows in even_batches(order, config.batch_size):
            index = torch.from_numpy(rows).to(training.volumes.device)
            logits = network(training.volumes[index].float())
            loss = binary_cross_entropy_with_logits(logits, training.labels[index], reduction="sum")
            optimizer.zero_grad()
            (loss / len(rows)).backward()
            optimizer.step()
        network.eval()
        with torch.no_grad():
            batches = even_batches(np.arange(len(validation)), ROWS_PER_BATCH)
            parts = [network(validation.select(rows).volumes.float()) for rows in batches]
        yield torch.sigmoid(torch.cat(parts)).double().cpu().numpy()


def make_network(options: Options, trained_blocks: int) -> PlainNetwork:
    torch.manual_seed(SEED)
    resnet = ResNet3d(50, options.width, channels=1, outputs=1)
    return PlainNetwork(resnet, trained_blocks).to(options.device)


if __name__ == "__main__":
    main(tyro.cli(Options))
