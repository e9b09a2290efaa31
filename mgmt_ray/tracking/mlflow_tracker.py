"""The MLflow copy of a study: the only file that imports MLflow.

The study's own files are the truth; what is here can be replayed from them at any time. Training
never waits for a tracking server, and a dead one costs a message.
"""

from __future__ import annotations

import json
import math
import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from mgmt_ray.base import fingerprint, first_line
from mgmt_ray.study.folder import StudyFolder
from mgmt_ray.study.study_config import StudyConfig
from mgmt_ray.study.trial import Trial

# By default one call to a dead server blocks for minutes.
HTTP_SETTINGS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
}

TRIAL_TAG = "mgmt_ray.trial"
STUDY_TAG = "mgmt_ray.study"
FOLDER_TAG = "mgmt_ray.study_folder"
PARENT_TAG = "mlflow.parentRunId"
EPOCHS_TAG = "mgmt_ray.epochs"
NO_WEIGHTS = "none"


def local_store(folder: StudyFolder) -> str:
    """The tracking URI of the study's own database."""
    return f"sqlite:///{folder.root.absolute() / 'mlflow.db'}"


class Tracker:
    """Copies a study into MLflow in a thread of its own, while and after it runs.

    Args:
        study: what runs.
        folder: its files.
        trials: its plan.
        uri: MLflow's tracking URI; None for a database in the study's folder.
        warn: is given one line when the copy fails; the study goes on without it.
    """

    def __init__(
        self,
        study: StudyConfig,
        folder: StudyFolder,
        trials: list[Trial],
        uri: str | None,
        warn: Callable[[str], None],
    ) -> None:
        self._study = study
        self._folder = folder
        self._trials = trials
        self._uri = uri or local_store(folder)
        self._warn = warn
        self._stop = threading.Event()
        self._outcome = "FINISHED"
        self._thread = threading.Thread(target=self._run, name="tracking", daemon=True)

    def start(self) -> None:
        """Begin to copy."""
        self._thread.start()

    def close(self, outcome: str) -> None:
        """Copy what is left and end every run.

        Args:
            outcome: of the study, in MLflow's words: "FINISHED", "FAILED" or "KILLED".
        """
        self._outcome = outcome
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        for name, value in HTTP_SETTINGS.items():
            os.environ.setdefault(name, value)
        try:
            copy = _MlflowCopy(self._study, self._folder, self._trials, self._uri)
            while not self._stop.wait(2.0):
                copy.update()
            copy.finish(self._outcome)
        except Exception as error:  # whatever it is, a copy must not end the study
            self._warn(
                f"MLflow at {self._uri} cannot be written ({first_line(error)}). "
                "Nothing of the study is lost: repeat the command to copy it there."
            )


