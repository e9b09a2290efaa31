"""The paper's public evaluation against ours, with the same weights and routes."""

from __future__ import annotations

import contextlib
import copy
import io
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.device import FULL_WIDTH, Timing, in_turns, median_s, wall_ratio
from benchmarks.naive_routes import make_network, steering_noise
from benchmarks.public_code import load_public_code
from mgmt_ray.nets.policy import draw_policies
from mgmt_ray.nets.resnet3d import ARCHITECTURES
from mgmt_ray.nets.spottune import SpotTune, route_logits

SHAPE = (20, 24, 24)
NUM_SUBJECTS, NUM_DRAWS, PUBLIC_DRAWS, ROUNDS = 2, 100, 5, 4
PROBABILITY = 0.5


def compare_with_public_code(checkout: Path) -> dict[str, object]:
    """Compare time per draw and probabilities on small volumes at the paper's width.

    Returns:
        ``ratio``: the public time per draw over ours, median over rounds; ``difference``: largest
        difference of a probability once our copy has its faults in the network (no BatchNorm in
        the shortcuts, dilation in the first block of a stage only); ``difference_by_faults``: the
        same for our network as it is.
    """
    run_model = load_public_code(checkout, "run_model_torch")
    network = make_network(FULL_WIDTH)  # the public network has no other
    volumes = torch.rand(NUM_SUBJECTS, 1, *SHAPE)
    public = public_runner(run_model, network, volumes)
    shape = (NUM_SUBJECTS, network.num_routed_blocks)
    probability = torch.full(shape, PROBABILITY)
    routes = draw_policies(probability, NUM_DRAWS, "independent", range(NUM_SUBJECTS))
    few = routes[:PUBLIC_DRAWS]
    runs = [partial(public_probabilities, public, few), partial(ours_at, network, volumes, routes)]
    timings: tuple[list[Timing], list[Timing]] = ([], [])
    for number in range(ROUNDS):
        (predicted, theirs), (ours, own) = in_turns(runs, number, "cpu")
        timings[0].append(Timing(theirs.wall_s / PUBLIC_DRAWS, theirs.process_s / PUBLIC_DRAWS))
        timings[1].append(Timing(own.wall_s / NUM_DRAWS, own.process_s / NUM_DRAWS))
    faulty = torch.sigmoid(route_logits(with_public_faults(network), volumes, few))
    return {
        "ratio": wall_ratio(*timings),
        "difference": float((predicted - faulty).abs().max()),
        "difference_by_faults": float((predicted - ours[:PUBLIC_DRAWS]).abs().max()),
        "public_s_per_draw": round(median_s(timings[0]), 4),
        "ours_s_per_draw": round(median_s(timings[1]), 4),
        "tuned_probability": PROBABILITY,
    }


def ours_at(network: SpotTune, volumes: Tensor, routes: Tensor) -> Tensor:
    """Return probabilities [draw, subject]; the agent runs so that its time is included."""
    network.tuned_probability(volumes)
    return torch.sigmoid(route_logits(network, volumes, routes))


def public_probabilities(runner: Any, routes: Tensor) -> Tensor:
    """Return probabilities [draw, subject] of the public code."""
    return torch.stack([public_probability(runner, route) for route in routes])


def public_runner(run_model: ModuleType, network: SpotTune, volumes: Tensor) -> Any:
    """Return the public evaluation with our weights.

    Its constructor needs metrics and log files, and its noise a CUDA device; so the attributes are
    set here, and :func:`public_probability` provides the noise.
    """
    runner = object.__new__(run_model.RunModel)
    runner.model = run_model.resnet_spottune(num_classes=1, in_channels=1)
    runner.model.load_state_dict(public_state(network))
    runner.agent = run_model.resnet_agent(
        num_classes=2 * network.num_routed_blocks, in_channels=1
    ).eval()
    runner.spottune, runner.use_clinical = True, False
    runner.device, runner.gumbel_temperature = "cpu", 1.0
    runner.test_dataloader = [(volumes, torch.zeros(len(volumes), 1))]
    return runner


def public_probability(runner: Any, route: Tensor) -> Tensor:
    """Return probabilities [subject] of the public code for a given route [subject, block]."""
    runner.sample_gumbel = lambda _shape: steering_noise(route)
    with contextlib.redirect_stdout(io.StringIO()):  # its progress
        results, _ = runner.predict("test")
    return torch.tensor([float(result[0]) for result in results])


def public_state(network: SpotTune) -> dict[str, Tensor]:
    """Return our weights under the public network's names."""
    state = {
        key.replace("fc.", "classify."): value
        for key, value in network.state_dict().items()
        if key.startswith(("conv1.", "bn1.", "fc."))
    }
    blocks = iter(network.blocks)
    for stage, count in enumerate(ARCHITECTURES[50][1]):
        for index in range(count):
            block = next(blocks)
            for name, branch in (("blocks", block.frozen), ("parallel_blocks", block.tuned)):
                for key, value in branch.state_dict().items():
                    public_key = key.replace("downsample.0", "downsample")
                    public_key = public_key.replace("downsample.1", "bn0")
                    state[f"{name}.{stage}.{index}.{public_key}"] = value
    return state


def with_public_faults(network: SpotTune) -> SpotTune:
    """Return a copy with the public network's faults, which docs/papers.md lists."""
    faulty = copy.deepcopy(network)
    for block in faulty.blocks:
        for branch in (block.frozen, block.tuned):
            if isinstance(branch.downsample, nn.Sequential):
                branch.downsample[1] = nn.Identity()
            else:
                branch.conv2.dilation = branch.conv2.padding = (1, 1, 1)
    return faulty
