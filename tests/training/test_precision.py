import copy
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.multiprocessing as multiprocessing
from torch import nn

from mgmt_ray.base import MgmtError
from mgmt_ray.nets.build import NetworkConfig, build_volume_network
from mgmt_ray.nets.spottune import mix
from mgmt_ray.training.checkpoint import load_state, save_state, trained_weights
from mgmt_ray.training.evaluate import predict
from mgmt_ray.training.loop import TrainingState, fit
from mgmt_ray.training.precision import autocast, cost_of_settings, resolve_auto, search_kernels
from mgmt_ray.training.training_config import TrainingConfig

CONFIG = TrainingConfig(
    epochs=3,
    batch_size=4,
    learning_rate=1e-3,
    agent_learning_rate=1e-3,
    temperature=1.0,
    validation_draws=4,
)
BF16 = CONFIG.model_copy(update={"precision": "bf16"})


def run(network, training, validation, config: TrainingConfig) -> list:
    state = TrainingState(network, config)
    return list(fit(state, training, validation, config, 3))


@pytest.mark.parametrize("kind", ["spottune", "random", "transfer"])
def test_bf16_trains_close_to_fp32(kind: str, make_network, make_data) -> None:
    sets = (make_data(12, 1), make_data(6, 2))
    full = run(make_network(kind), *sets, CONFIG)
    half = run(make_network(kind), *sets, BF16)
    for mine, theirs in zip(half, full, strict=True):
        # bfloat16 rounds by up to 2^-9; some tens of layers, and three epochs of Adam, whose steps
        # keep their length where a gradient changes its sign
        assert mine.train.loss == pytest.approx(theirs.train.loss, abs=0.1)
        assert mine.validation.loss == pytest.approx(theirs.validation.loss, abs=0.1)
    differs = [m.train.loss != t.train.loss for m, t in zip(half, full, strict=True)]
    assert all(differs), "bf16 has no effect"


def test_convolutions_compute_in_bfloat16_and_logits_do_not(make_network, make_data) -> None:
    network = make_network("spottune").train()
    tensors = {}
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv3d | nn.Linear):
            module.register_forward_hook(
                lambda _m, _i, output, name=name: tensors.update({name: output.dtype})
            )
    with autocast(torch.device("cpu"), "bf16"):
        logits = network(make_data(4, 1).volumes.float(), torch.zeros(4, 4, 2))
    classifiers = {"fc", "agent.fc"}
    assert {tensors[name] for name in classifiers} == {logits.dtype} == {torch.float32}
    assert {tensors[name] for name in tensors.keys() - classifiers} == {torch.bfloat16}


def test_what_blocks_hand_on_is_bfloat16_as_on_a_gpu(make_network, make_data) -> None:
    network = make_network("spottune").train()
    tensors = []
    for block in network.blocks:
        block.register_forward_hook(lambda _m, inputs, output: tensors.append((inputs[0], output)))
    with autocast(torch.device("cpu"), "bf16"):
        network(make_data(4, 1).volumes.float(), torch.zeros(4, 4, 2))
    assert len(tensors) == 4
    assert {part.dtype for pair in tensors for part in pair} == {torch.bfloat16}


def test_a_policys_gradient_keeps_its_digits_in_bfloat16() -> None:
    random = torch.Generator().manual_seed(0)
    large = 4 + torch.rand((3, 8, 6, 6, 6), generator=random)
    tuned = large.bfloat16()
    frozen = (large + 0.05 * torch.randn(large.shape, generator=random)).bfloat16()
    gradient = torch.randn(large.shape, generator=random).bfloat16()
    policy = torch.tensor([0.0, 1.0, 1.0], requires_grad=True)
    mix(policy, tuned, frozen).backward(gradient)
    difference = tuned.double() - frozen.double()
    expected = (gradient.double() * difference).sum((1, 2, 3, 4))
    # sums of 1728 products in float32; two sums of products in bfloat16 would differ by a fifth
    assert policy.grad.double() == pytest.approx(expected, rel=1e-4)


