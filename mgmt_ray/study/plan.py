"""The plan: every trial of a study, each with an id that contains a hash of all its inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mgmt_ray.base import fingerprint, stream_seed
from mgmt_ray.nets.build import SegmentationConfig, SliceClassifierConfig, VolumeNetworkConfig
from mgmt_ray.nets.network import AnyNetworkConfig
from mgmt_ray.splits.split import Split
from mgmt_ray.study.search_config import AGENT_KEYS, Values, short_text
from mgmt_ray.study.study_config import SlicePipelineConfig, StudyConfig
from mgmt_ray.study.trial import InnerFolds, Trial
from mgmt_ray.training.training_config import AnyTraining, TrainingConfig, determining_keys


@dataclass(frozen=True, slots=True)
class TrialKey:
    """Network, input, split, fold and repetition of a trial.

    Attributes:
        repeat: index of the repetition, from 0.
        has_outer_folds: whether the study has several splits, so that names contain their index.
    """

    network: str
    channels: tuple[str, ...]
    split: Split
    fold: int
    repeat: int
    study_seed: int
    has_outer_folds: bool

    def derive_seed(self, *purpose: str | int) -> int:
        """Return the seed of all draws of a trial."""
        outer = ("outer", self.split.outer_fold) if self.split.outer_fold else ()
        parts = (self.network, "+".join(self.channels), self.fold, self.repeat)
        return stream_seed(self.study_seed, *parts, *outer, *purpose)

    def make_trial(
        self,
        name: str,
        network_config: AnyNetworkConfig,
        training_config: AnyTraining,
        seed: int,
        determined_by: dict[str, Any],
        hyperparameters: Values | None = None,
        *,
        inner_fold: int | None = None,
        inner_folds: InnerFolds | None = None,
        needs: tuple[Trial, ...] = (),
    ) -> Trial:
        """Return a trial of this key.

        Args:
            name: of the trained network, for the trial's name.
            determined_by: inputs of the result other than key and seed, for the trial's hash.
        """
        key = {
            "channels": self.channels,
            "fold": self.fold,
            "stream": seed,
            "split": self.split.hash,
        }
        outer = f"outer{self.split.outer_fold}_" if self.has_outer_folds else ""
        values = f"{short_text(hyperparameters)}_" if hyperparameters else ""
        key_text = f"{values}{outer}fold{self.fold}_seed{self.repeat}"
        return Trial(
            name=f"{name}_{'+'.join(self.channels)}_{key_text}",
            network=self.network,
            channels=self.channels,
            outer_fold=self.split.outer_fold,
            fold=self.fold,
            repeat=self.repeat,
            hyperparameters=hyperparameters or {},
            network_config=network_config,
            training_config=training_config,
            seed=seed,
            hash=fingerprint(determined_by | key),
            inner_fold=inner_fold,
            inner_folds=inner_folds,
            needs=needs,
        )


def make_plan(
    study: StudyConfig, splits: Sequence[Split], choices: Mapping[Unit, Values] | None = None
) -> list[Trial]:
    """Return all trials: network × input × repetition × split × fold.

    A network of kind slices has several trials for each of these, of which the last one predicts
    methylation.

    Args:
        choices: what a search chose for each unit (see :meth:`Unit.of`); without it the study's
            own values.

    >>> from mgmt_ray.base import parse
    >>> study = parse(StudyConfig, {
    ...     "name": "example",
    ...     "cohort": {"reader": "upenn", "root": "data", "modalities": ["FLAIR"]},
    ...     "networks": {"scratch": {"kind": "random"}},
    ... }, "study.yaml")
    >>> split = Split(("P1",), (("P2",), ("P3",)), (), seed=0, cohort="")
    >>> [trial.name for trial in make_plan(study, [split])]
    ['scratch_FLAIR_fold0_seed0', 'scratch_FLAIR_fold1_seed0']
    """
    return [
        trial
        for network in study.networks
        for channels in study.model_inputs
        for repeat in range(study.num_seeds)
        for split in splits
        for trial in _trials_of_split(
            study,
            TrialKey(network, channels, split, 0, repeat, study.seed, len(splits) > 1),
            (choices or {}).get(Unit.of(study, network, channels, split.outer_fold), {}),
        )
    ]


@dataclass(frozen=True, slots=True)
class Unit:
    """What a search makes one choice for.

    Attributes:
        channels: of the input; empty where one configuration is for all inputs.
    """

    network: str
    channels: tuple[str, ...]
    outer_fold: int

    @classmethod
    def of(
        cls, study: StudyConfig, network: str, channels: tuple[str, ...], outer_fold: int
    ) -> Unit:
        """Return the unit that an input of a network belongs to in an outer split."""
        shared = study.search is None or study.search.unit == "shared"
        return cls(network, () if shared else channels, outer_fold)


def unit_trials(
    study: StudyConfig, splits: Sequence[Split], unit: Unit, values: Values, repeats: Sequence[int]
) -> list[Trial]:
    """Return the trials of one configuration of a unit: those of a study with these values.

    Args:
        repeats: indices of the repetitions.
    """
    (split,) = (split for split in splits if split.outer_fold == unit.outer_fold)
    return [
        trial
        for channels in ((unit.channels,) if unit.channels else study.model_inputs)
        for repeat in repeats
        for trial in _trials_of_split(
            study,
            TrialKey(unit.network, channels, split, 0, repeat, study.seed, len(splits) > 1),
            values,
        )
    ]


def _trials_of_split(study: StudyConfig, key: TrialKey, values: Values) -> list[Trial]:
    """Return the trials of all folds of a key's split."""
    changed = study.with_values(values) if values else study
    return [
        trial
        for fold in range(len(key.split.folds))
        for trial in _trials(changed, replace(key, fold=fold), values)
    ]


