"""How much fewer Sobol draws err than independent ones: ``python -m benchmarks.draws``."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from torch import Tensor

from mgmt_ray.base import stream
from mgmt_ray.cohort.texture import tumour_texture
from mgmt_ray.nets.build import NetworkConfig, build
from mgmt_ray.nets.policy import DrawKind, draw_routes
from mgmt_ray.nets.resnet3d import Depth
from mgmt_ray.nets.routes import route_logits
from mgmt_ray.nets.spottune import SpotTune
from mgmt_ray.training.config import TrainingConfig
from mgmt_ray.training.dataset import VolumeSet, volume_set
from mgmt_ray.training.evaluate import predict
from mgmt_ray.training.loop import TrainingState, fit
from mgmt_ray.training.metrics import score
from mgmt_ray.training.pretrain import SourceTaskConfig, write_source_task_checkpoint

INDEPENDENT_DRAWS = 100
SOBOL_DRAWS = (32, 64, 100, 128)
COMPARED_DRAWS = 64

RATES = ((1e-3, 1e-3), (3e-4, 1e-3), (3e-4, 3e-4))
"""Learning rates of network and agent; the networks take them in turn.

From policies that end near certainty to policies that hardly leave one half.
"""

SOURCE_STEPS = 400
TRAINING_SUBJECTS, VALIDATION_SUBJECTS = 100, 20
SIGNAL = 4.0
"""Amplitude of the label's texture, in deviations of the texture that all tumours have."""


@dataclass(frozen=True)
class Options:
    """Measure the error of a mean over policy draws against all routes of trained networks.

    Attributes:
        depth: of the networks; 50 has the paper's 16 blocks, whose 65,536 routes are all evaluated
        networks: trained from different seeds, at different rates
        subjects: of the validation subjects of each network, those with all routes evaluated
        epochs: of each training
        replicates: sets of draws per subject
        width: channels of the network's stem
        shape: depth, height, width of a volume
    """

    depth: Depth = 50
    networks: int = 6
    subjects: int = 4
    epochs: int = 12
    replicates: int = 200
    width: int = 4
    shape: tuple[int, int, int] = (20, 24, 24)


@dataclass(frozen=True, slots=True, eq=False)
class RouteTable:
    """One subject under every route.

    Attributes:
        probability: of methylation [route]; a route's number has the first block as lowest bit.
        mean: of it over the policy, exactly.
        variance: of it under the policy, exactly.
        tuned: probability to tune each block [block].
    """

    probability: Tensor
    mean: Tensor
    variance: Tensor
    tuned: Tensor

    def errors(self, kind: DrawKind, draws: int, replicates: int) -> Tensor:
        """Errors [replicate] of the mean over so many draws, one seed per replicate."""
        num_blocks = len(self.tuned)
        probability = self.tuned.expand(replicates, num_blocks)
        routes = draw_routes(probability, draws, kind, range(replicates))
        number = (routes.long() * 2 ** torch.arange(num_blocks)).sum(dim=-1)
        return self.probability[number].mean(dim=0) - self.mean


@dataclass(frozen=True, slots=True)
class Errors:
    """Of the mean probability of one subject.

    Attributes:
        independent: squared, expected from 100 independent draws: their variance / 100.
        independent_seen: squared, mean over replicates of such draws.
        sobol: squared, mean over replicates, by number of draws.
        bias: of 64 Sobol draws, mean over replicates.
        bias_error: its standard error.
    """

    independent: float
    independent_seen: float
    sobol: dict[int, float]
    bias: float
    bias_error: float


def main(options: Options) -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="mgmt-ray-benchmark-") as scratch:
        checkpoint = Path(scratch) / "source.pth"
        source = SourceTaskConfig(
            depth=options.depth, width=options.width, shape=options.shape, steps=SOURCE_STEPS
        )
        write_source_task_checkpoint(source, checkpoint)
        found = []
        for number in range(options.networks):
            network, validation = train(options, number, checkpoint)
            found.append(measure(network, validation, options.replicates))
            print("ratio", round(ratio(found[-1:], COMPARED_DRAWS), 2), flush=True)
    print(json.dumps(summary(options, found)))


def train(options: Options, number: int, checkpoint: Path) -> tuple[SpotTune, VolumeSet]:
    """A network that has learnt to tell textures, and subjects that it was not trained on."""
    torch.manual_seed(number)
    config = NetworkConfig(
        kind="spottune", depth=options.depth, width=options.width, agent_width=options.width
    )
    network = build(config, 1, 1.0, checkpoint)
    assert isinstance(network, SpotTune)
    rate, agent_rate = RATES[number % len(RATES)]
    training = TrainingConfig(
        epochs=options.epochs,
        batch_size=6,
        learning_rate=rate,
        agent_learning_rate=agent_rate,
        temperature=1.0,
        balance="none",
        validation_draws=1,
    )
    volumes = textured_volumes(TRAINING_SUBJECTS, options.shape, "training", number)
    validation = textured_volumes(VALIDATION_SUBJECTS, options.shape, "validation", number)
    for _ in fit(TrainingState(network, training), volumes, validation, training, number):
        pass
    found = predict(network, validation, num_draws=100, kind="independent", seed=42)
    auc = score(found.probability, validation.labels.numpy(), found.loss).auc
    network.eval()
    measured = validation.select(np.arange(options.subjects))
    with torch.no_grad():
        probability = network.tuned_probability(measured.volumes.float())
    certainty = float((probability - 0.5).abs().mean())
    print(
        f"network {number}, rates {rate:g} and {agent_rate:g}: validation AUC {auc:.2f}, "
        f"mean |p - 0.5| {certainty:.2f}",
        end=", ",
    )
    return network, measured


