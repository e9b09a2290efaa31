"""SpotTune in three dimensions (Guo et al. 2019; Schmitz et al. 2024, sec. 2.3)."""

from __future__ import annotations

import copy
from typing import Any, NamedTuple, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx

from mgmt_ray.cohort.covariates import Covariate
from mgmt_ray.nets.head import (
    Covariates,
    Logits,
    Pooled,
    add_covariates,
    classify_pooled,
    make_covariate_head,
)
from mgmt_ray.nets.network import DrawPolicies, Route, VolumeNetwork
from mgmt_ray.nets.policy import sample_policy
from mgmt_ray.nets.resnet3d import Outputs, ResNet3d, Volumes, pool, run_stem

ROWS_ON_A_GPU = (8, 16, 32)
"""Batch sizes in which nodes of a trie pass a block on a GPU, where each new size costs time."""


class RoutedBlock(nn.Module):
    """A pretrained block beside a trainable copy of itself, mixed by a policy.

    Both branches run for every subject of a training batch: the policy's
    gradient needs the output that was not chosen.
    """

    def __init__(self, pretrained: nn.Module) -> None:
        super().__init__()
        self.tuned = copy.deepcopy(pretrained)
        self.frozen = pretrained.requires_grad_(False)

    def train(self, mode: bool = True) -> RoutedBlock:
        """Set the mode of the tuned branch; the frozen one stays in evaluation mode."""
        super().train(mode)
        self.frozen.eval()  # requires_grad does not stop BatchNorm's running averages
        return self

    def forward(self, x: Volumes, tuned: Float[Tensor, " batch"]) -> Outputs:
        """Mix the branches by eq. 1 of Schmitz et al. 2024; each contains its shortcut.

        Args:
            tuned: 1.0 takes the tuned branch, 0.0 the pretrained one.
        """
        return mix(tuned, self.tuned(x), self.frozen(x))


def mix(policy: Float[Tensor, " batch"], tuned: Volumes, frozen: Volumes) -> Volumes:
    """Return policy·tuned + (1 − policy)·frozen, in the precision of the two."""
    mixed: Tensor = _Mix.apply(policy, tuned, frozen)  # type: ignore[no-untyped-call]
    return mixed


