"""The choice of a study's search, ``search/search.json``, and the plan that follows from it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mgmt_ray.base import MgmtError, fingerprint
from mgmt_ray.splits.split import Split
from mgmt_ray.study.folder import StudyFolder
from mgmt_ray.study.plan import Unit, make_plan
from mgmt_ray.study.study_config import StudyConfig
from mgmt_ray.study.trial import Trial


def search_fingerprint(study: StudyConfig, splits: Sequence[Split]) -> str:
    """Return the fingerprint of all that a search's choice depends on, except files' content."""
    assert study.search is not None
    plain = make_plan(study.model_copy(update={"search": None}), splits)
    return fingerprint(
        {"search": study.search.model_dump(mode="json"), "plan": sorted(t.id for t in plain)}
    )


def read_choice(path: Path) -> dict[str, Any]:
    """Return what a search chose, empty if it has not finished.

    Raises:
        MgmtError: the file is damaged.
    """
    if not path.is_file():
        return {}
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        for choice in content["choices"]:
            Unit(choice["network"], tuple(choice["channels"]), choice["outer_fold"])
            dict(choice["values"])
    except (ValueError, TypeError, KeyError) as error:
        raise MgmtError(
            f"{path}: is damaged ({error!r}). Delete it and run `mgmt-ray search STUDY`, which "
            "trains nothing again."
        ) from error
    return content


def is_searched(study: StudyConfig, folder: StudyFolder, splits: Sequence[Split]) -> bool:
    """Return whether a study needs no search, or has finished it with the present settings."""
    if study.search is None:
        return True
    recorded = read_choice(folder.search_choice).get("fingerprint")
    return bool(recorded == search_fingerprint(study, splits))


def chosen_plan(study: StudyConfig, folder: StudyFolder, splits: Sequence[Split]) -> list[Trial]:
    """Return a study's trials, of a study with a search those of the chosen configurations.

    Raises:
        MgmtError: the search has not finished, or was made with other settings.
    """
    if study.search is None:
        return make_plan(study, splits)
    content = read_choice(folder.search_choice)
    if not is_searched(study, folder, splits):
        fault = "was made with other settings" if content else "is not finished"
        raise MgmtError(
            f"search: {fault}, so it is not known which configurations to take. Run `mgmt-ray "
            f"search STUDY` with --out {folder.root} first; finished trainings are kept."
        )
    choices = {
        Unit(c["network"], tuple(c["channels"]), c["outer_fold"]): dict(c["values"])
        for c in content["choices"]
    }
    return make_plan(study, splits, choices)