class _MlflowCopy:
    """The runs of one study, found again by their tags."""

    def __init__(
        self, study: StudyConfig, folder: StudyFolder, trials: list[Trial], uri: str
    ) -> None:
        from mlflow import MlflowClient

        self._folder = folder
        self._external = {name: folder.external(name) for name in study.external}
        self._trials = trials
        self._client = MlflowClient(tracking_uri=uri)
        self._experiment = self._find_experiment(study.name, uri)
        settings = study.model_dump(mode="json")
        known = self._known_runs()
        self._left = {run.info.run_id for run in known if run.info.status == "RUNNING"}
        parents = [r for r in known if r.data.tags.get(STUDY_TAG) == fingerprint(settings)]
        if parents:
            self._parent = str(parents[0].info.run_id)
        else:
            self._parent = self._create(study.name, {STUDY_TAG: fingerprint(settings)})
            self._log(self._parent, params=_flatten(settings))
        own = [r for r in known if r.data.tags.get(PARENT_TAG) == self._parent]
        by_trial = {run.data.tags[TRIAL_TAG]: run for run in own if not self._is_outdated(run)}
        self._runs = {trial: str(run.info.run_id) for trial, run in by_trial.items()}
        self._epochs = {t: int(r.data.tags.get(EPOCHS_TAG, 0)) for t, r in by_trial.items()}
        ended = ("FINISHED", "FAILED")  # a fault that can be mended leaves no word on weights
        self._done = {
            t
            for t, r in by_trial.items()
            if r.info.status in ended and "weights_sha256" in r.data.tags
        }
        self._client.update_run(self._parent, status="RUNNING")

    def _is_outdated(self, run: Any) -> bool:
        """Whether a finished trial was deleted and trained anew since this copy of it."""
        trial, weights = run.data.tags[TRIAL_TAG], run.data.tags.get("weights_sha256")
        if weights is None or not self._folder.is_finished(trial):
            return weights is not None
        return bool((self._folder.read_trial(trial)["weights_sha256"] or NO_WEIGHTS) != weights)

    def update(self) -> None:
        """Copy the epochs that came since the last call."""
        for trial in self._trials:
            if trial.id in self._done:
                continue
            finished = self._folder.is_finished(trial.id)
            place = self._folder.trial if finished else self._folder.partial_trial
            rows = _read_epochs(place(trial.id) / "epochs.csv")
            if rows is not None:
                self._copy_epochs(trial, rows)
            if finished:
                diverged = self._folder.has_diverged(trial.id)
                (self._copy_divergence if diverged else self._copy_result)(trial)
                self._done.add(trial.id)

    def finish(self, outcome: str) -> None:
        """Copy the rest, tables and figures included; no run is left running."""
        self.update()
        for trial in self._trials:
            if trial.id in self._runs and trial.id not in self._done:
                failed = self._folder.failure(trial.id).exists()
                self._client.set_terminated(self._runs[trial.id], "FAILED" if failed else "KILLED")
        for run in self._left - {self._parent, *self._runs.values()}:
            self._client.set_terminated(run, "KILLED")  # of a plan that has changed since
        of_external = {f"external/{name}/": place for name, place in self._external.items()}
        for prefix, folder in ({"": self._folder} | of_external).items():
            metrics = folder.ensembles / "metrics.csv"
            if metrics.is_file():
                self._log(self._parent, metrics=_result_metrics(metrics, prefix))
        for path in _artifacts(self._folder, list(self._external.values())):
            below = path.parent.relative_to(self._folder.root).as_posix()
            self._client.log_artifact(self._parent, str(path), None if below == "." else below)
        self._client.set_terminated(self._parent, outcome)

    def _copy_epochs(self, trial: Trial, rows: pd.DataFrame) -> None:
        if trial.id not in self._runs:
            self._begin(trial)
        for _, row in rows[rows["epoch"] > self._epochs.get(trial.id, 0)].iterrows():
            values = {str(name): float(value) for name, value in row.items()}
            epoch = int(values.pop("epoch"))
            # The number of copied epochs goes with them, so that none is copied twice.
            self._log(self._runs[trial.id], values, epoch, tags={EPOCHS_TAG: str(epoch)})
            self._epochs[trial.id] = epoch

    def _copy_result(self, trial: Trial) -> None:
        result = self._folder.read_trial(trial.id)
        selection = result["selection"]
        run = self._runs[trial.id]
        metrics = {f"selected_{k}": selection[k] for k in ("epoch", "m", "sen", "spe")}
        tags = {"selection_rule": selection["rule"], "weights_sha256": result["weights_sha256"]}
        self._log(run, {k: v for k, v in metrics.items() if v is not None}, tags=tags)
        self._client.set_terminated(run, "FINISHED")

    def _copy_divergence(self, trial: Trial) -> None:
        result = self._folder.read_trial(trial.id)
        if trial.id not in self._runs:  # no epoch was good
            self._begin(trial)
        tags = {
            "selection_rule": "diverged",
            "weights_sha256": NO_WEIGHTS,
            "fault": result["message"],
        }
        self._log(self._runs[trial.id], {"last_good_epoch": result["last_good_epoch"]}, tags=tags)
        self._client.set_terminated(self._runs[trial.id], "FAILED")

    def _begin(self, trial: Trial) -> None:
        self._runs[trial.id] = self._create(trial.name, _trial_tags(trial, self._parent))
        self._log(self._runs[trial.id], params=_trial_params(trial))

    def _find_experiment(self, name: str, uri: str) -> str:
        found = self._client.get_experiment_by_name(name)
        if found is not None:
            return str(found.experiment_id)
        local = uri == local_store(self._folder)
        place = (self._folder.root.absolute() / "mlartifacts").as_uri() if local else None
        # without its kind the page opens with tools for language models
        kind = {"mlflow.experimentKind": "custom_model_development"}
        return str(self._client.create_experiment(name, artifact_location=place, tags=kind))

    def _known_runs(self) -> list[Any]:
        """Every run of this study's folder."""
        known: list[Any] = []
        token = None
        while True:
            page = self._client.search_runs(
                [self._experiment],
                f"tags.`{FOLDER_TAG}` = '{self._folder_name}'",
                max_results=1000,
                page_token=token,
            )
            known += page
            token = page.token
            if not token:
                return known

    @property
    def _folder_name(self) -> str:
        return str(self._folder.root.absolute()).replace("'", "_")

    def _create(self, name: str, tags: dict[str, str]) -> str:
        tags = {FOLDER_TAG: self._folder_name, **tags}
        run = self._client.create_run(self._experiment, run_name=name, tags=tags)
        return str(run.info.run_id)

    def _log(
        self,
        run: str,
        metrics: dict[str, float] | None = None,
        step: int = 0,
        params: dict[str, str] | None = None,
        tags: dict[str, str] | None = None,
    ) -> None:
        """One call for everything; values that are not a number are left out."""
        from mlflow.entities import Metric, Param, RunTag

        now = int(time.time() * 1000)
        self._client.log_batch(
            run,
            [Metric(k, v, now, step) for k, v in (metrics or {}).items() if math.isfinite(v)],
            [Param(k, v) for k, v in (params or {}).items()],
            [RunTag(k, v) for k, v in (tags or {}).items()],
        )


