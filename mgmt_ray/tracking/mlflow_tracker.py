"""Copy a study to MLflow; the only file that imports MLflow.

The study's own files are the reference, from which the copy can be made again at any time. Training
never waits for a tracking server; if it does not answer, a warning is logged.
"""

from __future__ import annotations

import json
import math
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pandas as pd

from mgmt_ray.base import MgmtError, fingerprint, first_line, write_atomically, write_json
from mgmt_ray.study.folder import StudyFolder
from mgmt_ray.study.study_config import StudyConfig
from mgmt_ray.study.trial import Trial

# by default, one call to a server that does not answer blocks for minutes
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
RECORD = "mlflow.json"
"""File in the study's folder: what was copied last, and where; delete it to copy all again."""
MAX_METRICS = 1000
"""That MLflow takes in one call."""
NO_WEIGHTS = "none"
"""Tag of a diverged trial."""


def local_store(folder: StudyFolder) -> str:
    """Return the tracking URI of the study's own database.

    Examples:
        >>> local_store(StudyFolder(Path("/data/demo_study")))
        'sqlite:////data/demo_study/mlflow.db'
    """
    return f"sqlite:///{folder.root.absolute() / 'mlflow.db'}"


def _make_local_store(folder: StudyFolder) -> None:
    """Make the study's own database if there is none.

    MLflow makes its tables one by one and cannot read a database of which it was killed meanwhile,
    so they are made in a file aside.
    """
    from mlflow import MlflowClient

    def make(path: Path) -> None:
        MlflowClient(tracking_uri=f"sqlite:///{path}").search_experiments()

    database = folder.root.absolute() / "mlflow.db"
    if not database.exists():
        write_atomically(database, make)


def check_local_store(folder: StudyFolder) -> None:
    """Check that the study's own database would lie in its folder.

    Raises:
        MgmtError: SQLAlchemy reads another path from its address: it takes what follows a question
            mark for options, and %41 for an A.
    """
    path = str(folder.root.absolute())
    if "?" in path or unquote(path) != path:
        raise MgmtError(
            f"--out {path}: MLflow would write its database elsewhere, since the path has a ? or "
            "a % with two digits. Choose another name, or give --tracking URI."
        )


