"""Policies, the choice per block between its tuned and its frozen copy, and drawing them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

import torch
from jaxtyping import Float
from torch import Generator, Tensor

DrawKind = Literal["independent", "sobol"]


def gumbel_noise(batch: int, num_blocks: int, noise: Generator) -> Float[Tensor, "batch block 2"]:
    """Draw standard Gumbel noise, on the CPU so that every device gets the same numbers.

    Args:
        batch: subjects in the global batch; each worker uses its rows.

    >>> gumbel_noise(12, num_blocks=16, noise=Generator().manual_seed(0)).shape
    torch.Size([12, 16, 2])
    """
    # −log of a standard exponential variable is a standard Gumbel variable.
    exponential = torch.empty(batch, num_blocks, 2, dtype=torch.float64)
    return -exponential.exponential_(generator=noise).log()


def sample_policy(
    logits: Float[Tensor, "batch block 2"],
    temperature: float,
    noise: Float[Tensor, "batch block 2"],
) -> Float[Tensor, "batch block"]:
    """Draw a hard policy whose gradient is that of its soft relaxation.

    Straight-through Gumbel-softmax (Jang et al. 2017, sec. 2.2), eq. 2 and 3 of
    Schmitz et al. 2024.

    Args:
        logits: unnormalised log-odds per block, [..., 0] frozen and [..., 1] tuned.
        temperature: above 0; near 0 the relaxation approaches the hard draw.
        noise: standard Gumbel noise (see :func:`gumbel_noise`).

    Returns:
        1.0 where a block is tuned, 0.0 where the pretrained block is kept.

    >>> logits = torch.tensor([[[0.0, 9.0], [9.0, 0.0]]])
    >>> sample_policy(logits, temperature=1.0, noise=torch.zeros(1, 2, 2))
    tensor([[1., 0.]])
    """
    exact = torch.promote_types(logits.dtype, torch.float32)
    perturbed = logits.to(exact) + noise.to(logits.device, exact)
    hard = (perturbed[..., 1] > perturbed[..., 0]).to(exact)
    soft = torch.softmax(perturbed / temperature, dim=-1)[..., 1]
    # The bracket is exactly 0, so that the value is exactly 0 or 1; the gradient is that of soft.
    return hard + (soft - soft.detach())


def draw_policies(
    tuned_probability: Float[Tensor, "batch block"],
    num_draws: int,
    kind: DrawKind,
    seeds: Sequence[int],
) -> Float[Tensor, "draw batch block"]:
    """Draw policies for evaluation, many per subject.

    Args:
        tuned_probability: in [0, 1], per subject and block.
        kind: "independent" as in Schmitz et al. 2024; "sobol" for Sobol points with a random linear
            scramble and shift (Matoušek 1998), one per subject: unbiased, with a smaller error of
            the mean. Best with a power of 2.
        seeds: one per subject, so that a subject's draws do not depend on the rest of the batch.

    Returns:
        1.0 where a block is tuned, 0.0 where not.

    >>> probability = torch.tensor([[0.0, 0.25, 1.0]])  # one subject, three blocks
    >>> policies = draw_policies(probability, num_draws=64, kind="sobol", seeds=[42])
    >>> policies.shape, policies.mean(dim=0)
    (torch.Size([64, 1, 3]), tensor([[0.0000, 0.2500, 1.0000]]))
    """
    num_blocks = tuned_probability.shape[1]
    uniform = [_uniform_points(num_draws, num_blocks, kind, seed) for seed in seeds]
    return (torch.stack(uniform, dim=1).to(tuned_probability.device) < tuned_probability).float()


@lru_cache(maxsize=4096)
def _uniform_points(
    num_draws: int, num_blocks: int, kind: DrawKind, seed: int
) -> Float[Tensor, "draw block"]:
    """Return a subject's points, which are the same in every epoch; they must not be changed."""
    match kind:
        case "independent":
            generator = torch.Generator().manual_seed(seed)
            return torch.rand(num_draws, num_blocks, generator=generator)
        case "sobol":
            engine = torch.quasirandom.SobolEngine(num_blocks, scramble=True, seed=seed)
            # in float32 a point may round up to 1, and a certain block would not be tuned
            return engine.draw(num_draws, dtype=torch.float64)
