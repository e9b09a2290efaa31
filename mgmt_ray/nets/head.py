"""From a network's pooled features to its logit: dropout, the last layer, age and sex."""

from __future__ import annotations

from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from mgmt_ray.base import MgmtError
from mgmt_ray.cohort.covariates import Covariate

Pooled: TypeAlias = Float[Tensor, "batch features"]
"""Features averaged over all positions of a volume, or factors of them."""

Covariates: TypeAlias = Float[Tensor, "batch covariate"]
"""Age in years, sex as -0.5 or +0.5; NaN where not known."""

Logits: TypeAlias = Float[Tensor, " batch"]


def dropout_mask(batch: int, num_features: int, rate: float, random: Generator) -> Pooled:
    """Draw factors of the pooled features: 0 where dropped, 1/(1 - rate) where kept.

    Srivastava et al. 2014, scaled while training so that evaluation needs no change. Drawn on the
    CPU for the whole batch, so that neither the device nor the number of workers changes a mask.

    Args:
        batch: rows of the global batch; each worker uses the factors of its rows.
        rate: probability to drop a feature, in [0, 1).

    >>> mask = dropout_mask(4, 256, rate=0.2, random=Generator().manual_seed(0))
    >>> mask.shape, mask.unique().tolist()
    (torch.Size([4, 256]), [0.0, 1.25])
    """
    kept = torch.rand(batch, num_features, generator=random) >= rate
    return kept / (1 - rate)


class CovariateHead(nn.Module):
    """The part of the last linear layer that belongs to age and sex.

    A linear layer on features with covariates appended is the sum of two: one on the features, and
    this one. So an image's features can be shared, or kept, whatever the covariates are.

    Age is standardised with mean and standard deviation of the training subjects, which are buffers
    and are saved with the weights; sex is -0.5 or +0.5. A missing value becomes 0: the training
    subjects' mean age, the middle between the sexes. There is no indicator of missing values, which
    would identify the hospital rather than the tumour.

    Args:
        num_features: inputs of the layer's image part; the initial weights have the range of one
            layer for features and covariates together.
        covariates: in the order of the values' columns.
        outputs: of the layer; None for its only one, the logit.

    >>> head = CovariateHead(num_features=8, covariates=("age",))
    >>> head.fit_scaling(torch.tensor([[50.0], [70.0], [float("nan")]]))
    >>> head.mean.item(), head.std.item()
    (60.0, 10.0)
    >>> head(torch.tensor([[60.0], [float("nan")]])).tolist()
    [0.0, 0.0]
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, num_features: int, covariates: tuple[Covariate, ...], outputs: int | None = None
    ) -> None:
        super().__init__()
        self.covariates = covariates
        bound = (num_features + len(covariates)) ** -0.5
        shape = (*(() if outputs is None else (outputs,)), len(covariates))
        self.weight = nn.Parameter(torch.empty(shape).uniform_(-bound, bound))
        self.register_buffer("mean", torch.zeros(len(covariates)))
        self.register_buffer("std", torch.ones(len(covariates)))

    def fit_scaling(self, values: Float[Tensor, "subject covariate"]) -> None:
        """Set the mean and standard deviation by which age is scaled.

        Args:
            values: one row per training subject and no other; NaN where not known.

        Raises:
            MgmtError: a covariate is known of no training subject.
        """
        for column, name in enumerate(self.covariates):
            known_values = values[:, column][~values[:, column].isnan()].double()
            if len(known_values) == 0:
                raise MgmtError(
                    f"no training subject has a known {name}. "
                    f"Add it to the cohort's table, or remove {name} from the network's covariates."
                )
            if name == "age":
                std = known_values.std(correction=0)
                self.mean[column] = known_values.mean()
                # all of the same age: nothing to scale by
                self.std[column] = std if std > 0 else 1.0

    def forward(self, values: Covariates) -> Float[Tensor, "..."]:
        """Return the covariates' part of the logits (or of the layer's outputs).

        Args:
            values: age in years, sex as -0.5 or +0.5; NaN where not known.
        """
        scaled = torch.nan_to_num((values - self.mean) / self.std, nan=0.0)
        if self.weight.dim() == 1:
            return (scaled * self.weight).sum(dim=1)
        return scaled @ self.weight.T


def classify_pooled(linear: nn.Linear, pooled: Pooled, keep: Pooled | None) -> Logits:
    """Return the image's part of the logits.

    Args:
        keep: see :func:`dropout_mask`; None drops nothing.
    """
    if keep is not None:
        pooled = pooled * keep.to(pooled.device, pooled.dtype)
    logits: Tensor = linear(pooled).squeeze(1)
    return logits


def add_covariates(
    logits: Float[Tensor, "*draw batch"],
    head: CovariateHead | None,
    covariates: Covariates | None,
) -> Float[Tensor, "*draw batch"]:
    """Add the covariates' part to the image's part of the logits; without a head, nothing."""
    if head is None:
        return logits
    assert covariates is not None, "this network takes covariates"
    total: Tensor = logits + head(covariates)
    return total


def make_covariate_head(
    num_features: int, covariates: tuple[Covariate, ...], outputs: int | None = None
) -> CovariateHead | None:
    """Return a head for these covariates, or None if there are none."""
    return CovariateHead(num_features, covariates, outputs) if covariates else None