class Tracker:
    """Copies a study to MLflow in its own thread, while the study runs.

    Args:
        uri: MLflow's tracking URI; None for a database in the study's folder.
        warn: called with one line if the copy fails; the study continues without it.
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
        """Start copying, unless all that the study has so far was copied there."""
        if not self._is_copied():
            self._thread.start()

    def close(self, outcome: str) -> None:
        """Copy the rest and end all MLflow runs.

        Args:
            outcome: of the study, an MLflow status: "FINISHED", "FAILED" or "KILLED".
        """
        self._outcome = outcome
        self._stop.set()
        if self._thread.ident is None and not self._is_copied():
            self._thread.start()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        for name, value in HTTP_SETTINGS.items():
            os.environ.setdefault(name, value)
        try:
            copy = _MlflowCopy(self._study, self._folder, self._trials, self._uri)
            while not self._stop.wait(2.0):
                copy.update()
            copy.finish(self._outcome)
            if self._outcome == "FINISHED":
                write_json(self._folder.root / RECORD, self._state())
        except Exception as error:  # no error of the copy may end the study
            self._warn(
                f"MLflow at {self._uri} cannot be written ({first_line(error)}). "
                "Nothing of the study is lost: rerun the command to copy it there."
            )

    def _is_copied(self) -> bool:
        """Return whether this state of the study was copied, to a store that is still there."""
        record = self._folder.root / RECORD
        if (
            self._uri == local_store(self._folder)
            and not (self._folder.root / "mlflow.db").exists()
        ):
            return False
        try:
            return bool(json.loads(record.read_text(encoding="utf-8")) == self._state())
        except (OSError, ValueError):  # missing or damaged
            return False

    def _state(self) -> dict[str, str]:
        """Return where the copy is, and the fingerprint of all that is copied."""
        copied = _artifacts(self._folder, [self._folder.external(n) for n in self._study.external])
        copied += [self._folder.trial(trial.id) / "trial.json" for trial in self._trials]
        files = {str(p): [p.stat().st_size, p.stat().st_mtime_ns] for p in copied if p.is_file()}
        settings = self._study.model_dump(mode="json")
        return {"uri": self._uri, "copied": fingerprint([settings, files])}


class _MlflowCopy:
    """The MLflow runs of one study, which are identified by their tags."""

    def __init__(
        self, study: StudyConfig, folder: StudyFolder, trials: list[Trial], uri: str
    ) -> None:
        from mlflow import MlflowClient

        self._folder = folder
        self._external = {name: folder.external(name) for name in study.external}
        self._trials = trials
        if uri == local_store(folder):
            _make_local_store(folder)
        self._client = MlflowClient(tracking_uri=uri)
        self._experiment = self._find_experiment(study.name, uri)
        settings = study.model_dump(mode="json")
        existing = self._existing_runs()
        self._interrupted = {r.info.run_id for r in existing if r.info.status == "RUNNING"}
        parents = [r for r in existing if r.data.tags.get(STUDY_TAG) == fingerprint(settings)]
        if parents:
            self._parent = str(parents[0].info.run_id)
        else:
            self._parent = self._create(study.name, {STUDY_TAG: fingerprint(settings)})
            self._log(self._parent, params=_flatten(settings))
        children = [r for r in existing if r.data.tags.get(PARENT_TAG) == self._parent]
        by_trial = {r.data.tags[TRIAL_TAG]: r for r in children if not self._is_outdated(r)}
        self._runs = {trial: str(run.info.run_id) for trial, run in by_trial.items()}
        self._epochs = {t: int(r.data.tags.get(EPOCHS_TAG, 0)) for t, r in by_trial.items()}
        # a trial that ended with an error has no tag of weights, and may be run again
        self._complete = {
            t
            for t, r in by_trial.items()
            if r.info.status in ("FINISHED", "FAILED") and "weights_sha256" in r.data.tags
        }
        self._client.update_run(self._parent, status="RUNNING")

    def _is_outdated(self, run: Any) -> bool:
        """Return whether a trial was deleted or retrained since it was copied to this run."""
        trial, weights = run.data.tags[TRIAL_TAG], run.data.tags.get("weights_sha256")
        if weights is None or not self._folder.is_finished(trial):
            return weights is not None
        return bool((self._folder.read_trial(trial)["weights_sha256"] or NO_WEIGHTS) != weights)

    def update(self) -> None:
        """Copy the epochs and results that are new since the last call."""
        for trial in self._trials:
            if trial.id in self._complete:
                continue
            finished = self._folder.is_finished(trial.id)
            folder_of = self._folder.trial if finished else self._folder.partial_trial
            rows = _read_epochs(folder_of(trial.id) / "epochs.csv")
            if rows is not None:
                self._copy_epochs(trial, rows)
            if finished:
                self._copy_result(trial)
                self._complete.add(trial.id)

    def finish(self, outcome: str) -> None:
        """Copy the rest, including tables and figures, and end all runs."""
        self.update()
        for trial in self._trials:
            if trial.id in self._runs and trial.id not in self._complete:
                failed = self._folder.outcome(trial.id).failed
                self._client.set_terminated(self._runs[trial.id], "FAILED" if failed else "KILLED")
        for run in self._interrupted - {self._parent, *self._runs.values()}:
            self._client.set_terminated(run, "KILLED")  # of trials that the study no longer has
        external = {f"external/{name}/": folder for name, folder in self._external.items()}
        for prefix, folder in ({"": self._folder} | external).items():
            metrics = folder.ensembles / "metrics.csv"
            if metrics.is_file():
                self._log(self._parent, {0: _result_metrics(metrics, prefix)})
        for path in _artifacts(self._folder, list(self._external.values())):
            subfolder = path.parent.relative_to(self._folder.root).as_posix()
            self._client.log_artifact(
                self._parent, str(path), None if subfolder == "." else subfolder
            )
        self._client.set_terminated(self._parent, outcome)

    def _copy_epochs(self, trial: Trial, rows: pd.DataFrame) -> None:
        if trial.id not in self._runs:
            self._begin(trial)
        new = rows[rows["epoch"] > self._epochs.get(trial.id, 0)].to_dict("records")
        num_at_once = MAX_METRICS // max(1, len(rows.columns))
        for start in range(0, len(new), num_at_once):
            epochs = new[start : start + num_at_once]
            values = {
                int(row["epoch"]): {str(k): v for k, v in row.items() if k != "epoch"}
                for row in epochs
            }
            last = max(values)
            # logged in one call with the metrics, so that no epoch is copied twice
            self._log(self._runs[trial.id], values, tags={EPOCHS_TAG: str(last)})
            self._epochs[trial.id] = last

    def _copy_result(self, trial: Trial) -> None:
        result = self._folder.read_trial(trial.id)
        if trial.id not in self._runs:  # it diverged in the first epoch
            self._begin(trial)
        if self._folder.outcome(trial.id).diverged:
            status, values = "FAILED", {"last_good_epoch": result["last_good_epoch"]}
            tags = {"selection_rule": "diverged", "fault": result["message"]}
        else:
            status, selection = "FINISHED", result["selection"]
            values = {f"selected_{k}": selection[k] for k in ("epoch", "m", "sen", "spe")}
            tags = {"selection_rule": selection["rule"]}
        tags["weights_sha256"] = result["weights_sha256"] or NO_WEIGHTS
        metrics = {name: value for name, value in values.items() if value is not None}
        self._log(self._runs[trial.id], {0: metrics}, tags=tags)
        self._client.set_terminated(self._runs[trial.id], status)

    def _begin(self, trial: Trial) -> None:
        tags = {PARENT_TAG: self._parent, TRIAL_TAG: trial.id, "network": trial.network}
        self._runs[trial.id] = self._create(trial.name, tags | _trial_keys(trial))
        self._log(self._runs[trial.id], params=_trial_params(trial))

    def _find_experiment(self, name: str, uri: str) -> str:
        experiment = self._client.get_experiment_by_name(name)
        if experiment is not None and experiment.lifecycle_stage == "deleted":
            number = experiment.experiment_id
            raise MgmtError(
                f"its experiment {name} was deleted there; MLFLOW_TRACKING_URI={uri} mlflow "
                f"experiments restore --experiment-id {number} restores it"
            )
        if experiment is not None:
            return str(experiment.experiment_id)
        is_local = uri == local_store(self._folder)
        location = (self._folder.root.absolute() / "mlartifacts").as_uri() if is_local else None
        # without its kind, MLflow's page opens with tools for language models
        kind = {"mlflow.experimentKind": "custom_model_development"}
        return str(self._client.create_experiment(name, artifact_location=location, tags=kind))

    def _existing_runs(self) -> list[Any]:
        """Return all runs of this study's folder."""
        runs: list[Any] = []
        token = None
        while True:
            page = self._client.search_runs(
                [self._experiment],
                f"tags.`{FOLDER_TAG}` = '{self._folder_name}'",
                max_results=1000,
                page_token=token,
            )
            runs += page
            token = page.token
            if not token:
                return runs

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
        metrics: Mapping[int, Mapping[str, float]] | None = None,
        params: dict[str, str] | None = None,
        tags: dict[str, str] | None = None,
    ) -> None:
        """Log everything in one call; values that are NaN or infinite are left out.

        Args:
            metrics: by step and name, at most :data:`MAX_METRICS`.
        """
        from mlflow.entities import Metric, Param, RunTag

        now = int(time.time() * 1000)
        self._client.log_batch(
            run,
            [
                Metric(str(name), float(value), now, step)
                for step, values in (metrics or {}).items()
                for name, value in values.items()
                if math.isfinite(value)
            ],
            [Param(k, v) for k, v in (params or {}).items()],
            [RunTag(k, v) for k, v in (tags or {}).items()],
        )