class _Mix(torch.autograd.Function):
    """:func:`mix` whose gradient of the policy is computed at least in float32.

    Automatic differentiation would sum gradient·tuned and gradient·frozen separately, round both to
    the precision of the outputs, and subtract: in bfloat16 most of the difference would be lost.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, policy: Tensor, tuned: Tensor, frozen: Tensor) -> Tensor:
        ctx.save_for_backward(policy, tuned, frozen)
        choice = policy.to(tuned.dtype).view(-1, 1, 1, 1, 1)
        return choice * tuned + (1 - choice) * frozen

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        policy, tuned, frozen = ctx.saved_tensors
        choice = policy.to(tuned.dtype).view(-1, 1, 1, 1, 1)
        exact = torch.promote_types(tuned.dtype, torch.float32)
        policy_gradient = (gradient.to(exact) * (tuned.to(exact) - frozen.to(exact))).sum(
            (1, 2, 3, 4)
        )
        return policy_gradient.to(policy.dtype), gradient * choice, gradient * (1 - choice)


class AgentOptions(NamedTuple):
    """What else an agent takes.

    Attributes:
        dropout: probability to drop one of its pooled features while training.
        covariates: appended to them.
    """

    dropout: float = 0.0
    covariates: tuple[Covariate, ...] = ()


IMAGE_ALONE = AgentOptions()


class SpotTune(VolumeNetwork):
    """A pretrained network whose blocks an agent keeps frozen or tunes, per subject.

    Args:
        pretrained: provides the frozen stem, both copies of each block, and the classifier.
        agent: a network with two outputs per block of ``pretrained``.
        temperature: τ of the Gumbel-softmax relaxation.
        dropout: probability to drop a pooled feature while training; not applied to the agent.
        covariates: appended to the pooled features.
        agent_options: the same of the agent; by default it gets the image alone.

    >>> from mgmt_ray.nets.policy import gumbel_noise
    >>> pretrained, agent = (ResNet3d(10, 2, 1, outputs=number) for number in (1, 8))
    >>> network = SpotTune(pretrained, agent, temperature=1.0)
    >>> volumes, noise = torch.zeros(3, 1, 16, 16, 16), gumbel_noise(3, 4, torch.Generator())
    >>> network(volumes, noise).shape, network.tuned_probability(volumes).shape
    (torch.Size([3]), torch.Size([3, 4]))
    """

    def __init__(
        self,
        pretrained: ResNet3d,
        agent: ResNet3d,
        temperature: float,
        dropout: float = 0.0,
        covariates: tuple[Covariate, ...] = (),
        agent_options: AgentOptions = IMAGE_ALONE,
    ) -> None:
        super().__init__()
        blocks = pretrained.blocks
        assert agent.fc.out_features == 2 * len(blocks)
        self.conv1 = pretrained.conv1.requires_grad_(False)
        self.bn1 = pretrained.bn1.requires_grad_(False)
        self.routed = nn.ModuleList(RoutedBlock(block) for block in blocks)
        self.fc = pretrained.fc
        self.agent = agent
        self.temperature = temperature
        self.num_routed_blocks = len(blocks)
        self.dropout = dropout
        self.num_features = pretrained.fc.in_features
        self.covariate_head = make_covariate_head(self.num_features, covariates)
        self.agent_dropout = agent_options.dropout
        self.num_agent_features = agent.fc.in_features
        self.agent_head = make_covariate_head(
            self.num_agent_features, agent_options.covariates, agent.fc.out_features
        )

    @property
    def blocks(self) -> list[RoutedBlock]:
        """The routed blocks, the one after the stem first."""
        return [cast(RoutedBlock, block) for block in self.routed]

    def stem(self, volumes: Volumes) -> Outputs:
        """Return the pretrained stem's output."""
        return run_stem(self.conv1, self.bn1, volumes)

    def train(self, mode: bool = True) -> SpotTune:
        """Set the mode of the trained parts; stem and frozen branches stay in evaluation mode."""
        super().train(mode)
        self.bn1.eval()
        return self

    def policy_logits(
        self,
        volumes: Volumes,
        covariates: Covariates | None = None,
        keep: Pooled | None = None,
    ) -> Float[Tensor, "batch block 2"]:
        """Return the agent's log-odds per subject and block: [..., 0] frozen, [..., 1] tuned.

        Args:
            covariates: if the agent takes any; None counts all as not known.
            keep: see :func:`mgmt_ray.nets.head.dropout_mask`; None while evaluating.
        """
        features = self.agent.features(volumes)
        if keep is not None:
            features = features * keep.to(features.device, features.dtype)
        logits: Tensor = self.agent.fc(features)
        if self.agent_head is not None and covariates is not None:
            logits = logits + self.agent_head(covariates)
        return logits.view(-1, self.num_routed_blocks, 2)

    def tuned_probability(
        self, volumes: Volumes, covariates: Covariates | None = None
    ) -> Float[Tensor, "batch block"]:
        """Return the probability that a subject's policy tunes a block, in [0, 1]."""
        return torch.softmax(self.policy_logits(volumes, covariates), dim=-1)[..., 1]

    def forward(
        self,
        volumes: Volumes,
        noise: Float[Tensor, "batch block 2"] | None = None,
        keep: Pooled | None = None,
        covariates: Covariates | None = None,
        agent_keep: Pooled | None = None,
    ) -> Logits:
        assert noise is not None, "a policy is drawn"
        policy_logits = self.policy_logits(volumes, covariates, agent_keep)
        policy = sample_policy(policy_logits, self.temperature, noise)
        x = self.stem(volumes)
        for index, block in enumerate(self.blocks):
            x = block(x, policy[:, index])
        return add_covariates(self.classify(x, keep), self.covariate_head, covariates)

    def draw_logits(
        self,
        volumes: Float[Tensor, "batch ..."],
        covariates: Covariates | None,
        draw: DrawPolicies,
    ) -> tuple[Float[Tensor, "draw batch"], Float[Tensor, "batch block"] | None]:
        tuned = self.tuned_probability(volumes, covariates)
        logits = route_logits(self, volumes, draw(tuned))
        return add_covariates(logits, self.covariate_head, covariates), tuned

    @torch.no_grad()
    def fixed_route(self, volume: Float[Tensor, "1 channels depth height width"]) -> Route:
        (tuned,) = self.tuned_probability(volume) > 0.5
        blocks = [
            block.tuned if chosen else block.frozen
            for block, chosen in zip(self.blocks, tuned.tolist(), strict=True)
        ]
        return Route(self.stem, blocks, self.fc)

    def classify(
        self,
        features: Float[Tensor, "batch features depth height width"],
        keep: Pooled | None = None,
    ) -> Logits:
        """Return the image's part of the logits, from the last block's output."""
        return classify_pooled(self.fc, pool(features), keep)

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Return the trained parameters under "network" and "agent", each with its own rate."""
        agent_head = [] if self.agent_head is None else [*self.agent_head.parameters()]
        agent = [*self.agent.parameters(), *agent_head]
        tuned = [p for block in self.blocks for p in block.tuned.parameters()]
        head = [] if self.covariate_head is None else [*self.covariate_head.parameters()]
        return {"network": [*tuned, *self.fc.parameters(), *head], "agent": agent}


def route_logits(
    network: SpotTune,
    volumes: Volumes,
    routes: Float[Tensor, "draw batch block"],
    max_input_bytes: int = 2**29,
    batch_sizes: tuple[int, ...] | None = None,
) -> Float[Tensor, "draw batch"]:
    """Return the logits of each subject under each of its policies, without the covariates' part.

    Draws of one subject that agree on their first blocks share those blocks' outputs, and only the
    chosen branch is evaluated: the policies of a subject form a trie whose nodes are computed once.
    The stem runs once per subject. The result equals evaluating each draw separately, but for
    rounding: convolutions of another batch size may sum in another order.

    The trie is descended level by level while a level is narrow. A wider one is cut in two, and the
    second half waits until the first has reached the leaves, so that memory does not grow with the
    number of routes.

    Args:
        network: in evaluation mode.
        routes: 1.0 where a draw tunes a block.
        max_input_bytes: size of the inputs that pass a block together, at least one subject's; the
            total is several times as large.
        batch_sizes: in which nodes pass a block, ascending; the last batch is filled up to one of
            them. None: :data:`ROWS_ON_A_GPU` on a GPU; elsewhere all nodes at once.

    >>> pretrained, agent = (ResNet3d(10, 2, 1, outputs=number) for number in (1, 8))
    >>> network = SpotTune(pretrained, agent, temperature=1.0).eval()
    >>> routes = torch.zeros(100, 2, 4)  # 100 draws, 2 subjects, 4 blocks
    >>> route_logits(network, torch.zeros(2, 1, 16, 16, 16), routes).shape
    torch.Size([100, 2])
    """
    if batch_sizes is None:
        batch_sizes = ROWS_ON_A_GPU if volumes.is_cuda else ()
    num_blocks = network.num_routed_blocks
    # The trie is planned on the CPU: on a GPU each level would wait for the device.
    choices, new_from, leaf = _sorted_routes(routes.cpu())
    x = network.stem(volumes)
    pending = [(0, choices, new_from, x, torch.arange(len(x)))]
    pooled = []
    while pending:
        level, choices, new_from, x, rows = pending.pop()
        if level == num_blocks:
            pooled.append(pool(x)[rows.to(x.device)])
            continue
        # routes through a node are neighbours: it begins where this level or an earlier differs
        begins = (new_from <= level).nonzero().squeeze(1)
        is_new_parent = new_from[begins] < level
        parent = is_new_parent.cumsum(0) - 1
        num_parents = int(parent[-1]) + 1
        if len(begins) * x[0].nbytes > max_input_bytes and num_parents > 1:
            half = num_parents // 2
            cut = int(begins[is_new_parent][half])
            pending.append((level, choices[cut:], new_from[cut:], x, rows[half:]))
            pending.append((level, choices[:cut], new_from[:cut], x, rows[:half]))
            continue
        block, chosen = network.blocks[level], choices[begins, level]
        x, rows = _run_block(block, x, rows[parent], chosen, batch_sizes)
        pending.append((level + 1, choices, new_from, x, rows))
    return classify_pooled(network.fc, torch.cat(pooled), None)[leaf.to(volumes.device)]


def _sorted_routes(
    routes: Float[Tensor, "draw batch block"],
) -> tuple[Int[Tensor, "route block"], Int[Tensor, " route"], Int[Tensor, "draw batch"]]:
    """Return the distinct routes of each subject, sorted, as leaves of a trie.

    Returns:
        Choices; the first block in which a route differs from the one before it, -1 where the
        subject does; and each draw's row among them.
    """
    num_draws, batch, num_blocks = routes.shape
    subject = torch.arange(batch).view(1, batch, 1).expand(num_draws, batch, 1)
    table = torch.cat([subject, routes.long()], dim=2).view(num_draws * batch, num_blocks + 1)
    table, leaf = torch.unique(table, dim=0, return_inverse=True)
    differs = table[1:] != table[:-1]
    first = torch.cat([torch.zeros(1, dtype=torch.long), differs.int().argmax(dim=1)])
    return table[:, 1:], first - 1, leaf.view(num_draws, batch)


def _run_block(
    block: RoutedBlock,
    x: Float[Tensor, "row channels depth height width"],
    parent_row: Int[Tensor, " node"],
    choice: Int[Tensor, " node"],
    batch_sizes: tuple[int, ...],
) -> tuple[
    Float[Tensor, "out_row out_channels out_depth out_height out_width"], Int[Tensor, " node"]
]:
    """Run one block for all nodes, each through the branch it chose.

    Returns:
        Outputs, those of the frozen branch first, and the row of each node among them.
    """
    outputs, order = [], []
    for value, branch in enumerate((block.frozen, block.tuned)):
        nodes = (choice == value).nonzero().squeeze(1)
        if len(nodes):
            outputs += [
                branch(_take_rows(x, rows))[:kept]
                for rows, kept in _batches(parent_row[nodes], batch_sizes)
            ]
            order.append(nodes)
    joined = outputs[0] if len(outputs) == 1 else torch.cat(outputs)
    return joined, torch.argsort(torch.cat(order))


def _batches(
    rows: Int[Tensor, " part"], sizes: tuple[int, ...]
) -> list[tuple[Int[Tensor, " batch"], int]]:
    """Cut rows into batches of the largest size; return each with the number that counts.

    The last one repeats its last row up to the next size. Without sizes there is one batch.

    >>> [(batch.tolist(), kept) for batch, kept in _batches(torch.arange(6), (2, 4))]
    [([0, 1, 2, 3], 4), ([4, 5], 2)]
    >>> [(batch.tolist(), kept) for batch, kept in _batches(torch.arange(3), (2, 4))]
    [([0, 1, 2, 2], 3)]
    """
    if not sizes:
        return [(rows, len(rows))]
    filled = []
    for part in rows.split(sizes[-1]):
        missing = min(size for size in sizes if size >= len(part)) - len(part)
        filled.append((torch.cat([part, part[-1:].expand(missing)]), len(part)))
    return filled


def _take_rows(
    x: Float[Tensor, "row channels depth height width"], rows: Int[Tensor, " part"]
) -> Float[Tensor, "part channels depth height width"]:
    """Return rows of ``x``: a view where they are consecutive, else a copy."""
    start = int(rows[0])
    if torch.equal(rows, torch.arange(start, start + len(rows))):
        return x[start : start + len(rows)]
    return x[rows.to(x.device)]