def _determined_by(
    network: VolumeNetworkConfig, training: TrainingConfig
) -> dict[str, dict[str, Any]]:
    """Return the parts of both configurations that affect a result."""
    network_keys = network.model_dump(mode="json")
    training_keys = determining_keys(training)
    if network.start_from is not None:
        # only the name of the trial's folder matters: it ends with the trial's hash
        network_keys["start_from"] = network.start_from.name
    if network.kind != "spottune":  # without an agent
        for name in AGENT_KEYS:
            network_keys.pop(name, None)
            training_keys.pop(name, None)
    return {"network": network_keys, "training": training_keys}


def _trials(study: StudyConfig, key: TrialKey, values: Values) -> list[Trial]:
    """Return the trials of one key; the study has the values already."""
    config, training = study.networks[key.network], study.training
    if isinstance(config, SlicePipelineConfig):
        return slice_trials(study, config, key, values)
    determined_by = _determined_by(config, training) | {
        "recipe": study.recipe.model_dump(mode="json"),
    }
    return [key.make_trial(key.network, config, training, key.derive_seed(), determined_by, values)]


def slice_trials(
    study: StudyConfig, config: SlicePipelineConfig, key: TrialKey, values: Values
) -> list[Trial]:
    """Return the fold's segmentation, those that leave out a part each, and the classifier."""

    def determined_by(network: AnyNetworkConfig, training: AnyTraining) -> dict[str, Any]:
        return {
            "network": network.model_dump(mode="json"),
            "training": determining_keys(training),
            "slices": study.slices.model_dump(mode="json"),
        }

    segmenter = SegmentationConfig(
        width=config.width, shape=study.slices.shape, initialisation=config.initialisation
    )
    classifier_key, key = key, replace(key, network=config.segmentations_of or key.network)
    of_segmentation = determined_by(segmenter, config.segmentation)
    name = f"{key.network}-segmentation"
    seed = key.derive_seed("segmentation")
    inner_folds = InnerFolds(config.parts, key.derive_seed()) if config.cross_fitted else None
    settings = (segmenter, config.segmentation)
    trials = [key.make_trial(name, *settings, seed, of_segmentation, inner_folds=inner_folds)]
    for part in range(inner_folds.number) if inner_folds else ():
        assert inner_folds is not None
        division = {"part": part, "parts": [inner_folds.number, inner_folds.seed]}
        trials.append(
            key.make_trial(
                f"{name}-without{part}",
                *settings,
                key.derive_seed("segmentation", part),
                of_segmentation | division,
                inner_fold=part,
                inner_folds=inner_folds,
            )
        )
    classifier = SliceClassifierConfig(
        convolutions=config.convolutions, batch_norm=config.batch_norm
    )
    needs = {"needs": [trial.id for trial in trials]}
    classification = classifier_key.make_trial(
        classifier_key.network,
        classifier,
        config.classification,
        classifier_key.derive_seed(),
        determined_by(classifier, config.classification) | needs,
        values,  # segmentations may be shared by several
        inner_folds=inner_folds,
        needs=tuple(trials),
    )
    shared = config.segmentations_of is not None
    return [*([] if shared else trials), classification]
