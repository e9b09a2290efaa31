import pytest
import torch

from mgmt_ray.nets.policy import draw_policies, gumbel_noise, sample_policy


@pytest.mark.parametrize("temperature", [0.5, 100.0])
def test_policy_tunes_at_the_rate_of_its_logits(temperature: float) -> None:
    """Whatever τ, and whatever is added to both logits of a block."""
    log_odds = torch.tensor([-4.0, -1.0, 0.0, 0.3, 1.0, 3.0])
    shift = torch.tensor([0.0, 50.0, -20.0, 3.0, 0.0, 7.0])
    logits = torch.stack([shift, shift + log_odds], dim=1).expand(40_000, 6, 2)
    noise = gumbel_noise(40_000, 6, torch.Generator().manual_seed(0))
    rate = sample_policy(logits, temperature, noise).mean(dim=0)
    expected = torch.sigmoid(log_odds)
    error = (expected * (1 - expected) / 40_000).sqrt()
    # all six within 4 standard errors: by chance alone one run in 2600 would not be
    assert ((rate - expected).abs() < 4 * error).all()


def test_blocks_and_subjects_are_drawn_independently() -> None:
    logits = torch.zeros(20_000, 4, 2)
    policy = sample_policy(
        logits, 1.0, gumbel_noise(20_000, 4, torch.Generator().manual_seed(10))
    ).double()
    between_blocks = torch.corrcoef(policy.T).fill_diagonal_(0)
    between_subjects = torch.corrcoef(torch.stack([policy[:-1].flatten(), policy[1:].flatten()]))
    # 4 standard errors of a correlation of 20 000 pairs
    assert between_blocks.abs().max() < 4 / 20_000**0.5
    assert between_subjects[0, 1].abs() < 4 / 20_000**0.5


def test_gumbel_noise_is_standard() -> None:
    noise = gumbel_noise(50_000, 1, torch.Generator().manual_seed(1))
    # mean is Euler's constant, variance π²/6; 4 standard errors at n = 100 000
    assert noise.mean().item() == pytest.approx(0.5772, abs=4 * 1.2825 / 100_000**0.5)
    assert noise.var().item() == pytest.approx(1.6449, abs=0.06)


def test_a_policy_is_exactly_zero_or_one_at_every_temperature() -> None:
    logits = torch.randn(50, 16, 2, generator=torch.Generator().manual_seed(2))
    noise = gumbel_noise(50, 16, torch.Generator().manual_seed(3))
    policies = [sample_policy(logits, t, noise) for t in (1e-4, 1.0, 1e4)]
    for policy in policies:
        assert set(policy.unique().tolist()) == {0.0, 1.0}
        assert torch.equal(policy, policies[0])


@pytest.mark.parametrize("temperature", [0.1, 1.0, 100.0])
def test_the_gradient_is_that_of_the_relaxation(temperature: float) -> None:
    """Of eq. 3, Y = exp((l + G)/τ) / Σ exp(…), by central differences in float64."""
    random = torch.Generator().manual_seed(4)
    logits = torch.randn(3, 4, 2, generator=random, dtype=torch.float64)
    weights = torch.randn(3, 4, generator=random, dtype=torch.float64)
    noise = gumbel_noise(3, 4, torch.Generator().manual_seed(5))
    step = 1e-5 * temperature

    def relaxed(values: torch.Tensor) -> float:
        powers = torch.exp((values + noise) / temperature)
        return float((weights * powers[..., 1] / powers.sum(dim=-1)).sum())

    logits.requires_grad_()
    (sample_policy(logits, temperature, noise) * weights).sum().backward()
    assert logits.grad is not None
    for index in torch.cartesian_prod(torch.arange(3), torch.arange(4), torch.arange(2)):
        moved = torch.zeros_like(logits)
        moved[tuple(index)] = step
        difference = relaxed(logits.detach() + moved) - relaxed(logits.detach() - moved)
        # cut off at step² = 1e-10 and rounded at 1e-16/step = 1e-11, both in units of 1/τ
        expected = difference / (2 * step)
        assert logits.grad[tuple(index)].item() == pytest.approx(expected, abs=1e-9 / temperature)


def test_half_precision_logits_are_drawn_and_differentiated_in_float32() -> None:
    logits = torch.randn(4, 3, 2, generator=torch.Generator().manual_seed(7)).bfloat16()
    noise = gumbel_noise(4, 3, torch.Generator().manual_seed(8))
    gradients = []
    for values in (logits, logits.float()):
        values.requires_grad_()
        policy = sample_policy(values, 100.0, noise)
        assert policy.dtype == torch.float32
        policy.sum().backward()
        gradients.append((policy.detach(), values.grad.bfloat16()))
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


@pytest.mark.parametrize("kind", ["independent", "sobol"])
def test_routes_follow_their_probabilities(kind: str) -> None:
    probability = torch.tensor([[0.1, 0.5, 0.95], [0.0, 1.0, 0.3]])
    routes = draw_policies(probability, 4096, kind, seeds=[7, 8])
    assert set(routes.unique().tolist()) == {0.0, 1.0}
    # 4 standard errors of independent draws at p = 0.5; Sobol points scatter less
    assert routes.mean(dim=0) == pytest.approx(probability, abs=4 * 0.5 / 64)


@pytest.mark.parametrize("kind", ["independent", "sobol"])
def test_a_subjects_routes_do_not_depend_on_its_neighbours(kind: str) -> None:
    probability = torch.rand(3, 5, generator=torch.Generator().manual_seed(9))
    together = draw_policies(probability, 16, kind, seeds=[1, 2, 3])
    alone = draw_policies(probability[2:], 16, kind, seeds=[3])
    assert torch.equal(together[:, 2:], alone)


@pytest.mark.parametrize("kind", ["independent", "sobol"])
def test_certain_blocks_are_always_as_certain(kind: str) -> None:
    probability = torch.tensor([[0.0, 1.0]]).expand(100, 2)
    routes = draw_policies(probability, 500, kind, seeds=range(100))
    assert torch.equal(routes, probability.expand(500, 100, 2))


def test_sobol_draws_are_unbiased_and_err_less_than_independent_ones() -> None:
    probability = torch.rand(6, generator=torch.Generator().manual_seed(10))
    weights = torch.randn(6, generator=torch.Generator().manual_seed(11))
    policies = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 6)
    chance = torch.where(policies > 0, probability, 1 - probability).prod(dim=1)
    exact = (chance * torch.sigmoid(policies @ weights)).sum()
    errors = {}
    for kind in ("independent", "sobol"):
        routes = draw_policies(probability.expand(400, 6), 32, kind, seeds=range(400))
        errors[kind] = torch.sigmoid(routes @ weights).mean(dim=0) - exact
        # the mean over 400 scrambles lies within 4 standard errors of what it estimates
        assert errors[kind].mean().abs() < 4 * errors[kind].std() / 20
    # a squared error known to a tenth from 400 scrambles; six blocks leave room for more than 4
    assert errors["independent"].square().mean() > 4 * errors["sobol"].square().mean()
