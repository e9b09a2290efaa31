"""Error of Sobol draws against independent draws: ``python -m benchmarks.draws``."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from torch import Tensor

from benchmarks.trained_networks import Recipe, train_spottune, write_source_weights
from benchmarks.volumes import Shape
from mgmt_ray.base import stream_seed
from mgmt_ray.nets.policy import DrawKind, draw_policies
from mgmt_ray.nets.resnet3d import Depth
from mgmt_ray.nets.spottune import SpotTune, route_logits
from mgmt_ray.training.dataset import VolumeSet

INDEPENDENT_DRAWS = 100
SOBOL_DRAWS = (32, 64, 100, 128)
COMPARED_DRAWS = 64


@dataclass(frozen=True)
class Options:
    """Measure the error of a mean over policy draws against all routes of trained networks.

    Attributes:
        depth: of the networks; 50 has the paper's 16 blocks, whose 65,536 routes are all evaluated
        networks: trained from different seeds, at different rates
        subjects: of the validation subjects of each network, those with all routes evaluated
        epochs: of each training
        training_subjects: of each training
        source_steps: of the task whose weights all networks start from
        replicates: sets of draws per subject
        width: channels of the network's stem
        shape: depth, height, width of a volume
    """

    depth: Depth = 50
    networks: int = 6
    subjects: int = 4
    epochs: int = 12
    training_subjects: int = 100
    source_steps: int = 400
    replicates: int = 200
    width: int = 4
    shape: Shape = (20, 24, 24)


@dataclass(frozen=True, slots=True, eq=False)
class RouteTable:
    """One subject's predictions under every route.

    Attributes:
        subject: its id.
        probability: of methylation [route]; a route's number has the first block as lowest bit.
        mean: exact mean of the probability over the policy.
        variance: exact variance of the probability over the policy.
        tuned: probability of tuning each block [block].
    """

    subject: str
    probability: Tensor
    mean: Tensor
    variance: Tensor
    tuned: Tensor

    def errors(self, kind: DrawKind, draws: int, replicates: int) -> Tensor:
        """Return the errors [replicate] of the mean over a number of draws."""
        num_blocks = len(self.tuned)
        probability = self.tuned.expand(replicates, num_blocks)
        seeds = [stream_seed(number, "draws", self.subject) for number in range(replicates)]
        routes = draw_policies(probability, draws, kind, seeds)
        route = (routes.long() * 2 ** torch.arange(num_blocks)).sum(dim=-1)
        return self.probability[route].mean(dim=0) - self.mean


@dataclass(frozen=True, slots=True)
class Errors:
    """Errors of the mean probability of one subject.

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
    recipe = Recipe(
        options.depth,
        options.width,
        options.shape,
        options.source_steps,
        options.training_subjects,
        options.epochs,
    )
    with tempfile.TemporaryDirectory(prefix="mgmt-ray-benchmark-") as scratch:
        weights = Path(scratch) / "source.pth"
        write_source_weights(recipe, weights)
        found = []
        for number in range(options.networks):
            network, validation = train_spottune(recipe, number, weights)
            subjects = validation.select(np.arange(options.subjects))
            found.append(measure(network, subjects, options.replicates))
            print("ratio", round(ratio(found[-1:], COMPARED_DRAWS), 2), flush=True)
    print(json.dumps(summary(options, found)))


@torch.no_grad()
def measure(network: SpotTune, data: VolumeSet, replicates: int) -> list[Errors]:
    """Measure the errors of each subject: evaluate every route once, and look up all draws."""
    volumes = data.volumes.float()
    found = []
    tuned_probability = network.tuned_probability(volumes)
    for row, subject in enumerate(data.subjects):
        table = route_table(network, subject, volumes[row], tuned_probability[row])
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


def route_table(network: SpotTune, subject: str, volume: Tensor, tuned: Tensor) -> RouteTable:
    """Evaluate all 2^blocks routes of one volume [channel, depth, height, width]."""
    num_blocks = network.num_routed_blocks
    routes = (torch.arange(2**num_blocks)[:, None] >> torch.arange(num_blocks) & 1).float()
    probability = torch.sigmoid(route_logits(network, volume[None], routes[:, None]))[:, 0].double()
    chance = torch.where(routes > 0, tuned, 1 - tuned).double().prod(dim=1)
    mean = (chance * probability).sum()
    variance = (chance * (probability - mean).square()).sum()
    return RouteTable(subject, probability, mean, variance, tuned)


def ratio(networks: list[list[Errors]], draws: int) -> float:
    """Return the squared error of 100 independent draws over that of Sobol draws, all subjects."""
    errors = [e for network in networks for e in network]
    return sum(e.independent for e in errors) / sum(e.sobol[draws] for e in errors)


def bias_over_chance(errors: list[Errors]) -> float:
    """Return the RMS of the Sobol draws' mean errors over the RMS of their standard errors."""
    return float((sum(e.bias**2 for e in errors) / sum(e.bias_error**2 for e in errors)) ** 0.5)


def root_mean_square(errors: list[Errors]) -> float:
    """Return the RMS error of the mean over 100 independent draws."""
    return float(np.mean([e.independent for e in errors]) ** 0.5)


def standard_error(networks: list[list[Errors]], draws: int) -> float | None:
    """Return the standard error of :func:`ratio` by the jackknife over networks."""
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
        "difference_over_chance": round(bias_over_chance(errors), 2),
        "independent_seen_over_expected": round(
            sum(e.independent_seen for e in errors) / sum(e.independent for e in errors), 3
        ),
        "independent_error": round(root_mean_square(errors), 5),
        "independent_error_by_network": [round(root_mean_square(n), 5) for n in networks],
        "depth": options.depth,
        "num_networks": options.networks,
        "num_subjects": options.subjects,
        "num_replicates": options.replicates,
    }


if __name__ == "__main__":
    main(tyro.cli(Options))