def test_bf16_is_refused_where_its_kernels_are_wrong(make_data) -> None:
    config = NetworkConfig(kind="random", depth=10, width=8)
    sets = (make_data(8, 1), make_data(6, 2))  # of 12 slices
    with pytest.raises(MgmtError, match="bf16 with volumes of 12 slices is wrong on CPUs"):
        run(build_volume_network(config, 1, 1.0, None), *sets, BF16)
    one_epoch = CONFIG.model_copy(update={"epochs": 1})
    assert len(run(build_volume_network(config, 1, 1.0, None), *sets, one_epoch)) == 1


def test_auto_on_a_cpu_is_what_ran_before_there_was_auto() -> None:
    auto = CONFIG.model_copy(update={"precision": "auto", "compile": "auto"})
    assert resolve_auto(auto, torch.device("cpu")) == CONFIG
    given = CONFIG.model_copy(update={"precision": "bf16", "compile": True})
    assert resolve_auto(given, torch.device("cpu")) == given


def test_costs_are_told_of_settings_on_a_gpu_alone() -> None:
    assert [cost.split(":")[0] for cost in cost_of_settings(CONFIG, "cuda")] == [
        "precision",
        "compile",
    ]
    assert cost_of_settings(CONFIG, "cpu") == []
    auto = CONFIG.model_copy(update={"precision": "auto", "compile": "auto"})
    assert cost_of_settings(auto, "cuda") == []


@pytest.mark.parametrize(
    ("device", "precision", "searches"),
    [("cuda", "bf16", True), ("cuda", "fp32", False), ("cpu", "bf16", False)],
)
def test_cudnn_searches_in_training_steps_of_bf16_on_a_gpu_alone(
    device: str, precision: str, searches: bool
) -> None:
    with search_kernels(torch.device(device), precision):
        assert torch.backends.cudnn.benchmark is searches
    assert torch.backends.cudnn.benchmark is False


def test_weights_and_saved_tensors_stay_float32(make_network, make_data) -> None:
    state = TrainingState(make_network("spottune"), BF16)
    next(fit(state, make_data(8, 1), make_data(6, 2), BF16, 3))
    floating = [v for v in trained_weights(state.network).values() if v.is_floating_point()]
    assert {v.dtype for v in floating} == {torch.float32}
    assert all(v.is_contiguous() for v in floating)


def test_evaluation_is_in_the_precision_of_training(make_network, make_data) -> None:
    network, data = make_network("random"), make_data(6, 2)
    settings = {"num_draws": 1, "kind": "sobol", "seed": 1}
    half = predict(network, data, precision="bf16", **settings)
    full = predict(network, data, precision="fp32", **settings)
    assert not (half.probability == full.probability).all()
    assert half.probability == pytest.approx(full.probability, abs=0.05)  # see above
    epoch = run(network, make_data(8, 1), data, BF16.model_copy(update={"epochs": 1}))[0]
    again = predict(network, data, precision="bf16", **settings)
    assert (epoch.predictions.probability == again.probability).all()


def test_bf16_resumed_equals_uninterrupted_to_the_bit(
    make_network, make_data, tmp_path: Path
) -> None:
    sets = (make_data(8, 1), make_data(6, 2))
    whole = TrainingState(make_network("spottune"), BF16)
    expected = []
    for epoch in fit(whole, *sets, BF16, 3):
        expected.append(epoch.predictions.probability.tolist())
        if epoch.number == 1:
            save_state(whole.state_dict(), tmp_path / "state.pt")
    resumed = TrainingState(make_network("spottune"), BF16)
    resumed.load_state_dict(load_state(tmp_path / "state.pt"))
    continued = [e.predictions.probability.tolist() for e in fit(resumed, *sets, BF16, 3)]
    assert continued == expected[1:]
    for name, value in whole.network.state_dict().items():
        assert torch.equal(value, resumed.network.state_dict()[name]), name


