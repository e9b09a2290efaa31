"""Logits under many policy draws, computing once what draws have in common."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mgmt_ray.nets.head import classify_pooled
from mgmt_ray.nets.resnet3d import pool
from mgmt_ray.nets.spottune import RoutedBlock, SpotTune


def route_logits(
    network: SpotTune,
    volumes: Float[Tensor, "batch channels depth height width"],
    routes: Float[Tensor, "draw batch block"],
    max_input_bytes: int = 2**29,
) -> Float[Tensor, "draw batch"]:
    """Return the logits of each subject under each of its policies, without the covariates' part.

    Draws of one subject that agree on their first blocks share those blocks' outputs, and only the
    chosen branch is evaluated: the policies of a subject form a trie whose nodes are computed once.
    The stem runs once per subject. The result equals evaluating each draw separately, but for
    rounding: convolutions of another batch size may sum in another order.

    The trie is descended level by level while a level is narrow. A wider one is cut in two, and the
    second half waits until the first has reached the leaves, so that memory does not grow with the
    number of routes.

    Args:
        network: in evaluation mode.
        volumes: in [0, 1].
        routes: 1.0 where a draw tunes a block.
        max_input_bytes: size of the inputs that pass a block together, at least one subject's; the
            total is several times as large.

    >>> from mgmt_ray.nets.resnet3d import ResNet3d
    >>> pretrained, agent = (ResNet3d(10, 2, 1, outputs=number) for number in (1, 8))
    >>> network = SpotTune(pretrained, agent, temperature=1.0).eval()
    >>> routes = torch.zeros(100, 2, 4)  # 100 draws, 2 subjects, 4 blocks
    >>> route_logits(network, torch.zeros(2, 1, 16, 16, 16), routes).shape
    torch.Size([100, 2])
    """
    num_blocks = network.num_routed_blocks
    # The trie is planned on the CPU: on a GPU each level would wait for the device.
    codes, leaf = torch.unique(_route_codes(routes.cpu()), return_inverse=True)
    x = network.stem(volumes)
    pending = [(0, codes, x, torch.arange(len(x)))]
    pooled = []
    while pending:
        level, codes, x, rows = pending.pop()
        if level == num_blocks:
            pooled.append(pool(x)[rows.to(x.device)])
            continue
        nodes = torch.unique_consecutive(codes >> (num_blocks - 1 - level))
        parents, parent = torch.unique_consecutive(nodes >> 1, return_inverse=True)
        if len(nodes) * x[0].nbytes > max_input_bytes and len(parents) > 1:
            half = len(parents) // 2
            first = codes >> (num_blocks - level) < parents[half]
            pending.append((level, codes[~first], x, rows[half:]))
            pending.append((level, codes[first], x, rows[:half]))
            continue
        x, rows = _run_block(network.blocks[level], x, rows[parent], nodes & 1)
        pending.append((level + 1, codes, x, rows))
    return classify_pooled(network.fc, torch.cat(pooled), None)[leaf.to(volumes.device)]


def _route_codes(routes: Float[Tensor, "draw batch block"]) -> Int[Tensor, "draw batch"]:
    """Encode subject and choices as one number, earlier blocks in higher bits.

    Sorted, the routes through any node of the trie are neighbours.
    """
    _, batch, num_blocks = routes.shape
    assert num_blocks + batch.bit_length() < 64
    place_value = 2 ** torch.arange(num_blocks - 1, -1, -1)
    return (torch.arange(batch) << num_blocks) + (routes.long() * place_value).sum(dim=-1)


def _run_block(
    block: RoutedBlock,
    x: Float[Tensor, "row channels depth height width"],
    parent_row: Int[Tensor, " node"],
    choice: Int[Tensor, " node"],
) -> tuple[
    Float[Tensor, "out_row out_channels out_depth out_height out_width"], Int[Tensor, " node"]
]:
    """Run one block for all nodes, each through the branch it chose.

    Returns:
        Outputs, those of the frozen branch first, and the row of each node among them.
    """
    outputs, order = [], []
    for value, branch in enumerate((block.frozen, block.tuned)):
        nodes = (choice == value).nonzero().squeeze(1)
        if len(nodes):
            outputs.append(branch(_take_rows(x, parent_row[nodes])))
            order.append(nodes)
    joined = outputs[0] if len(outputs) == 1 else torch.cat(outputs)
    return joined, torch.argsort(torch.cat(order))


def _take_rows(
    x: Float[Tensor, "row channels depth height width"], rows: Int[Tensor, " part"]
) -> Float[Tensor, "part channels depth height width"]:
    """Return rows of ``x``: a view where they are consecutive, else a copy."""
    start = int(rows[0])
    if torch.equal(rows, torch.arange(start, start + len(rows))):
        return x[start : start + len(rows)]
    return x[rows.to(x.device)]
