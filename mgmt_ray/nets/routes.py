"""The mean over many policy draws, sharing what the draws have in common."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mgmt_ray.nets.spottune import SpotTune


def route_logits(
    network: SpotTune,
    volumes: Float[Tensor, "batch channels depth height width"],
    routes: Float[Tensor, "draw batch block"],
    rows_at_once: int = 16,
) -> Float[Tensor, "draw batch"]:
    """Logits of every subject under every one of its policies.

    Draws of one subject that agree on their first blocks share those blocks' outputs, and only the
    chosen branch is evaluated: the policies of a subject form a trie whose nodes are computed once.
    The stem runs once per subject. Equal to evaluating each draw by itself.

    Args:
        network: in evaluation mode.
        volumes: in [0, 1].
        routes: 1.0 where a draw tunes a block.
        rows_at_once: nodes of the trie that pass a block together; bounds the memory.
    """
    num_draws, batch, _ = routes.shape
    x = network.stem(volumes)
    node = torch.arange(batch, device=volumes.device).expand(num_draws, batch)
    for index, block in enumerate(network.blocks):
        keys, node = torch.unique(2 * node + routes[:, :, index].long(), return_inverse=True)
        x = _step(block.frozen, block.tuned, x, keys, rows_at_once)
    return network.classify(x)[node]


def _step(
    frozen: nn.Module,
    tuned: nn.Module,
    x: Float[Tensor, "parent channels depth height width"],
    keys: Int[Tensor, " node"],
    rows_at_once: int,
) -> Float[Tensor, "node out_channels out_depth out_height out_width"]:
    """One block for every node: key 2·parent takes the frozen branch, 2·parent + 1 the tuned."""
    out: Tensor | None = None
    for choice, branch in enumerate((frozen, tuned)):
        rows = (keys % 2 == choice).nonzero().squeeze(1)
        for part in rows.split(rows_at_once):
            y = branch(x[keys[part] // 2])
            if out is None:
                out = y.new_empty((len(keys), *y.shape[1:]))
            out[part] = y
    assert out is not None
    return out
