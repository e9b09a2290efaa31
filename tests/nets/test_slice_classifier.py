import math

import numpy as np
import pytest
import torch
from scipy.signal import correlate
from torch import nn

from mgmt_ray.nets.slice_classifier import SliceClassifier
from mgmt_ray.training.precision import autocast


def make_classifier() -> SliceClassifier:
    torch.manual_seed(0)
    return SliceClassifier()


def test_the_classifier_has_the_papers_size() -> None:
    classifier = make_classifier()
    trained = sum(p.numel() for p in classifier.parameters())
    moving = sum(b.numel() for b in classifier.buffers() if b.is_floating_point())
    assert (trained, moving) == (3_458, 40)
    assert trained + moving == 3_498


def test_a_further_modality_adds_an_image_and_a_product() -> None:
    classifier = SliceClassifier(modalities=2)
    added = sum(p.numel() for p in classifier.parameters()) - 3_458
    assert added == 2 * 9 * 16
    assert classifier(torch.zeros(2, 5, 128, 128)).shape == (2, 2)


def test_each_layer_has_the_papers_shape() -> None:
    classifier = make_classifier()
    shapes = []
    for module in classifier.children():
        module.register_forward_hook(lambda _m, inputs, output: shapes.append(output.shape[1:]))
    inputs = []
    for name in ("conv2", "fc1"):
        module = classifier.get_submodule(name)
        module.register_forward_hook(lambda _m, given, _o: inputs.append(given[0].shape[1:]))
    classifier(torch.zeros(2, 3, 128, 128))
    assert shapes == [(16, 126, 126)] * 2 + [(4, 29, 29)] * 2 + [(12,), (2,)]
    assert inputs == [(16, 31, 31), (4 * 7 * 7,)]


def test_the_classifier_computes_what_its_definition_says() -> None:
    classifier = make_classifier().double().eval()
    random = torch.Generator().manual_seed(1)
    for tensor in (
        *classifier.parameters(),
        classifier.bn1.running_mean,
        classifier.bn2.running_var,
    ):
        tensor.data += 0.2 * torch.rand(tensor.shape, generator=random).double()
    slices = torch.randn(1, 3, 128, 128, generator=random).double()
    state = {name: tensor.numpy() for name, tensor in classifier.state_dict().items()}

    def stage(x: np.ndarray, conv: str, norm: str) -> np.ndarray:
        sums = [correlate(x, kernel, mode="valid")[0] for kernel in state[f"{conv}.weight"]]
        y = np.stack(sums) + state[f"{conv}.bias"][:, None, None]
        y = np.where(y > 0, y, 0.3 * y)
        scale = state[f"{norm}.weight"] / np.sqrt(state[f"{norm}.running_var"] + 1e-5)
        shift = state[f"{norm}.bias"] - scale * state[f"{norm}.running_mean"]
        y = y * scale[:, None, None] + shift[:, None, None]
        side = y.shape[1] // 4
        return y[:, : 4 * side, : 4 * side].reshape(len(y), side, 4, side, 4).max(axis=(2, 4))

    x = stage(stage(slices[0].numpy(), "conv1", "bn1"), "conv2", "bn2").ravel()
    x = np.maximum(state["fc1.weight"] @ x + state["fc1.bias"], 0)
    expected = state["fc2.weight"] @ x + state["fc2.bias"]
    # float64 sums in another order
    np.testing.assert_allclose(classifier(slices)[0].detach().numpy(), expected, rtol=1e-10)


def test_weights_start_from_hes_normal_distribution_and_biases_at_zero() -> None:
    classifier = make_classifier()
    for module in classifier.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            expected = math.sqrt(2 / module.weight[0].numel())
            number = module.weight.numel()
            # 4 standard errors of a normal sample's deviation
            tolerance = 4 / math.sqrt(2 * number)
            assert module.weight.std().item() == pytest.approx(expected, rel=tolerance)
            assert not module.bias.any()


def test_slices_of_another_size_are_refused() -> None:
    with pytest.raises(AssertionError, match="64 × 128: the classifier's are 128 × 128"):
        make_classifier()(torch.zeros(1, 3, 64, 128))


def test_in_bfloat16_logits_are_float32_and_layers_hand_on_bfloat16() -> None:
    classifier = make_classifier().eval()
    slices = torch.randn(3, 3, 128, 128, generator=torch.Generator().manual_seed(1))
    tensors = []
    classifier.conv2.register_forward_hook(
        lambda _m, inputs, output: tensors.extend((*inputs, output))
    )
    with torch.no_grad():
        full = classifier(slices)
        with autocast(torch.device("cpu"), "bf16"):
            half = classifier(slices)
    assert [part.dtype for part in tensors[2:]] == [torch.bfloat16] * 2
    assert half.dtype == torch.float32
    # bfloat16 rounds by up to 2^-9, in two convolutions and what follows each
    assert (half - full).norm() < 0.05 * full.norm()
    assert not torch.equal(half, full)


@pytest.mark.parametrize("convolutions", [3, 5])
def test_further_convolutions_keep_the_positions_and_the_linear_layers(convolutions: int) -> None:
    classifier = SliceClassifier(convolutions)
    kernels = [m for m in classifier.modules() if isinstance(m, nn.Conv2d)]
    assert [k.out_channels for k in kernels] == [16] + [4] * (convolutions - 1)
    assert classifier.fc1.in_features == 4 * 7 * 7
    output = classifier(torch.randn(3, 3, 128, 128))
    output.sum().backward()
    assert output.shape == (3, 2) and all(k.weight.grad.abs().sum() > 0 for k in kernels)


def test_kerass_constants_are_those_of_its_documentation() -> None:
    # BatchNormalization(momentum=0.99, epsilon=0.001); its momentum is of the old average
    norms = [m for m in SliceClassifier(3, "keras").modules() if isinstance(m, nn.BatchNorm2d)]
    assert [(1 - m.momentum, m.eps) for m in norms] == [(0.99, 0.001)] * 3
