"""A straightforward SpotTune training step: eager float32, files read sample by sample.

It is independent of ``mgmt_ray.nets`` and ``mgmt_ray.training``, but can load their weights.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

STAGES = {10: (1, 1, 1, 1), 50: (3, 4, 6, 3)}
STRIDES, DILATIONS = (1, 2, 1, 1), (1, 1, 2, 4)


class PlainBlock(nn.Module):
    """A residual block: convolutions of the given kernel sizes, each with BatchNorm."""

    def __init__(
        self, inputs: int, width: int, outputs: int, kernels: tuple[int, ...], stride: int, dil: int
    ) -> None:
        super().__init__()
        channels = [inputs, *[width] * (len(kernels) - 1), outputs]
        # He et al.'s bottleneck has its stride in the 3³ convolution, the basic block in its first
        strided = kernels.index(3)
        self.convolutions, self.norms = nn.ModuleList(), nn.ModuleList()
        for i, kernel in enumerate(kernels):
            spread = dil if kernel == 3 else 1
            self.convolutions.append(
                nn.Conv3d(
                    channels[i],
                    channels[i + 1],
                    kernel,
                    stride=stride if i == strided else 1,
                    padding=spread * (kernel // 2),
                    dilation=spread,
                    bias=False,
                )
            )
            self.norms.append(nn.BatchNorm3d(channels[i + 1]))
        self.shortcut = None
        if stride != 1 or inputs != outputs:
            convolution = nn.Conv3d(inputs, outputs, 1, stride=stride, bias=False)
            self.shortcut = nn.Sequential(convolution, nn.BatchNorm3d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        residual = x if self.shortcut is None else self.shortcut(x)
        for i, (convolution, norm) in enumerate(zip(self.convolutions, self.norms, strict=True)):
            x = norm(convolution(x))
            if i < len(self.norms) - 1:
                x = torch.relu(x)
        return torch.relu(x + residual)

    def parts(self) -> dict[str, nn.Module]:
        """Return its layers by their names in our blocks."""
        named: dict[str, nn.Module] = {}
        for i, (convolution, norm) in enumerate(zip(self.convolutions, self.norms, strict=True)):
            named |= {f"conv{i + 1}": convolution, f"bn{i + 1}": norm}
        return named if self.shortcut is None else named | {"downsample": self.shortcut}


def plain_blocks(depth: int, width: int) -> nn.ModuleList:
    blocks, inputs = nn.ModuleList(), width
    for stage, count in enumerate(STAGES[depth]):
        inner = width * 2**stage
        outputs, kernels = (4 * inner, (1, 3, 1)) if depth == 50 else (inner, (3, 3))
        for index in range(count):
            stride = STRIDES[stage] if index == 0 else 1
            blocks.append(PlainBlock(inputs, inner, outputs, kernels, stride, DILATIONS[stage]))
            inputs = outputs
    return blocks


class PlainStem(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.convolution = nn.Conv3d(1, width, 7, stride=2, padding=3, bias=False)
        self.norm = nn.BatchNorm3d(width)
        self.pool = nn.MaxPool3d(3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(torch.relu(self.norm(self.convolution(x))))


class PlainAgent(nn.Module):
    def __init__(self, width: int, num_blocks: int) -> None:
        super().__init__()
        self.stem, self.blocks = PlainStem(width), plain_blocks(10, width)
        self.linear = nn.Linear(8 * width, 2 * num_blocks)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.linear(x.mean(dim=(2, 3, 4))).view(len(x), -1, 2)


class PlainSpotTune(nn.Module):
    """Frozen and tuned branches of every block, mixed by a given policy."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.stem = PlainStem(width).requires_grad_(False)
        self.frozen = plain_blocks(50, width).requires_grad_(False)
        self.tuned = plain_blocks(50, width)
        self.linear = nn.Linear(32 * width, 1)

    def train(self, mode: bool = True) -> PlainSpotTune:
        super().train(mode)
        self.stem.eval()
        self.frozen.eval()
        return self

    def forward(self, x: Tensor, policy: Tensor) -> Tensor:
        x = self.stem(x)
        for index, (frozen, tuned) in enumerate(zip(self.frozen, self.tuned, strict=True)):
            action = policy[:, index].view(-1, 1, 1, 1, 1)
            x = frozen(x) * (1 - action) + tuned(x) * action
        return self.linear(x.mean(dim=(2, 3, 4)))


def gumbel_policy(logits: Tensor, noise: Tensor, temperature: float) -> Tensor:
    """Straight-through Gumbel-softmax; 1 tunes a block."""
    soft = torch.softmax((logits + noise) / temperature, dim=-1)
    hard = torch.zeros_like(soft).scatter_(-1, soft.argmax(dim=-1, keepdim=True), 1.0)
    return ((hard - soft).detach() + soft)[..., 1]


