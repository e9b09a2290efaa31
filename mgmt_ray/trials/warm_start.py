"""Starting a trial from another's weights, which must not have seen whom this one is judged by.

Every trial says in ``trial.json`` whose volumes its weights were trained on and by whom its epoch
was chosen, those of the trial that it started from included.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from glob import escape
from pathlib import Path
from typing import Any

from mgmt_ray.base import MgmtError, file_checksum
from mgmt_ray.cohort.cohort import Cohort
from mgmt_ray.selection.predictions import shorten_list
from mgmt_ray.splits.split import Split
from mgmt_ray.study.folder import WEIGHTS
from mgmt_ray.study.trial import Trial
from mgmt_ray.trials.slice_trial import exclude_inner_fold

ARCHITECTURE = ("kind", "depth", "width", "agent_depth", "agent_width", "covariates")
"""Keys of a network in which a trial and the one that it starts from are alike."""


@dataclass(frozen=True, slots=True)
class InitialWeights:
    """A finished trial that others start from.

    Attributes:
        folder: its folder.
        metadata: its ``trial.json``.
    """

    folder: Path
    metadata: dict[str, Any]

    @property
    def weights(self) -> Path:
        """Its weights."""
        return self.folder / WEIGHTS

    @property
    def persons(self) -> dict[str, list[str]]:
        """Persons that its weights were ``trained`` on, and those that they were ``chosen`` by."""
        persons: dict[str, list[str]] = self.metadata["persons"]
        return persons


def find_initial_weights(trial: Trial) -> InitialWeights | None:
    """The trial that a trial starts from, if its network says that there is one.

    Raises:
        MgmtError: none or several trained trials are meant, or one that does not say whom it saw.
    """
    if trial.network_config.start_from is None:
        return None
    text = str(trial.network_config.start_from)
    for name in ("modality", "outer_fold", "fold", "repeat"):
        text = text.replace(f"{{{name}}}", str(getattr(trial, name)))
    path = Path(text).absolute()
    pattern = "*".join(escape(part) for part in str(path.relative_to(path.anchor)).split("*"))
    # one that diverged has no weights
    files = ("trial.json", WEIGHTS)
    found = [p for p in Path(path.anchor).glob(pattern) if all((p / f).is_file() for f in files)]
    if len(found) != 1:
        raise MgmtError(
            f"trial {trial.id} starts from {text}: {len(found)} trials with weights are there. "
            f"Name one that was trained and did not diverge in networks.{trial.network}.start_from."
        )
    return InitialWeights(found[0], _read_metadata(found[0]))


def _read_metadata(folder: Path) -> dict[str, Any]:
    """What a trial says of itself, if its weights are those that it left."""
    try:
        metadata: dict[str, Any] = json.loads((folder / "trial.json").read_text(encoding="utf-8"))
        metadata["persons"]["trained"], metadata["persons"]["chosen"], metadata["weights_sha256"]
    except (ValueError, KeyError, TypeError) as error:
        raise MgmtError(
            f"{folder}/trial.json: does not say whom it was trained on, so nothing can start from "
            "it. Train that trial anew in its own study."
        ) from error
    if file_checksum(folder / WEIGHTS) != metadata["weights_sha256"]:
        raise MgmtError(
            f"{folder / WEIGHTS}: its checksum is not the one in trial.json, so these weights may "
            "have seen others than it says. Train that trial anew in its own study."
        )
    return metadata


def check_initial_weights(
    trial: Trial, initial: InitialWeights, split: Split, cohort: Cohort, checkpoint: str | None
) -> None:
    """Raise MgmtError unless a trial may start from another.

    Args:
        trial: that shall start.
        initial: from where.
        split: of the trial.
        cohort: its subjects.
        checkpoint: checksum of the pretrained weights that both must have begun with.
    """
    _check_same_network(trial, initial, checkpoint)
    trained, chosen = initial.persons["trained"], initial.persons["chosen"]
    test = _ids_of_persons(cohort, split.test, {*trained, *chosen})
    if test:
        raise MgmtError(
            f"{initial.folder}: has seen {shorten_list(test)}, test subjects of {trial.name}. "
            f"Start from a trial of the same split, or leave networks.{trial.network}.start_from "
            "away."
        )
    validation = _ids_of_persons(cohort, split.folds[trial.fold], set(trained))
    if validation:
        raise MgmtError(
            f"{initial.folder}: was trained on {shorten_list(validation)}, who validate "
            f"{trial.name}. "
            "Start from the trial of the same fold: write {fold} in start_from."
        )


def check_external_leakage(name: str, external: Cohort, trials: Sequence[Trial]) -> None:
    """Raise MgmtError where a trial starts from one that has seen persons of an external cohort.

    Args:
        name: of the external cohort in the study.
        external: its subjects.
        trials: the whole plan.
    """
    ids = [s.id for s in external.subjects]
    for trial in trials:
        initial = find_initial_weights(trial)
        seen = _ids_of_persons(external, ids, _all_persons(initial)) if initial else []
        if initial and seen:
            raise MgmtError(
                f"{initial.folder}: has seen {shorten_list(seen)}, from which {trial.name} would "
                f"start. "
                f"Leave them out with external.{name}.exclude."
            )


def subjects_seen(
    trial: Trial, split: Split, cohort: Cohort, initial: InitialWeights | None
) -> dict[str, list[str]]:
    """Whom a trial's weights are trained on and chosen by, with those of where it started."""
    available = {s.id for s in cohort.subjects if s.has_all(trial.channels)}
    trained, chosen = split.fold(trial.fold, available)
    trained = exclude_inner_fold(trial, trained, cohort)
    person = {s.id: s.person for s in cohort.subjects}
    before = initial.persons if initial else {"trained": [], "chosen": []}
    return {
        "trained": sorted({person[s] for s in trained} | {*before["trained"]}),
        "chosen": sorted({person[s] for s in chosen} | {*before["chosen"]}),
    }


def _check_same_network(trial: Trial, initial: InitialWeights, checkpoint: str | None) -> None:
    own, theirs = trial.network_config.model_dump(mode="json"), initial.metadata["network_config"]
    unlike = [name for name in ARCHITECTURE if own[name] != theirs.get(name)]
    # what the other one trained must be trained here too: frozen parts are the checkpoint's
    unlike += ["trainable_blocks"] if theirs["trainable_blocks"] > own["trainable_blocks"] else []
    unlike += (
        ["number of channels"] if len(initial.metadata["channels"]) != len(trial.channels) else []
    )
    unlike += ["checkpoint"] if initial.metadata["checkpoint_checksum"] != checkpoint else []
    if unlike:
        raise MgmtError(
            f"{initial.folder}: is of another network than {trial.name} that would start from it "
            f"({', '.join(unlike)} differ). Make networks.{trial.network} like it."
        )


def _all_persons(initial: InitialWeights) -> set[str]:
    return {*initial.persons["trained"], *initial.persons["chosen"]}


def _ids_of_persons(cohort: Cohort, ids: Iterable[str], persons: set[str]) -> list[str]:
    """Those ids whose person is among the given ones."""
    wanted = set(ids)
    return [s.id for s in cohort.subjects if s.id in wanted and s.person in persons]
