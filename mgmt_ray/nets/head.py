"""What stands between a network's pooled features and its logit: dropout, and age and sex."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from mgmt_ray.base import MgmtError
from mgmt_ray.cohort.covariates import Covariate


def dropout_mask(
    batch: int, num_features: int, rate: float, random: Generator
) -> Float[Tensor, "batch features"]:
    """Factors of the pooled features: 0 where dropped, 1/(1 - rate) where kept.

    Srivastava et al. 2014, scaled while training so that evaluation needs no change. Drawn on the
    CPU for the whole batch, so that neither the device nor the number of workers changes a mask.

    Args:
        batch: rows of the global batch; a worker takes its own.
        num_features: of the pooled features.
        rate: probability to drop a feature, below 1.
        random: the trial's own stream.
    """
    kept = torch.rand(batch, num_features, generator=random) >= rate
    return kept / (1 - rate)


class CovariateHead(nn.Module):
    """The part of the last linear layer that belongs to age and sex.

    A linear layer on features with covariates appended is the sum of two: one on the features, and
    this one. So an image's features can be shared, or kept, whatever the covariates are.

    Age is standardised with mean and deviation of the training subjects, which are buffers and
    travel with the weights; sex is -0.5 or +0.5. Who lacks a value gets 0: the training subjects'
    mean age, the middle between the sexes. There is no indicator of lacking, which would tell the
    hospital rather than the tumour.

    Args:
        num_features: of the layer's other part; the initial weights are those of one layer for all.
        covariates: which, in the order of the values' columns.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, num_features: int, covariates: tuple[Covariate, ...]) -> None:
        super().__init__()
        self.covariates = covariates
        bound = (num_features + len(covariates)) ** -0.5
        self.weight = nn.Parameter(torch.empty(len(covariates)).uniform_(-bound, bound))
        self.register_buffer("mean", torch.zeros(len(covariates)))
        self.register_buffer("std", torch.ones(len(covariates)))

    def fit_scaling(self, values: Float[Tensor, "subject covariate"]) -> None:
        """Take over the mean and deviation of age.

        Args:
            values: one row per training subject, nobody else; NaN where not known.

        Raises:
            MgmtError: nobody has a value of some covariate.
        """
        for column, name in enumerate(self.covariates):
            known = values[:, column][~values[:, column].isnan()].double()
            if len(known) == 0:
                raise MgmtError(
                    f"no training subject has a known {name}. "
                    f"Give it in the cohort's table, or take {name} out of the covariates."
                )
            if name == "age":
                deviation = known.std(correction=0)
                self.mean[column] = known.mean()
                # of one age: nothing to scale by
                self.deviation[column] = deviation if deviation > 0 else 1.0

    def forward(self, values: Float[Tensor, "batch covariate"]) -> Float[Tensor, " batch"]:
        """The covariates' part of the logits.

        Args:
            values: age in years, sex as -0.5 or +0.5; NaN where not known.
        """
        scaled = torch.nan_to_num((values - self.mean) / self.deviation, nan=0.0)
        return (scaled * self.weight).sum(dim=1)


def classify_pooled(
    linear: nn.Linear,
    pooled: Float[Tensor, "batch features"],
    keep: Float[Tensor, "batch features"] | None,
) -> Float[Tensor, " batch"]:
    """The image's part of the logits.

    Args:
        linear: with one output.
        pooled: features.
        keep: see :func:`dropout_mask`; None drops nothing.
    """
    if keep is not None:
        pooled = pooled * keep.to(pooled.device, pooled.dtype)
    logits: Tensor = linear(pooled).squeeze(1)
    return logits


def add_covariates(
    logits: Float[Tensor, "*draw batch"],
    head: CovariateHead | None,
    covariates: Float[Tensor, "batch covariate"] | None,
) -> Float[Tensor, "*draw batch"]:
    """Add the covariates' part to the image's part of the logits; no head adds nothing."""
    if head is None:
        return logits
    assert covariates is not None, "this network takes covariates"
    whole: Tensor = logits + head(covariates)
    return whole


def make_covariate_head(
    num_features: int, covariates: tuple[Covariate, ...]
) -> CovariateHead | None:
    """A head for these covariates, if there are any."""
    return CovariateHead(num_features, covariates) if covariates else None
