import pytest
import torch

from mgmt_ray.nets.policy import draw_routes, gumbel_noise, sample_policy


def test_policy_tunes_at_the_rate_of_its_logits() -> None:
    logits = torch.tensor([0.0, 1.0]).expand(20_000, 1, 2)
    noise = gumbel_noise(20_000, 1, torch.Generator().manual_seed(0))
    tuned = sample_policy(logits, 0.5, noise)
    # sigmoid(1) = 0.7311; 0.0126 is 4 standard errors at n = 20 000
    assert tuned.mean().item() == pytest.approx(0.7311, abs=0.0126)


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


def test_the_gradient_is_that_of_the_relaxation() -> None:
    temperature, step = 2.0, 1e-3
    logits = torch.randn(3, 4, 2, generator=torch.Generator().manual_seed(4))
    noise = gumbel_noise(3, 4, torch.Generator().manual_seed(5))
    weights = torch.randn(3, 4, generator=torch.Generator().manual_seed(6))

    def relaxed(values: torch.Tensor) -> torch.Tensor:
        soft = torch.softmax((values.double() + noise) / temperature, dim=-1)[..., 1]
        return (soft * weights).sum()

    logits.requires_grad_()
    (sample_policy(logits, temperature, noise) * weights).sum().backward()
    for index in torch.cartesian_prod(torch.arange(3), torch.arange(4), torch.arange(2)):
        moved = torch.zeros_like(logits)
        moved[tuple(index)] = step
        difference = relaxed(logits.detach() + moved) - relaxed(logits.detach() - moved)
        # float32 gradients of order 0.1 against central differences with an error of step²
        expected = difference.item() / (2 * step)
        assert logits.grad[tuple(index)].item() == pytest.approx(expected, abs=2e-5)


@pytest.mark.parametrize("kind", ["independent", "sobol"])
def test_routes_follow_their_probabilities(kind: str) -> None:
    probability = torch.tensor([[0.1, 0.5, 0.95], [0.0, 1.0, 0.3]])
    routes = draw_routes(probability, 4096, kind, seeds=[7, 8])
    assert set(routes.unique().tolist()) == {0.0, 1.0}
    # 4 standard errors of independent draws at p = 0.5; Sobol points scatter less
    assert routes.mean(dim=0) == pytest.approx(probability, abs=4 * 0.5 / 64)


@pytest.mark.parametrize("kind", ["independent", "sobol"])
def test_a_subjects_routes_do_not_depend_on_its_neighbours(kind: str) -> None:
    probability = torch.rand(3, 5, generator=torch.Generator().manual_seed(9))
    together = draw_routes(probability, 16, kind, seeds=[1, 2, 3])
    alone = draw_routes(probability[2:], 16, kind, seeds=[3])
    assert torch.equal(together[:, 2:], alone)