def _read_epochs(path: Path) -> pd.DataFrame | None:
    """A trial's epochs; None where there are none, or where it ends and moves just now."""
    try:
        return pd.read_csv(path)
    except FileNotFoundError:
        return None


def _trial_tags(trial: Trial, parent: str) -> dict[str, str]:
    return {
        PARENT_TAG: parent,
        TRIAL_TAG: trial.id,
        "network": trial.network,
        "modality": trial.modality,
        "outer_fold": str(trial.outer_fold),
        "fold": str(trial.fold),
        "repeat": str(trial.repeat),
    }


def _trial_params(trial: Trial) -> dict[str, str]:
    settings = {
        "network": trial.network_config.model_dump(mode="json"),
        "training": trial.training_config.model_dump(mode="json"),
    }
    place = {
        "modality": trial.modality,
        "outer_fold": str(trial.outer_fold),
        "fold": str(trial.fold),
    }
    if trial.takes_slices:
        place["stage"] = "classification" if trial.is_classifier else "segmentation"
        place["part_left_out"] = "none" if trial.inner_fold is None else str(trial.inner_fold)
    return place | _flatten(settings)


def _flatten(value: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested settings as MLflow's flat parameters, cut to the length that it takes."""
    flat: dict[str, str] = {}
    for key, item in value.items():
        if isinstance(item, dict):
            flat |= _flatten(item, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = (item if isinstance(item, str) else json.dumps(item))[:500]
    return flat


def _result_metrics(path: Path, prefix: str) -> dict[str, float]:
    metrics = {}
    for row in pd.read_csv(path).to_dict("records"):
        name = f"{prefix}{row['network']}/{row['ensemble']}".replace("+", "_")
        for column in ("auc", "auc_low", "auc_high", "ap", "sen", "spe"):
            metrics[f"{name}/{column}"] = float(row[column])
    return metrics


def _artifacts(folder: StudyFolder, external: Sequence[StudyFolder]) -> list[Path]:
    """Tables, figures and report; of external cohorts that the study no longer names, nothing."""
    tables = [*folder.root.glob("*.csv"), *folder.root.glob("*.json"), folder.study_file]
    others = [*folder.ensembles.glob("*"), *folder.root.glob("figures/*")]
    for other in external:
        others += [*other.root.glob("*.csv"), *other.ensembles.glob("*")]
    report = folder.root / "report.html"
    return [p for p in (*tables, *others, report) if p.is_file()]


def check_store(folder: Path) -> str:
    """Write a run into a fresh local store; returns MLflow's version."""
    import mlflow

    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{folder / 'mlflow.db'}")
    experiment = client.create_experiment("check", artifact_location=folder.as_uri())
    client.set_terminated(client.create_run(experiment).info.run_id)
    return str(mlflow.__version__)
