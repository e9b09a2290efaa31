"""How much the route trie saves over drawing one by one: ``python -m benchmarks.routes``."""

from __future__ import annotations

import copy
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

import torch
import tyro
from torch import Tensor, nn

from benchmarks.naive_routes import make_network, naive_logits
from benchmarks.public_routes import compare_with_public_code
from mgmt_ray.base import stream_seed
from mgmt_ray.nets.policy import draw_routes
from mgmt_ray.nets.routes import route_logits
from mgmt_ray.nets.spottune import SpotTune

FULL_WIDTH, FULL_SHAPE, FULL_SUBJECTS = 64, (70, 86, 86), 12
DOUBLE_DRAWS = 10

T = TypeVar("T")


@dataclass(frozen=True)
class Options:
    """Measure the evaluation of a network of the paper's depth under many policy draws.

    Attributes:
        subjects: in the batch
        draws: policies per subject
        width: channels of the stems, of the network and of its agent
        shape: depth, height, width of a volume
        rounds: how often both ways are timed, in turns
        device: as torch names it
        reference: a checkout of the paper's public code, to measure that too
    """

    subjects: int = 6
    draws: int = 100
    width: int = 8
    shape: tuple[int, int, int] = (20, 24, 24)
    rounds: int = 5
    device: str = "cpu"
    reference: Path | None = None


@dataclass(frozen=True, slots=True)
class Timed:
    """Seconds of one call: by the clock on the wall, and of this process alone."""

    wall_s: float
    process_s: float


@dataclass(frozen=True, slots=True)
class Case:
    """One distribution of the policies' probabilities.

    Attributes:
        ratio: naive time over ours by the clock on the wall, median over rounds.
        process_ratio: the same by processor time, which others' work disturbs less.
        operations_ratio: multiply-adds of the naive loop over ours, of what was measured.
        full_size_operations_ratio: the same for a batch of the paper's size, counted, not run.
        difference: largest difference of a draw's probability.
        naive_s: seconds of the naive loop, median.
        ours_s: seconds of ours, median.
    """

    ratio: float
    process_ratio: float
    operations_ratio: float
    full_size_operations_ratio: float
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
    """How probable each subject's policy is to tune each block [subject, block], by name."""
    shape = (subjects, 16)
    torch.manual_seed(1)
    beta = torch.distributions.Beta(0.5, 0.5).sample(shape)
    return {
        "0.5": torch.full(shape, 0.5),
        "beta": beta,
        "0.95": torch.full(shape, 0.95),
        "0.99": torch.full(shape, 0.99),
    }


def shared_logits(
    network: SpotTune, volumes: Tensor, probability: Tensor, num_draws: int, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """As ``training.evaluate.predict``, but for the probabilities: the agent runs for its time."""
    network.tuned_probability(volumes)
    seeds = [stream_seed(seed, "routes", subject) for subject in range(len(probability))]
    routes = draw_routes(probability, num_draws, "independent", seeds)
    return route_logits(network, volumes, routes), routes


def measure(
    network: SpotTune, volumes: Tensor, probability: Tensor, name: str, options: Options
) -> Case:
    naive, ours, difference = [], [], 0.0
    for number in range(options.rounds):
        # New routes each time: a batch of a new size costs torch the choice of its kernels.
        (logits, routes), seconds = timed(
            lambda seed=number: shared_logits(network, volumes, probability, options.draws, seed)
        )
        ours.append(seconds)
        plain, seconds = timed(lambda routes=routes: naive_logits(network, volumes, routes))
        naive.append(seconds)
        gap = (torch.sigmoid(logits) - torch.sigmoid(plain)).abs().max()
        difference = max(difference, float(gap))
    full = make_network(FULL_WIDTH, "meta")
    full_volumes = torch.empty(FULL_SUBJECTS, 1, *FULL_SHAPE, device="meta")
    full_probability = tuned_probabilities(FULL_SUBJECTS)[name]
    pairs = list(zip(naive, ours, strict=True))
    return Case(
        ratio=round(statistics.median(n.wall_s / o.wall_s for n, o in pairs), 2),
        process_ratio=round(statistics.median(n.process_s / o.process_s for n, o in pairs), 2),
        operations_ratio=operations_ratio(network, volumes, probability, options.draws),
        full_size_operations_ratio=operations_ratio(full, full_volumes, full_probability, 100),
        difference=difference,
        naive_s=round(statistics.median(n.wall_s for n in naive), 3),
        ours_s=round(statistics.median(o.wall_s for o in ours), 3),
    )


def timed(run: Callable[[], T]) -> tuple[T, Timed]:
    wall, process = time.perf_counter(), time.process_time()
    result = run()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return result, Timed(time.perf_counter() - wall, time.process_time() - process)


def operations_ratio(
    network: SpotTune, volumes: Tensor, probability: Tensor, num_draws: int
) -> float:
    """Multiply-adds of the naive loop over those of the trie."""
    ours = multiply_adds(network, lambda: shared_logits(network, volumes, probability, num_draws))
    routes = torch.zeros(1, *probability.shape, device=volumes.device)
    one_draw = multiply_adds(network, lambda: naive_logits(network, volumes, routes))
    return round(num_draws * one_draw / ours, 2)


def multiply_adds(network: nn.Module, run: Callable[[], object]) -> int:
    """Multiply-adds of convolutions and linear layers while ``run`` runs, padding included."""
    counts = []

    def count(layer: nn.Module, _inputs: object, output: Tensor) -> None:
        counts.append(output.numel() * layer.weight[0].numel())

    layers = [m for m in network.modules() if isinstance(m, nn.Conv3d | nn.Linear)]
    handles = [layer.register_forward_hook(count) for layer in layers]
    run()
    for handle in handles:
        handle.remove()
    return sum(counts)


def difference_in_double(network: SpotTune, volumes: Tensor) -> float:
    """Largest difference of a logit in float64, where only the order of sums is left."""
    double = copy.deepcopy(network).double()
    probability = tuned_probabilities(len(volumes))["0.5"]
    logits, routes = shared_logits(double, volumes.double(), probability, DOUBLE_DRAWS)
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