def _read_epochs(path: Path) -> pd.DataFrame | None:
    """Return a trial's epochs; None if there are none, or its folder is being moved."""
    try:
        return pd.read_csv(path)
    except FileNotFoundError:
        return None


def _trial_keys(trial: Trial) -> dict[str, str]:
    names = ("modality", "outer_fold", "fold", "repeat")
    return {name: str(getattr(trial, name)) for name in names}


def _trial_params(trial: Trial) -> dict[str, str]:
    settings = {
        "network": trial.network_config.model_dump(mode="json"),
        "training": trial.training_config.model_dump(mode="json"),
    }
    params = _trial_keys(trial)
    if trial.needs or not trial.is_classifier:  # of several stages
        params["stage"] = "classification" if trial.is_classifier else "segmentation"
        params["part_left_out"] = "none" if trial.inner_fold is None else str(trial.inner_fold)
    return params | _flatten(settings)


def _flatten(value: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """Flatten nested settings to MLflow parameters, cut to the length that MLflow allows."""
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
    """List tables, figures and the report, with those of the study's external cohorts."""
    tables = [*folder.root.glob("*.csv"), *folder.root.glob("*.json"), folder.study_file]
    results = [*folder.ensembles.glob("*"), *folder.root.glob("figures/*")]
    for external_folder in external:
        results += [*external_folder.root.glob("*.csv"), *external_folder.ensembles.glob("*")]
    report = folder.root / "report.html"
    return [p for p in (*tables, *results, report) if p.is_file() and p.name != RECORD]


def check_store(folder: Path) -> str:
    """Write a run to a new local store in the folder, and return MLflow's version."""
    import mlflow

    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{folder / 'mlflow.db'}")
    experiment = client.create_experiment("check", artifact_location=folder.as_uri())
    client.set_terminated(client.create_run(experiment).info.run_id)
    return str(mlflow.__version__)
