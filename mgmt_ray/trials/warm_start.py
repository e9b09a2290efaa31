"""Starting a trial from another trial's weights without leaking test or validation subjects.

Every ``trial.json`` records the persons that the weights were trained on and those that the epoch
was selected by, including those of the trial that it started from.
"""

from __future__ import annotations

import math
import re
import time
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice, takewhile
from pathlib import Path
from typing import Any

from mgmt_ray.base import MgmtError
from mgmt_ray.cohort.cohort import Cohort
from mgmt_ray.selection.predictions import shorten_list
from mgmt_ray.splits.split import Split
from mgmt_ray.study.folder import WEIGHTS, check_weights, read_trial_file
from mgmt_ray.study.trial import Trial
from mgmt_ray.trials.slices_pipeline import exclude_inner_fold

ARCHITECTURE = (
    *("kind", "depth", "width", "agent_depth", "agent_width"),
    *("covariates", "covariates_for"),
)
"""Keys of a network's configuration that must be equal in both trials."""

SETTLED_NS = 2 * 10**9
"""Nanoseconds after its last change from which a folder's names are not listed again."""


@dataclass(frozen=True, slots=True)
class InitialWeights:
    """A finished trial whose weights another trial starts from.

    Attributes:
        metadata: content of its ``trial.json``.
    """

    folder: Path
    metadata: dict[str, Any]

    @property
    def weights(self) -> Path:
        """File of the weights."""
        return self.folder / WEIGHTS

    @property
    def persons(self) -> dict[str, list[str]]:
        """Persons that the weights were ``trained`` on, and those that they were ``chosen`` by."""
        persons: dict[str, list[str]] = self.metadata["persons"]
        return persons


def find_initial_weights(trial: Trial) -> InitialWeights | None:
    """Find the trial that a trial starts from; None if its network has no ``start_from``.

    Raises:
        MgmtError: no or several trained trials match, or the one does not record its persons.
    """
    if trial.network_config.start_from is None:
        return None
    start_from = str(trial.network_config.start_from)
    for name in ("modality", "outer_fold", "fold", "repeat"):
        start_from = start_from.replace(f"{{{name}}}", str(getattr(trial, name)))
    files = ("trial.json", WEIGHTS)  # a diverged trial has no weights
    paths = matching_paths(Path(start_from).absolute())
    matches = [path for path in paths if all((path / file).is_file() for file in files)]
    if len(matches) != 1:
        raise MgmtError(
            f"trial {trial.id} starts from {start_from}, which matches {len(matches)} trials with "
            f"weights instead of one. Set networks.{trial.network}.start_from to a single finished "
            "trial that did not diverge."
        )
    return InitialWeights(matches[0], _read_metadata(matches[0]))


def matching_paths(pattern: Path) -> list[Path]:
    """Return the paths that match a pattern, in which only * has a meaning.

    Only names that begin like the pattern are compared: each of thousands of trials looks for its
    own among as many.
    """
    paths = [Path(pattern.anchor)]
    for part in pattern.parts[1:]:
        start, star, _ = part.partition("*")
        if not star:
            paths = [path / part for path in paths]
        elif part == "**":  # at any depth
            paths = [below for path in paths for below in path.glob(part)]
        else:
            matches = re.compile(".*".join(map(re.escape, part.split("*"))), re.DOTALL).fullmatch
            named = ((path, name) for path in paths for name in _names_from(path, start))
            paths = [path / name for path, name in named if matches(name)]
    return paths


def _names_from(folder: Path, start: str) -> Iterator[str]:
    """Yield the names in a folder that begin with some characters."""
    with suppress(OSError):  # not a folder, or one that may not be read
        changed = folder.stat().st_mtime_ns
        # the clock of a file system may tick slowly: a recent change may not be the last
        is_settled = time.time_ns() - changed > SETTLED_NS
        list_names = _sorted_names if is_settled else _sorted_names.__wrapped__
        names = list_names(folder, changed)
        first = bisect_left(names, start)
        yield from takewhile(lambda name: name.startswith(start), islice(names, first, None))


