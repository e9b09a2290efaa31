import numpy as np
import pytest
import torch
from scipy.signal import correlate

from mgmt_ray.nets.blocks2d import Block, Decoder, Encoder, NormalisedRelu, double
from mgmt_ray.training.precision import autocast


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
    assert torch.equal(double(ramp), inner.expand(1, 1, 8, 8))


def test_a_decoder_adds_its_skips_from_the_coarsest_to_the_finest() -> None:
    torch.manual_seed(0)
    decoder = Decoder(8).eval()
    x = torch.randn(1, 64, 2, 2)
    skips = [torch.randn(1, 8 * 2**stage, 16 // 2**stage, 16 // 2**stage) for stage in (2, 1, 0)]
    with torch.no_grad():
        y = x
        for narrow, skip, block in zip(decoder.narrow, skips, decoder.blocks, strict=True):
            y = block(double(narrow(y)) + skip)
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
    seen = []
    for module in [*encoder.modules(), *decoder.modules()]:
        if isinstance(module, Block | NormalisedRelu):
            module.register_forward_hook(lambda _m, inputs, output: seen.append((*inputs, output)))
    with autocast(torch.device("cpu"), "bf16"):
        *skips, deepest = encoder(torch.randn(2, 16, 16))
        pixels = decoder(deepest, skips[::-1], None)
    assert len(seen) == 3 * 12
    assert {part.dtype for parts in seen for part in parts} == {torch.bfloat16}
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
