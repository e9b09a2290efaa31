from __future__ import annotations

import math

import pytest
import torch

from mgmt_ray.base import MgmtError
from mgmt_ray.nets.head import CovariateHead, add_covariates, classify_pooled, dropout_mask


def test_dropout_drops_at_its_rate_and_keeps_the_mean() -> None:
    mask = dropout_mask(200, 500, 0.25, torch.Generator().manual_seed(0))
    dropped = (mask == 0).double().mean().item()
    # 0.0055 is 4 standard errors of a rate of 0.25 at n = 100 000
    assert dropped == pytest.approx(0.25, abs=0.0055)
    assert mask.unique().tolist() == pytest.approx([0, 4 / 3])


def test_a_dropped_feature_does_not_reach_the_logit() -> None:
    torch.manual_seed(0)
    linear = torch.nn.Linear(3, 1)
    pooled, keep = torch.rand(2, 3), torch.tensor([[2.0, 0.0, 2.0], [0.0, 0.0, 0.0]])
    logits = classify_pooled(linear, pooled, keep)
    changed = pooled.clone()
    changed[:, 1] = 99.0
    assert torch.equal(classify_pooled(linear, changed, keep), logits)
    assert logits[1] == linear.bias[0]


def test_the_head_is_the_rest_of_one_linear_layer_on_everything() -> None:
    torch.manual_seed(0)
    linear, head = torch.nn.Linear(5, 1), CovariateHead(5, ("age", "sex"))
    head.fit_scaling(torch.tensor([[50.0, 0.5], [70.0, -0.5]]))
    pooled, values = torch.rand(3, 5), torch.tensor([[50.0, 0.5], [60.0, -0.5], [80.0, 0.5]])
    together = torch.nn.Linear(7, 1)
    with torch.no_grad():
        together.weight.copy_(torch.cat([linear.weight, head.weight.view(1, -1)], dim=1))
        together.bias.copy_(linear.bias)
    appended = torch.cat([pooled, torch.tensor([[-1.0, 0.5], [0.0, -0.5], [2.0, 0.5]])], dim=1)
    logits = add_covariates(classify_pooled(linear, pooled, None), head, values)
    # seven float32 summands in another order
    torch.testing.assert_close(logits, together(appended).squeeze(1))


def test_a_missing_value_counts_as_the_mean_age_and_as_between_the_sexes() -> None:
    head = CovariateHead(5, ("age", "sex"))
    head.fit_scaling(torch.tensor([[40.0, 0.5], [math.nan, 0.5], [60.0, math.nan]]))
    assert head.mean.tolist() == [50.0, 0.0]
    assert head.std.tolist() == [10.0, 1.0]
    logits = head(torch.tensor([[math.nan, math.nan], [50.0, 0.0], [60.0, 0.5]]))
    assert logits[0] == logits[1] == 0
    assert logits[2].item() == pytest.approx((head.weight[0] + 0.5 * head.weight[1]).item())


def test_subjects_of_one_age_give_nothing_to_scale_by() -> None:
    head = CovariateHead(5, ("age",))
    head.fit_scaling(torch.full((3, 1), 44.0))
    assert head(torch.tensor([[45.0]])).item() == pytest.approx(head.weight.item())


def test_a_covariate_that_no_training_subject_has_is_an_error() -> None:
    with pytest.raises(MgmtError, match="no training subject has a known sex"):
        CovariateHead(5, ("age", "sex")).fit_scaling(torch.tensor([[50.0, math.nan]]))
