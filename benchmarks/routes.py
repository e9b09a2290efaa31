"""Speed of the route trie against draws one by one: ``python -m benchmarks.routes``."""

from __future__ import annotations

import copy
import json
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch
import tyro
from torch import Tensor

from benchmarks.device import (
    FULL_SHAPE,
    FULL_WIDTH,
    Timing,
    count_operations,
    in_turns,
    median_s,
    process_ratio,
    wall_ratio,
)
from benchmarks.naive_routes import make_network, naive_logits
from benchmarks.public_routes import compare_with_public_code
from mgmt_ray.base import stream_seed
from mgmt_ray.nets.policy import draw_policies
from mgmt_ray.nets.spottune import SpotTune, route_logits

FULL_SUBJECTS, FULL_DRAWS, DOUBLE_DRAWS = 12, 100, 10


@dataclass(frozen=True)
class Options:
    """Measure the evaluation of a network of the paper's depth under many policy draws.

    Attributes:
        subjects: in the batch
        draws: policies per subject
        width: channels of the stems, of the network and of its agent
        shape: depth, height, width of a volume
        rounds: how often both ways are timed, in turns
        full_size: whether operations at the paper's size are counted too, some seconds
        device: as torch names it
        reference: a checkout of the paper's public code, to measure that too
    """

    subjects: int = 6
    draws: int = 100
    width: int = 8
    shape: tuple[int, int, int] = (20, 24, 24)
    rounds: int = 6
    full_size: bool = True
    device: str = "cpu"
    reference: Path | None = None


@dataclass(frozen=True, slots=True)
class Case:
    """Results for one distribution of the policies' probabilities.

    Attributes:
        ratio: naive over our wall time, median over rounds.
        process_ratio: the same by CPU time, which other load disturbs less.
        operations_ratio: operations of the naive loop over ours, of what was measured.
        full_size_operations_ratio: the same for a batch of the paper's size, counted, not run; or
            None.
        difference: largest difference of a draw's probability.
        naive_s: seconds of the naive loop, median.
        ours_s: seconds of ours, median.
    """

    ratio: float
    process_ratio: float
    operations_ratio: float
    full_size_operations_ratio: float | None
    difference: float
    naive_s: float
    ours_s: float


@torch.no_grad()
def main(options: Options) -> None:
    torch.set_num_threads(1)
    network = make_network(options.width).to(options.device)
    volumes = torch.rand(options.subjects, 1, *options.shape).to(options.device)
    cases = {}
    for name, probability in tuned_probabilities(options.subjects).items():
        cases[name] = measure(network, volumes, probability, name, options)
        print(name, cases[name], flush=True)
    double = difference_in_double(network, volumes)
    print("float64 difference", double, flush=True)
    public = compare_with_public_code(options.reference) if options.reference else None
    print(json.dumps(summary(options, cases, double, public)))


def tuned_probabilities(subjects: int) -> dict[str, Tensor]:
    """Return probabilities of tuning each block [subject, block], by name."""
    shape = (subjects, 16)
    torch.manual_seed(1)
    beta = torch.distributions.Beta(0.5, 0.5).sample(shape)
    return {
        "0.5": torch.full(shape, 0.5),
        "beta": beta,
        "0.95": torch.full(shape, 0.95),
        "0.99": torch.full(shape, 0.99),
    }


def draw(probability: Tensor, num_draws: int, seed: int = 0) -> Tensor:
    """Draw routes [draw, subject, block]."""
    seeds = [stream_seed(seed, "routes", subject) for subject in range(len(probability))]
    return draw_policies(probability, num_draws, "independent", seeds)


def shared_logits(
    network: SpotTune, volumes: Tensor, probability: Tensor, num_draws: int, seed: int = 0
) -> Tensor:
    """Evaluate as ``training.evaluate.predict`` does; the agent runs to include its time."""
    network.tuned_probability(volumes)
    return route_logits(network, volumes, draw(probability, num_draws, seed))


def measure(
    network: SpotTune, volumes: Tensor, probability: Tensor, name: str, options: Options
) -> Case:
    timings: tuple[list[Timing], list[Timing]] = ([], [])
    difference = 0.0
    for number in range(options.rounds):
        # new routes each time: batches of new sizes make torch select kernels
        routes = draw(probability, options.draws, number)
        runs = [
            partial(naive_logits, network, volumes, routes),
            partial(shared_logits, network, volumes, probability, options.draws, number),
        ]
        (plain, naive_s), (logits, ours_s) = in_turns(runs, number, options.device)
        timings[0].append(naive_s)
        timings[1].append(ours_s)
        gap = (torch.sigmoid(logits) - torch.sigmoid(plain)).abs().max()
        difference = max(difference, float(gap))
    return Case(
        ratio=wall_ratio(*timings),
        process_ratio=process_ratio(*timings),
        operations_ratio=operations_ratio(network, volumes, probability, options.draws),
        full_size_operations_ratio=full_size_ratio(name) if options.full_size else None,
        difference=difference,
        naive_s=round(median_s(timings[0]), 3),
        ours_s=round(median_s(timings[1]), 3),
    )


def operations_ratio(
    network: SpotTune, volumes: Tensor, probability: Tensor, num_draws: int
) -> float:
    """Return the operations of the naive loop over those of the trie."""
    one_route = torch.zeros(1, *probability.shape, device=volumes.device)
    ours = count_operations(partial(shared_logits, network, volumes, probability, num_draws, 0))
    one_draw = count_operations(partial(naive_logits, network, volumes, one_route))
    return round(num_draws * one_draw / ours, 2)


def full_size_ratio(name: str) -> float:
    """Return the same for a batch of the paper's size, counted on the meta device."""
    network = make_network(FULL_WIDTH, "meta")
    volumes = torch.empty(FULL_SUBJECTS, 1, *FULL_SHAPE, device="meta")
    return operations_ratio(network, volumes, tuned_probabilities(FULL_SUBJECTS)[name], FULL_DRAWS)


def difference_in_double(network: SpotTune, volumes: Tensor) -> float:
    """Return the largest difference of a logit in float64, due to the order of sums."""
    double = copy.deepcopy(network).double()
    probability = tuned_probabilities(len(volumes))["0.5"]
    logits = shared_logits(double, volumes.double(), probability, DOUBLE_DRAWS)
    routes = draw(probability, DOUBLE_DRAWS)
    return float((logits - naive_logits(double, volumes.double(), routes)).abs().max())


def summary(
    options: Options, cases: dict[str, Case], double: float, public: dict[str, object] | None
) -> dict[str, object]:
    return {
        "name": "routes",
        "ratio": cases["0.5"].ratio,
        "difference": max(case.difference for case in cases.values()),
        "difference_float64": double,
        "cases": {name: asdict(case) for name, case in cases.items()},
        "num_subjects": options.subjects,
        "num_draws": options.draws,
        "width": options.width,
        "shape": list(options.shape),
        "device": options.device,
        "reference": public,
    }


if __name__ == "__main__":
    main(tyro.cli(Options))
