"""What training minimises."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits


def class_weights(labels: Float[Tensor, " row"]) -> Float[Tensor, "2"]:
    """Weight per class (unmethylated, methylated) that makes both classes count equally."""
    number = torch.bincount(labels.long(), minlength=2).to(labels.dtype)
    return len(labels) / (2 * number.clamp_min(1))


def cross_entropy_sum(
    logits: Float[Tensor, " batch"],
    labels: Float[Tensor, " batch"],
    weights: Float[Tensor, "2"] | None,
) -> Float[Tensor, ""]:
    """Binary cross-entropy on the logits, summed over subjects, in nats."""
    weight = None if weights is None else weights[labels.long()]
    return binary_cross_entropy_with_logits(
        logits, labels.to(logits.dtype), weight, reduction="sum"
    )