def test_a_state_that_a_gpu_saved_continues_alike(make_network, make_data) -> None:
    """A GPU keeps weights and moments with channels last; here they are saved so on purpose."""
    sets = (make_data(8, 1), make_data(6, 2))
    whole = TrainingState(make_network("spottune"), BF16)
    next(epochs := fit(whole, *sets, BF16, 3))
    saved = copy.deepcopy(whole.state_dict())
    for moments in saved["optimizer"]["state"].values():
        for name in ("exp_avg", "exp_avg_sq"):
            if moments[name].dim() == 5:
                moments[name] = moments[name].to(memory_format=torch.channels_last_3d)
    for group in saved["optimizer"]["param_groups"]:
        group["fused"] = False
    next(epochs)
    resumed = TrainingState(make_network("spottune"), BF16)
    resumed.load_state_dict(saved)
    assert all(group["fused"] for group in resumed.optimizer.param_groups)
    next(fit(resumed, *sets, BF16, 3))
    for name, value in whole.network.state_dict().items():
        assert torch.equal(value, resumed.network.state_dict()[name]), name


def _train_compiled_and_eager(_: int, networks: list, sets: list, folder: str) -> None:
    torch.set_num_threads(1)
    losses = []
    for compiles, network in zip((False, True), networks, strict=True):
        epochs = run(network, *sets, CONFIG.model_copy(update={"compile": compiles}))
        losses.append([(e.train.loss, e.validation.loss) for e in epochs])
    graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    torch.save((losses, graphs), f"{folder}/result.pt")


@pytest.mark.skipif(shutil.which("g++") is None, reason="compiling needs g++")
def test_a_compiled_step_trains_as_an_eager_one(make_network, make_data, tmp_path: Path) -> None:
    # Batches of 4 and of 3 rows: one graph in all epochs. Only the classifier is trained, since
    # compiling takes half a minute per block. In a process where no shapes are checked.
    sets = [replace(d, volumes=d.volumes.double()) for d in (make_data(11, 1), make_data(6, 2))]
    networks = [make_network("transfer").double() for _ in range(2)]
    multiprocessing.spawn(_train_compiled_and_eager, (networks, sets, str(tmp_path)), nprocs=1)
    (eager, compiled), graphs = torch.load(tmp_path / "result.pt")
    assert graphs == 1
    # float64, where only the order of sums differs; Adam enlarges the rounding of small gradients
    assert compiled == [pytest.approx(losses, abs=1e-6) for losses in eager]


def _train_with_a_broken_compiler(_: int, network, sets: list, folder: str) -> None:
    os.environ |= {"CXX": "/bin/false", "TORCHINDUCTOR_CACHE_DIR": f"{folder}/cache"}
    torch.set_num_threads(1)
    try:
        run(network, *sets, CONFIG.model_copy(update={"compile": True}))
    except MgmtError as error:
        Path(folder, "message").write_text(str(error))


@pytest.mark.skipif(shutil.which("g++") is None, reason="compiling needs g++")
def test_a_failing_compiler_is_reported_in_one_line(
    make_network, make_data, tmp_path: Path
) -> None:
    sets = [make_data(8, 1), make_data(6, 2)]
    arguments = (make_network("transfer"), sets, str(tmp_path))
    multiprocessing.spawn(_train_with_a_broken_compiler, arguments, nprocs=1)
    message = (tmp_path / "message").read_text()
    assert message.startswith("training.compile: compiling failed")
    assert f"Delete the compiler's cache, {tmp_path}/cache" in message
    assert "\n" not in message


def test_compiling_without_a_compiler_is_refused(make_network, make_data, monkeypatch) -> None:
    monkeypatch.setenv("PATH", "")
    config = CONFIG.model_copy(update={"compile": True})
    with pytest.raises(MgmtError, match=r"training\.compile needs a compiler \(g\+\+ or clang"):
        run(make_network("transfer"), make_data(8, 1), make_data(6, 2), config)