class VolumeFiles(Dataset[tuple[Tensor, Tensor]]):
    """One ``.npy`` file per volume, in float64."""

    def __init__(self, folder: Path, volumes: np.ndarray, labels: np.ndarray) -> None:
        self.labels = labels
        self.paths = [folder / f"{i}.npy" for i in range(len(labels))]
        for path, volume in zip(self.paths, volumes, strict=True):
            np.save(path, volume.astype(np.float64))

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        volume = torch.from_numpy(np.load(self.paths[index]))
        return volume, torch.tensor([float(self.labels[index])])


class PlainTraining:
    """A network, an agent, an optimiser for each, a loader, and metrics printed at every step."""

    bf16 = False
    """Whether PyTorch's autocast is used; never in timed steps."""

    def __init__(
        self, width: int, files: VolumeFiles, batch: int, temperature: float, device: str
    ) -> None:
        self.network = PlainSpotTune(width).to(device).train()
        self.agent = PlainAgent(width, len(self.network.tuned)).to(device).train()
        trained = [p for p in self.network.parameters() if p.requires_grad]
        self.optimizers = (
            torch.optim.Adam(trained, lr=1e-5),
            torch.optim.Adam(self.agent.parameters(), lr=1e-4),
        )
        self.temperature, self.device = temperature, device
        on_gpu = device.startswith("cuda")
        self.loader = DataLoader(files, batch, shuffle=True, drop_last=True, pin_memory=on_gpu)
        self.batches: Iterator[tuple[Tensor, Tensor]] = iter(())
        self.screen = io.StringIO()

    def parts(self) -> dict[str, nn.Module]:
        """Return its layers by their names in our SpotTune network."""
        network, agent = self.network, self.agent
        named: dict[str, nn.Module] = {"fc": network.linear, "agent.fc": agent.linear}
        for prefix, stem in (("", network.stem), ("agent.", agent.stem)):
            named |= {f"{prefix}conv1": stem.convolution, f"{prefix}bn1": stem.norm}
        blocks = {f"agent.layer{i + 1}.0": block for i, block in enumerate(agent.blocks)}
        for branch, all_blocks in (("frozen", network.frozen), ("tuned", network.tuned)):
            blocks |= {f"routed.{i}.{branch}": block for i, block in enumerate(all_blocks)}
        for prefix, block in blocks.items():
            assert isinstance(block, PlainBlock)
            named |= {f"{prefix}.{name}": layer for name, layer in block.parts().items()}
        return named

    def take(self, state: Mapping[str, Tensor]) -> None:
        """Load the weights of our SpotTune network."""
        for prefix, layer in self.parts().items():
            layer.load_state_dict(_part(state, f"{prefix}."))

    def parameters(self) -> dict[str, nn.Parameter]:
        """Return the trained parameters by their names in our SpotTune network."""
        return {
            f"{prefix}.{name}": parameter
            for prefix, layer in self.parts().items()
            for name, parameter in layer.named_parameters()
            if parameter.requires_grad
        }

    def logits(self, volumes: Tensor, noise: Tensor) -> Tensor:
        with torch.autocast(volumes.device.type, torch.bfloat16, enabled=self.bf16):
            policy = gumbel_policy(self.agent(volumes), noise, self.temperature)
            return self.network(volumes, policy).float()

    def step(self) -> None:
        """Train on the next batch of the loader."""
        try:
            volumes, labels = next(self.batches)
        except StopIteration:
            self.batches = iter(self.loader)
            volumes, labels = next(self.batches)
        volumes = volumes.to(self.device, dtype=torch.float)
        labels = labels.to(self.device, dtype=torch.float)
        shape = (len(volumes), len(self.network.tuned), 2)
        noise = -torch.log(-torch.log(torch.rand(shape, device=self.device) + 1e-20) + 1e-20)
        self.learn(volumes, labels, noise)

    def learn(self, volumes: Tensor, labels: Tensor, noise: Tensor) -> Tensor:
        """Train on a batch; return its logits [row, 1] before the step."""
        predicted = self.logits(volumes, noise)
        loss = nn.functional.binary_cross_entropy_with_logits(predicted, labels)
        right = ((predicted > 0).float() == labels).float().mean()
        for optimizer in self.optimizers:
            optimizer.zero_grad()
        loss.backward()
        for optimizer in self.optimizers:
            optimizer.step()
        print(f"loss {loss.item():.4f}, accuracy {right.item():.4f}", end="\r", file=self.screen)
        return predicted.detach()


def _part(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
