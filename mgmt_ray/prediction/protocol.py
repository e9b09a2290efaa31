"""The protocol: what was decided before a study's test set was opened, ``protocol.json``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pandas as pd

from mgmt_ray.base import MgmtError, fingerprint, write_json
from mgmt_ray.prediction.evaluation import Members
from mgmt_ray.selection.best_on_validation import choose_ensembles, primary_ensembles
from mgmt_ray.selection.ensembles import group_ensembles, single_models
from mgmt_ray.selection.predictions import read_predictions
from mgmt_ray.study.folder import StudyFolder
from mgmt_ray.study.search_choice import read_choice
from mgmt_ray.study.trial import Trial
from mgmt_ray.trials.context import TrialInputs

AMENDMENTS = "amendments"


def make_protocol(trials: Sequence[Trial], members: Members, inputs: TrialInputs) -> dict[str, Any]:
    """Return what is decided before the test set is opened, from validation alone.

    Hashes of study, splits, plan and members; the primary family, which is the best overall
    ensemble of each network (by outer split); and how much was tried: the plan's trainings and
    combinations of network, input and hyper-parameters, and trainings in the folder that are not
    in the plan. Of a study with a search, how many configurations that tried.
    """
    folder = inputs.folder
    validation = pd.concat(
        [read_predictions(folder.trial(t.id) / "validation.csv") for t in members.trials]
    )
    groups = group_ensembles(list(dict.fromkeys(validation["modality"])))
    best = choose_ensembles(single_models(validation), groups).best
    planned = {trial.id for trial in trials}
    finished = {path.parent.name for path in folder.trials.glob("*/trial.json")}
    configurations = {(t.network, t.channels, json.dumps(t.hyperparameters)) for t in trials}
    searched = read_choice(folder.search_choice) if inputs.study.search is not None else {}
    return {
        "study": fingerprint(inputs.study.model_dump(mode="json")),
        "splits": [split.hash for split in inputs.splits],
        "plan": fingerprint(sorted(planned)),
        "members": fingerprint(sorted(members.table["trial"])),
        "primary": primary_ensembles(best),
        "num_trainings": len(planned),
        "num_configurations": len(configurations),
        "num_other_trainings": len(finished - planned),
        **({"num_searched_configurations": searched["num_configurations"]} if searched else {}),
    }


def declare_protocol(folder: StudyFolder, protocol: Mapping[str, Any]) -> None:
    """Write the protocol, to be called before the test set is opened.

    Once it was opened the first protocol stays as it is; another one is added to its amendments,
    with its time, so that no change goes unnoticed.

    Raises:
        MgmtError: the file is damaged.
    """
    now = {"time": datetime.now(UTC).isoformat(timespec="seconds"), **protocol}
    first = _read(folder)
    if not first or not folder.test_openings.exists():
        write_json(folder.protocol, now | {AMENDMENTS: []})
        return
    amendments = first.get(AMENDMENTS, [])
    latest = amendments[-1] if amendments else first
    if any(latest.get(key) != value for key, value in protocol.items()):
        write_json(folder.protocol, first | {AMENDMENTS: [*amendments, now]})


def _read(folder: StudyFolder) -> dict[str, Any]:
    if not folder.protocol.is_file():
        return {}
    try:
        return dict(json.loads(folder.protocol.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise MgmtError(
            f"{folder.protocol}: is not JSON ({error}), so it was changed since it was written. "
            "Restore it; without it nothing shows what was decided before the test set was opened."
        ) from error
