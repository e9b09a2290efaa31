"""The mean over many policy draws, sharing what the draws have in common."""

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
    held_bytes: int = 2**29,
) -> Float[Tensor, "draw batch"]:
    """Logits of every subject under every one of its policies, without what covariates add.

    Draws of one subject that agree on their first blocks share those blocks' outputs, and only the
    chosen branch is evaluated: the policies of a subject form a trie whose nodes are computed once.
    The stem runs once per subject. Equal to evaluating each draw by itself, but for rounding:
    convolutions of another batch size may sum in another order.

    The trie is descended level by level while a level is narrow. A wider one is cut in two, and the
    second half waits until the first has reached the leaves: what is held does not grow with the
    number of routes.

    Args:
        network: in evaluation mode.
        volumes: in [0, 1].
        routes: 1.0 where a draw tunes a block.
        held_bytes: of the inputs that pass a block together, a subject's own at least; in all,
            several times as much is needed.
    """
    num_blocks = network.num_routed_blocks
    # The trie is planned on the CPU: a device would have to be waited for at every level.
    codes, leaf = torch.unique(_route_codes(routes.cpu()), return_inverse=True)
    x = network.stem(volumes)
    waiting = [(0, codes, x, torch.arange(len(x)))]
    pooled = []
    while waiting:
        level, codes, x, rows = waiting.pop()
        if level == num_blocks:
            pooled.append(pool(x)[rows.to(x.device)])
            continue
        nodes = torch.unique_consecutive(codes >> (num_blocks - 1 - level))
        parents, parent = torch.unique_consecutive(nodes >> 1, return_inverse=True)
        if len(nodes) * x[0].nbytes > held_bytes and len(parents) > 1:
            half = len(parents) // 2
            first = codes >> (num_blocks - level) < parents[half]
            waiting.append((level, codes[~first], x, rows[half:]))
            waiting.append((level, codes[first], x, rows[:half]))
            continue
        x, rows = _step(network.blocks[level], x, rows[parent], nodes & 1)
        waiting.append((level + 1, codes, x, rows))
    return classify_pooled(network.fc, torch.cat(pooled), None)[leaf.to(volumes.device)]


def _route_codes(routes: Float[Tensor, "draw batch block"]) -> Int[Tensor, "draw batch"]:
    """Subject and choices as one number, the first block's choice above the later ones'.

    Sorted, the routes through any node of the trie are neighbours.
    """
    _, batch, num_blocks = routes.shape
    assert num_blocks + batch.bit_length() < 64
    place = 2 ** torch.arange(num_blocks - 1, -1, -1)
    return (torch.arange(batch) << num_blocks) + (routes.long() * place).sum(dim=-1)


def _step(
    block: RoutedBlock,
    x: Float[Tensor, "row channels depth height width"],
    parent_row: Int[Tensor, " node"],
    choice: Int[Tensor, " node"],
) -> tuple[
    Float[Tensor, "out_row out_channels out_depth out_height out_width"], Int[Tensor, " node"]
]:
    """One block for every node, each through the branch it chose.

    Returns:
        Outputs, those of the frozen branch first, and the row of each node among them.
    """
    outputs, order = [], []
    for value, branch in enumerate((block.frozen, block.tuned)):
        nodes = (choice == value).nonzero().squeeze(1)
        if len(nodes):
            outputs.append(branch(_take(x, parent_row[nodes])))
            order.append(nodes)
    joined = outputs[0] if len(outputs) == 1 else torch.cat(outputs)
    return joined, torch.argsort(torch.cat(order))


def _take(
    x: Float[Tensor, "row channels depth height width"], rows: Int[Tensor, " part"]
) -> Float[Tensor, "part channels depth height width"]:
    """Rows of ``x``: a view where they are neighbours, else a copy."""
    start = int(rows[0])
    if torch.equal(rows, torch.arange(start, start + len(rows))):
        return x[start : start + len(rows)]
    return x[rows.to(x.device)]
