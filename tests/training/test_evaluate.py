import numpy as np
import pytest
import torch

from mgmt_ray.base import stream_seed
from mgmt_ray.nets.policy import draw_policies
from mgmt_ray.training.evaluate import predict, predict_routed


def test_prediction_is_the_mean_over_the_draws(make_network, make_data) -> None:
    network, data = make_network("spottune"), make_data(3, 5)
    with torch.no_grad():
        for block in network.blocks:
            for p in block.tuned.parameters():
                p.add_(0.1 * torch.randn(p.shape))
    result = predict(
        network, data, num_draws=20, kind="independent", batch_size=2, seed=42, precision="fp32"
    )
    network.eval()
    volumes = data.volumes.float()
    seeds = [stream_seed(42, "policy", s) for s in data.subjects]
    with torch.no_grad():
        routes = draw_policies(network.tuned_probability(volumes), 20, "independent", seeds)
        drawn = []
        for route in routes:
            x = network.stem(volumes)
            for index, block in enumerate(network.blocks):
                x = block(x, route[:, index])
            drawn.append(torch.sigmoid(network.classify(x)))
    drawn = torch.stack(drawn).numpy()
    # float32 activations, summed in another order
    assert result.probability == pytest.approx(drawn.mean(axis=0), abs=1e-6)
    assert result.std == pytest.approx(drawn.std(axis=0), abs=1e-5)
    assert result.std.max() > 0
    label = data.labels.numpy()
    likelihood = np.where(label > 0, result.probability, 1 - result.probability)
    assert result.loss == pytest.approx(-np.log(likelihood))


def test_evaluation_leaves_mode_and_statistics_as_they_were(make_network, make_data) -> None:
    network = make_network("random").train()
    before = network.resnet.bn1.running_mean.clone()
    result = predict(network, make_data(3, 5), num_draws=1, kind="sobol", seed=1, precision="fp32")
    assert network.training
    assert torch.equal(network.resnet.bn1.running_mean, before)
    assert (result.std == 0).all()


def test_a_subjects_prediction_does_not_depend_on_the_others(make_network, make_data) -> None:
    network, data = make_network("spottune"), make_data(4, 5)
    settings = {"num_draws": 8, "kind": "sobol", "seed": 1, "precision": "fp32"}
    together = predict(network, data, **settings)
    alone = predict(network, data.select(np.array([2])), **settings)
    # convolutions of another batch size may round differently
    assert alone.probability[0] == pytest.approx(together.probability[2], abs=1e-6)


def test_the_loss_of_an_infinite_logit_is_infinite(make_network, make_data) -> None:
    network, data = make_network("random"), make_data(4, 5)
    with torch.no_grad():
        network.resnet.fc.bias.fill_(float("inf"))
    result = predict(network, data, num_draws=1, kind="sobol", seed=1, precision="fp32")
    assert np.isinf(result.loss).all()


def test_nobody_is_predicted_where_there_is_nobody(make_network, make_data) -> None:
    empty = make_data(4, 5).select(np.array([], dtype=int))
    settings = {"num_draws": 2, "kind": "sobol", "seed": 1, "precision": "fp32"}
    assert len(predict(make_network("spottune"), empty, **settings).probability) == 0


def test_given_policies_route_a_network_as_its_own_blocks_do(make_network, make_data) -> None:
    network, data = make_network("spottune").eval(), make_data(5, 1)
    with torch.no_grad():
        for block in network.blocks:
            for p in block.tuned.parameters():
                p.add_(0.05 * torch.randn(p.shape, generator=torch.Generator().manual_seed(1)))
    draws = {"num_draws": 20, "kind": "independent", "seed": 42, "precision": "fp32"}
    by_agent = predict(network, data, **draws)
    tuned = by_agent.tuned_probability
    policies = {"same": tuned, "all": np.ones_like(tuned), "none": np.zeros_like(tuned)}
    routed = predict_routed(network, data, policies, **draws)
    # float32 sums of batches of other sizes
    np.testing.assert_allclose(routed["same"], by_agent.probability, atol=1e-6)
    with torch.no_grad():
        for name, branch in (("all", "tuned"), ("none", "frozen")):
            x = network.stem(data.volumes.float())
            for block in network.blocks:
                x = getattr(block, branch)(x)
            expected = torch.sigmoid(network.classify(x))
            np.testing.assert_allclose(routed[name], expected, atol=1e-6)
    assert np.abs(routed["all"] - routed["none"]).max() > 1e-3