def textured_volumes(
    number: int, shape: tuple[int, int, int], purpose: str, seed: int
) -> VolumeSet:
    """Balls whose texture is coarse in methylated and fine in unmethylated subjects."""
    random = stream(seed, "draws", purpose)
    centre = (np.array(shape).reshape(3, 1, 1, 1) - 1) / 2
    distance = np.linalg.norm(np.indices(shape) - centre, axis=0)
    labels = [subject % 2 for subject in range(number)]
    volumes = []
    for label in labels:
        tumour = distance < random.uniform(0.6, 0.95) * min(shape) / 2
        texture = tumour_texture(tumour, bool(label), SIGNAL, random)
        volumes.append(np.where(tumour, np.clip(0.5 + 0.08 * texture, 0.01, 1), 0)[None])
    ids = [f"{purpose}-{subject}" for subject in range(number)]
    return volume_set([np.stack(volumes)], labels, ids, "cpu")


@torch.no_grad()
def measure(network: SpotTune, data: VolumeSet, replicates: int) -> list[Errors]:
    """Errors of each subject: every route is evaluated once, and all draws are looked up."""
    volumes = data.volumes.float()
    found = []
    for volume, tuned in zip(volumes, network.tuned_probability(volumes), strict=True):
        table = route_table(network, volume, tuned)
        independent = table.errors("independent", INDEPENDENT_DRAWS, replicates)
        sobol = {draws: table.errors("sobol", draws, replicates) for draws in SOBOL_DRAWS}
        compared = sobol[COMPARED_DRAWS]
        found.append(
            Errors(
                independent=float(table.variance) / INDEPENDENT_DRAWS,
                independent_seen=float(independent.square().mean()),
                sobol={draws: float(e.square().mean()) for draws, e in sobol.items()},
                bias=float(compared.mean()),
                bias_error=float(compared.std()) / replicates**0.5,
            )
        )
    return found


def route_table(network: SpotTune, volume: Tensor, tuned: Tensor) -> RouteTable:
    """Evaluate all 2^blocks routes of one volume [channel, depth, height, width]."""
    num_blocks = network.num_routed_blocks
    routes = (torch.arange(2**num_blocks)[:, None] >> torch.arange(num_blocks) & 1).float()
    probability = torch.sigmoid(route_logits(network, volume[None], routes[:, None]))[:, 0].double()
    chance = torch.where(routes > 0, tuned, 1 - tuned).double().prod(dim=1)
    mean = (chance * probability).sum()
    variance = (chance * (probability - mean).square()).sum()
    return RouteTable(probability, mean, variance, tuned)


def ratio(networks: list[list[Errors]], draws: int) -> float:
    """Squared error of 100 independent draws over that of so many Sobol draws, all subjects."""
    errors = [e for network in networks for e in network]
    return sum(e.independent for e in errors) / sum(e.sobol[draws] for e in errors)


def standard_error(networks: list[list[Errors]], draws: int) -> float | None:
    """Of :func:`ratio`, by leaving out each network in turn (jackknife)."""
    number = len(networks)
    if number < 2:
        return None
    without = [ratio(networks[:i] + networks[i + 1 :], draws) for i in range(number)]
    return float(np.std(without) * (number - 1) ** 0.5)


def summary(options: Options, networks: list[list[Errors]]) -> dict[str, object]:
    errors = [e for network in networks for e in network]
    spread = standard_error(networks, COMPARED_DRAWS)
    return {
        "name": "draws",
        "ratio": round(ratio(networks, COMPARED_DRAWS), 2),
        "ratio_standard_error": None if spread is None else round(spread, 2),
        "ratio_by_draws": {draws: round(ratio(networks, draws), 2) for draws in SOBOL_DRAWS},
        "ratio_by_network": [round(ratio([network], COMPARED_DRAWS), 2) for network in networks],
        "difference": max(abs(e.bias) for e in errors),
        "difference_in_standard_errors": round(max(abs(e.bias) / e.bias_error for e in errors), 2),
        "independent_seen_over_expected": round(
            sum(e.independent_seen for e in errors) / sum(e.independent for e in errors), 3
        ),
        "root_mean_square_error_of_100_independent": round(
            float(np.mean([e.independent for e in errors]) ** 0.5), 5
        ),
        "depth": options.depth,
        "num_networks": options.networks,
        "num_subjects": options.subjects,
        "num_replicates": options.replicates,
    }


if __name__ == "__main__":
    main(tyro.cli(Options))
