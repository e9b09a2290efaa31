"""Where in a study a training stands: what its name and the seeds of its draws follow from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mgmt_ray.base import fingerprint, stream_seed
from mgmt_ray.nets.build import AnyNetworkConfig
from mgmt_ray.splits.split import Split
from mgmt_ray.study.trial import Parts, Trial
from mgmt_ray.training.training_config import AnyTraining


@dataclass(frozen=True, slots=True)
class Place:
    """Where in a study a training stands.

    Attributes:
        network: its name in the study.
        channels: modalities that are its input channels.
        split: that it trains in.
        fold: which fold validates, from 0.
        seed: number of the repetition, from 0.
        study_seed: of the whole study.
        several: whether the study has several splits, so that names tell them apart.
    """

    network: str
    channels: tuple[str, ...]
    split: Split
    fold: int
    seed: int
    study_seed: int
    several: bool

    def stream(self, *purpose: str | int) -> int:
        """Seed of the draws of a training at this place.

        Args:
            *purpose: tells apart several trainings of one place.
        """
        outer = ("outer", self.split.outer) if self.split.outer else ()
        named = (self.network, "+".join(self.channels), self.fold, self.seed)
        return stream_seed(self.study_seed, *named, *outer, *purpose)

    def trial(
        self,
        name: str,
        network_config: AnyNetworkConfig,
        training_config: AnyTraining,
        stream: int,
        determined_by: dict[str, Any],
        hyperparameters: dict[str, float] | None = None,
        *,
        part: int | None = None,
        parts: Parts | None = None,
        needs: tuple[Trial, ...] = (),
    ) -> Trial:
        """A training at this place.

        Args:
            name: of what is trained.
            network_config: of the network.
            training_config: with a sweep's values put in.
            stream: seed of all its draws.
            determined_by: what its result follows from, besides the place and the stream.
            hyperparameters: what a sweep varies.
            part: see :class:`~mgmt_ray.study.trial.Trial`, as the next two.
            parts: how patients are dealt.
            needs: what must be finished before.
        """
        where = {
            "channels": self.channels,
            "fold": self.fold,
            "stream": stream,
            "split": self.split.hash,
        }
        return Trial(
            name=self._name(name),
            network=self.network,
            channels=self.channels,
            outer=self.split.outer,
            fold=self.fold,
            seed=self.seed,
            hyperparameters=hyperparameters or {},
            network_config=network_config,
            training_config=training_config,
            stream=stream,
            hash=fingerprint(determined_by | where),
            part=part,
            parts=parts,
            needs=needs,
        )

    def _name(self, trained: str) -> str:
        outer = f"outer{self.split.outer}_" if self.several else ""
        return f"{trained}_{'+'.join(self.channels)}_{outer}fold{self.fold}_seed{self.seed}"