@lru_cache(maxsize=16)
def _sorted_names(folder: Path, _changed: int) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def _read_metadata(folder: Path) -> dict[str, Any]:
    """Read a trial's ``trial.json``, and check its weights against the recorded checksum."""
    try:
        metadata = read_trial_file(folder)
        metadata["persons"]["trained"], metadata["persons"]["chosen"], metadata["weights_sha256"]
    except (ValueError, KeyError, TypeError) as error:
        raise MgmtError(
            f"{folder}/trial.json: does not record the persons that the trial was trained on, or "
            "is of an earlier version, so no trial can start from it. Train that trial again."
        ) from error
    check_weights(folder)
    return metadata


def check_initial_weights(
    trial: Trial, initial: InitialWeights, split: Split, cohort: Cohort, checkpoint: str | None
) -> None:
    """Raise MgmtError unless a trial may start from the weights of another.

    The networks must match, and the weights must not have been trained on the trial's test or
    validation subjects, nor selected by its test subjects.

    Args:
        checkpoint: checksum of the pretrained weights that both trials must share.
    """
    _check_same_network(trial, initial, checkpoint)
    trained, chosen = initial.persons["trained"], initial.persons["chosen"]
    test = _ids_of_persons(cohort, split.test, {*trained, *chosen})
    if test:
        raise MgmtError(
            f"{initial.folder}: was trained or selected on {shorten_list(test)}, test subjects of "
            f"{trial.name}. Start from a trial of the same split, or omit "
            f"networks.{trial.network}.start_from."
        )
    validation = _ids_of_persons(cohort, split.folds[trial.fold], set(trained))
    if validation:
        raise MgmtError(
            f"{initial.folder}: was trained on {shorten_list(validation)}, validation subjects of "
            f"{trial.name}. Start from the trial of the same fold: write {{fold}} in start_from."
        )


def check_external_leakage(name: str, external: Cohort, trials: Sequence[Trial]) -> None:
    """Raise MgmtError if a trial starts from weights that know persons of an external cohort."""
    ids = [s.id for s in external.subjects]
    for trial in trials:
        initial = find_initial_weights(trial)
        leaked = _ids_of_persons(external, ids, _all_persons(initial)) if initial else []
        if initial and leaked:
            raise MgmtError(
                f"{initial.folder}: was trained or selected on {shorten_list(leaked)} of the "
                f"external cohort {name}, and {trial.name} starts from it. "
                f"Exclude these subjects with external.{name}.exclude."
            )


def subjects_seen(
    trial: Trial, split: Split, cohort: Cohort, initial: InitialWeights | None
) -> dict[str, list[str]]:
    """Return the persons that a trial is trained on and selected by, and its predecessors'."""
    available = {s.id for s in cohort.subjects if s.has_all(trial.channels)}
    trained, chosen = split.fold(trial.fold, available)
    trained = exclude_inner_fold(trial, trained, cohort)
    person = {s.id: s.person for s in cohort.subjects}
    earlier = initial.persons if initial else {"trained": [], "chosen": []}
    return {
        "trained": sorted({person[s] for s in trained} | {*earlier["trained"]}),
        "chosen": sorted({person[s] for s in chosen} | {*earlier["chosen"]}),
    }


def _check_same_network(trial: Trial, initial: InitialWeights, checkpoint: str | None) -> None:
    """Raise MgmtError unless both trials have the same network."""
    config, metadata = trial.network_config.model_dump(mode="json"), initial.metadata
    initial_config = metadata["network_config"]
    differing = [name for name in ARCHITECTURE if config.get(name) != initial_config.get(name)]
    # blocks trained in the initial weights must be trained here too: frozen ones are MedicalNet's
    before, now = (c["trainable_blocks"] for c in (initial_config, config))
    if (math.inf if before == "all" else before) > (math.inf if now == "all" else now):
        differing.append("trainable_blocks")
    if len(metadata["channels"]) != len(trial.channels):
        differing.append("number of channels")
    if metadata["checkpoint_checksum"] != checkpoint:
        differing.append("checkpoint")
    if differing:
        raise MgmtError(
            f"{initial.folder}: has another network than {trial.name}, which would start from it "
            f"({', '.join(differing)} differ). Make networks.{trial.network} match it."
        )


def _all_persons(initial: InitialWeights) -> set[str]:
    return {*initial.persons["trained"], *initial.persons["chosen"]}


def _ids_of_persons(cohort: Cohort, ids: Iterable[str], persons: set[str]) -> list[str]:
    """Return the ids whose person is in ``persons``."""
    candidates = set(ids)
    return [s.id for s in cohort.subjects if s.id in candidates and s.person in persons]
