import math

import numpy as np
import pytest
import torch
from scipy.signal import correlate
from torch import Tensor, nn

from mgmt_ray.nets.head import dropout_mask
from mgmt_ray.nets.myronenko import (
    DROPOUT,
    NUM_LATENT,
    Block,
    Decoder,
    Encoder,
    NormalisedRelu,
    SegmentationNetwork,
    upsample,
)
from mgmt_ray.training.precision import autocast
from mgmt_ray.training.slice_objective import segmentation_loss, weight_penalty


def convolve(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    border = weight.shape[-1] // 2
    padded = np.pad(x, ((0, 0), (border, border), (border, border)))
    sums = [correlate(padded, kernel, mode="valid")[0] for kernel in weight]
    return np.stack(sums) + bias[:, None, None]


def normalise(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    groups = x.reshape(8, -1)
    scaled = (groups - groups.mean(1, keepdims=True)) / np.sqrt(groups.var(1, keepdims=True) + 1e-5)
    return np.maximum(scaled.reshape(x.shape) * weight[:, None, None] + bias[:, None, None], 0)


def test_a_block_computes_what_its_definition_says() -> None:
    torch.manual_seed(0)
    block = Block(8, 16).double()
    for p in block.parameters():
        torch.nn.init.normal_(p)
    x = torch.randn(8, 6, 5).double()
    named = {name: p.detach().numpy() for name, p in block.named_parameters()}

    def part(name: str) -> tuple[np.ndarray, np.ndarray]:
        return named[f"{name}.weight"], named[f"{name}.bias"]

    y = convolve(normalise(x.numpy(), *part("norm1")), *part("conv1"))
    y = convolve(normalise(y, *part("norm2")), *part("conv2"))
    expected = y + convolve(x.numpy(), *part("shortcut"))
    # float64 sums in another order
    np.testing.assert_allclose(block(x[None])[0].detach().numpy(), expected, rtol=1e-10, atol=1e-10)


def test_doubling_interpolates_between_pixels_centres() -> None:
    ramp = torch.arange(4.0).expand(1, 1, 4, 4)
    inner = torch.tensor([0.0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3.0])
    assert torch.equal(upsample(ramp), inner.expand(1, 1, 8, 8))


def test_a_decoder_adds_its_skips_from_the_coarsest_to_the_finest() -> None:
    torch.manual_seed(0)
    decoder = Decoder(8).eval()
    x = torch.randn(1, 64, 2, 2)
    skips = [torch.randn(1, 8 * 2**stage, 16 // 2**stage, 16 // 2**stage) for stage in (2, 1, 0)]
    with torch.no_grad():
        y = x
        for narrow, skip, block in zip(decoder.narrow, skips, decoder.blocks, strict=True):
            y = block(upsample(narrow(y)) + skip)
        expected = decoder.last(decoder.penalised(y))[:, 0]
        assert torch.equal(decoder(x, skips, None), expected)
        none = [torch.zeros_like(skip) for skip in skips]
        assert torch.equal(decoder(x, (), None), decoder(x, none, None))


def test_dropped_channels_do_not_reach_the_output() -> None:
    torch.manual_seed(0)
    decoder = Decoder(8).double()
    x = torch.randn(2, 64, 2, 2).double()
    keep = torch.ones(2, 8)
    keep[0, :5] = 0
    keep[1, 5:] = 2
    whole = decoder(x, (), None)
    dropped = decoder(x, (), keep)
    decoder.last.weight.data *= keep[:1, :, None, None]
    torch.testing.assert_close(dropped[0], decoder(x, (), None)[0])
    assert not torch.allclose(dropped[1], whole[1])


def test_what_stages_hand_on_is_bfloat16_as_on_a_gpu() -> None:
    torch.manual_seed(0)
    encoder, decoder = Encoder(8), Decoder(8)
    tensors = []
    for module in [*encoder.modules(), *decoder.modules()]:
        if isinstance(module, Block | NormalisedRelu):
            module.register_forward_hook(
                lambda _m, inputs, output: tensors.append((*inputs, output))
            )
    with autocast(torch.device("cpu"), "bf16"):
        *skips, deepest = encoder(torch.randn(2, 16, 16))
        pixels = decoder(deepest, skips[::-1], None)
    assert len(tensors) == 3 * 12
    assert {part.dtype for parts in tensors for part in parts} == {torch.bfloat16}
    assert pixels.dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_memory_format_changes_nothing(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    block = Block(16, 32).to(dtype)
    x = torch.randn(2, 16, 8, 8, dtype=dtype)
    expected = block(x)
    last = block.to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last))
    assert last.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(last, expected)  # sums in another order


def num_parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def make_network(width: int = 8, side: int | None = 16) -> SegmentationNetwork:
    torch.manual_seed(width)
    return SegmentationNetwork(width, None if side is None else (side, side))


def make_noise(batch: int, seed: int = 1) -> Tensor:
    return torch.randn(batch, NUM_LATENT, generator=torch.Generator().manual_seed(seed))


def test_the_segmentation_path_has_the_papers_size() -> None:
    assert num_parameters(SegmentationNetwork()) == 6_014_721


def test_two_modalities_enter_one_stem_and_are_rebuilt() -> None:
    torch.manual_seed(0)
    network = SegmentationNetwork(8, (32, 32), modalities=2)
    added = 9 * 8 + (8 + 1)  # kernels of the stem, and the last layer of the reconstruction
    assert num_parameters(network) == num_parameters(SegmentationNetwork(8, (32, 32))) + added
    images = torch.randn(3, 2, 32, 32)
    rebuilt = network(images, make_noise(3)).reconstruction
    assert rebuilt.images.shape == images.shape
    loss = segmentation_loss(network(images, make_noise(3)), images, (images[:, 0] > 0).float())
    errors = (rebuilt.images - images).square()
    # float32, summed in another order
    torch.testing.assert_close(loss.l2, errors.flatten(1).mean(1), rtol=1e-5, atol=0)
    changed = images.clone()
    changed[:, 1] += 1
    assert (network(changed).logits != network(images).logits).any()


def test_the_reconstruction_adds_to_it_and_takes_nothing_away() -> None:
    network = SegmentationNetwork(32, (128, 128))
    branch = network.reconstructor
    values = 16 * 8 * 8
    own = 2 * 256 + (256 * 16 * 9 + 16) + (values + 1) * 256 + (128 + 1) * values + (16 + 1) * 256
    assert num_parameters(branch) == own + num_parameters(network.decoder)
    assert num_parameters(network) == 6_014_721 + num_parameters(branch) == 6_913_618


def test_each_layer_has_the_papers_shape() -> None:
    # on the meta device nothing is computed
    with torch.device("meta"):
        network = SegmentationNetwork(32, (128, 128))
        shapes: dict[str, tuple[int, ...]] = {}
        for name, module in network.named_modules():
            if isinstance(module, Block | nn.Conv2d | nn.Linear):
                module.register_forward_hook(
                    lambda _m, _i, output, name=name: shapes.update({name: tuple(output.shape[1:])})
                )
        result = network(torch.empty(2, 128, 128), torch.empty(2, NUM_LATENT))
    blocks = [shapes[name] for name, module in network.named_modules() if isinstance(module, Block)]
    stages = [(32, 128, 128)] + 2 * [(64, 64, 64)] + 2 * [(128, 32, 32)] + 4 * [(256, 16, 16)]
    decoded = [(128, 32, 32), (64, 64, 64), (32, 128, 128)]
    assert blocks == stages + 2 * decoded
    assert shapes["encoder.stem"] == (32, 128, 128)
    halved = [shapes[f"encoder.halve.{i}"] for i in range(3)]
    assert halved == [(32, 64, 64), (64, 32, 32), (128, 16, 16)]
    for decoder in ("decoder", "reconstructor.decoder"):
        narrow = [shapes[f"{decoder}.narrow.{i}"] for i in range(3)]
        assert narrow == [(128, 16, 16), (64, 32, 32), (32, 64, 64)]
        assert shapes[f"{decoder}.penalised"] == (32, 128, 128)
        assert shapes[f"{decoder}.last"] == (1, 128, 128)
    assert shapes["reconstructor.reduce"] == (16, 8, 8)
    assert shapes["reconstructor.distribution"] == (256,)
    assert shapes["reconstructor.rebuild"] == (1024,)
    assert shapes["reconstructor.widen"] == (256, 8, 8)
    assert result.logits.shape == result.reconstruction.images.shape == (2, 128, 128)
    assert result.reconstruction.mean.shape == result.reconstruction.log_variance.shape == (2, 128)


def test_the_reconstruction_is_made_from_the_reparametrised_sample() -> None:
    network = make_network().double()
    samples = []
    rebuild = network.reconstructor.rebuild
    rebuild.register_forward_hook(lambda _m, inputs, _o: samples.append(*inputs))
    noise = make_noise(3).double()
    made = network(torch.randn(3, 16, 16).double(), noise).reconstruction
    expected = made.mean + torch.sqrt(torch.exp(made.log_variance)) * noise
    torch.testing.assert_close(samples[0], expected)


def test_without_noise_there_is_no_reconstruction_and_the_same_segmentation() -> None:
    network, images = make_network(), torch.randn(2, 16, 16)
    alone, both = network(images), network(images, make_noise(2))
    assert alone.reconstruction is None
    assert torch.equal(alone.logits, both.logits)


def test_nothing_is_drawn_inside() -> None:
    network = make_network().train()
    images, noise = torch.randn(2, 16, 16), make_noise(2)
    keep = dropout_mask(2, network.num_keep, DROPOUT, torch.Generator().manual_seed(0))
    before = torch.get_rng_state()
    results = [network(images, noise, keep) for _ in range(2)]
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(results[0].logits, results[1].logits)
    assert torch.equal(results[0].reconstruction.images, results[1].reconstruction.images)


def test_each_output_layer_has_its_own_half_of_the_kept_channels() -> None:
    network, images, noise = make_network().double(), torch.randn(2, 16, 16).double(), make_noise(2)
    whole = network(images, noise)
    keep = torch.ones(2, network.num_keep)
    keep[:, 8:] = 0
    result = network(images, noise, keep)
    assert torch.equal(result.logits, whole.logits)
    bias = network.reconstructor.decoder.last.bias.detach()
    assert torch.equal(result.reconstruction.images, bias.expand(2, 16, 16))


def test_a_slices_logits_do_not_depend_on_its_neighbours() -> None:
    network, images = make_network(16, None).double().eval(), torch.randn(5, 24, 40).double()
    alone = torch.cat([network(image[None]).logits for image in images])
    # float64 sums in another order
    torch.testing.assert_close(network(images).logits, alone, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("shape", [(20, 16), (16, 12)])
def test_sides_that_cannot_be_halved_three_times_are_refused(shape: tuple[int, int]) -> None:
    with pytest.raises(AssertionError, match=f"{shape[0]} × {shape[1]}: both sides must .* 8"):
        make_network()(torch.zeros(1, *shape))


def test_a_reconstruction_needs_sides_that_can_be_halved_four_times() -> None:
    with pytest.raises(AssertionError, match=r"24 × 24: with a reconstruction .* multiples of 16"):
        make_network(8, 24)


def test_widths_that_eight_groups_cannot_share_are_refused() -> None:
    with pytest.raises(AssertionError, match="width 12 is not a multiple of 8"):
        make_network(12)


def test_in_bfloat16_the_outputs_are_float32_and_near() -> None:
    network, images, noise = make_network(), torch.randn(2, 16, 16), make_noise(2)
    with torch.no_grad():
        full = network(images, noise)
        with autocast(torch.device("cpu"), "bf16"):
            half = network(images, noise)
    pairs = [
        (half.logits, full.logits),
        *zip(half.reconstruction, full.reconstruction, strict=True),
    ]
    for mine, theirs in pairs:
        assert mine.dtype == torch.float32
        # bfloat16 rounds by up to 2^-9, in some tens of layers
        assert (mine - theirs).norm() < 0.1 * theirs.norm()
    assert not torch.equal(half.logits, full.logits)


def test_weights_start_between_glorots_bounds_and_biases_at_zero() -> None:
    network = make_network(32, None)
    bound = math.sqrt(6 / (9 * 256 + 9 * 256))
    weight = network.encoder.stages[3][1].conv1.weight
    # the largest of 589,824 uniform draws misses its bound by a share of 2e-6 or so
    assert weight.abs().max().item() == pytest.approx(bound, rel=1e-4)
    assert weight.abs().max().item() <= bound
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            assert not module.bias.any()


def test_the_gradient_of_every_parameter_is_that_of_finite_differences() -> None:
    network = make_network().double()
    random = torch.Generator().manual_seed(3)
    for p in network.parameters():
        p.data += 0.1 * torch.randn(p.shape, generator=random).double()
    images = torch.randn(2, 16, 16, generator=random).double()
    masks = (images > 0.5).double()
    keep = dropout_mask(2, network.num_keep, DROPOUT, random)
    noise = make_noise(2).double()

    def loss() -> Tensor:
        parts = segmentation_loss(network(images, noise, keep), images, masks)
        return parts.total.mean() + weight_penalty(network.penalised_kernels())

    loss().backward()
    step = 1e-6
    with torch.no_grad():
        for name, p in network.named_parameters():
            way = torch.randn(p.shape, generator=random).double()
            p += step * way
            after = loss()
            p -= 2 * step * way
            expected = (after - loss()) / (2 * step)
            p += step * way
            # cut off at step² and rounded at 1e-16/step; a ReLU may change its side within a step
            assert (p.grad * way).sum().item() == pytest.approx(expected.item(), abs=1e-6), name


def test_he_normal_kernels_have_their_standard_deviation() -> None:
    torch.manual_seed(0)
    std = {
        kind: SegmentationNetwork(8, None, kind).encoder.state_dict() for kind in ("glorot", "he")
    }
    name = max(std["he"], key=lambda key: std["he"][key].numel())
    kernel = std["he"][name]
    assert kernel.std().item() == pytest.approx((2 / kernel[0].numel()) ** 0.5, rel=0.03)
    assert kernel.abs().max() > 3 * kernel.std()  # uniform ones end at √3 standard deviations
    assert std["glorot"][name].abs().max() < 2 * std["glorot"][name].std()
