from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from pathlib import Path
from threading import Thread

import pytest
from mlflow import MlflowClient
from sqlalchemy import make_url

from mgmt_ray.base import MgmtError, write_json, write_text
from mgmt_ray.splits.split import Split
from mgmt_ray.study.folder import StudyFolder
from mgmt_ray.study.plan import make_plan
from mgmt_ray.study.study_config import StudyConfig
from mgmt_ray.study.trial import Trial
from mgmt_ray.tracking.mlflow_tracker import Tracker, check_local_store, local_store

STUDY = StudyConfig.model_validate(
    {
        "name": "tracked",
        "cohort": {"reader": "upenn", "root": "data", "modalities": ["PH"]},
        "networks": {"random": {"kind": "random"}},
        "split": {"folds": 2},
    }
)
SPLIT = Split(test=("a",), folds=(("b",), ("c",)), left_out=(), seed=0, cohort="x")


@pytest.fixture
def trials() -> list[Trial]:
    return make_plan(STUDY, (SPLIT,))


def write_epochs(folder: StudyFolder, trial: Trial, number: int) -> None:
    path = folder.partial_trial(trial.id) / "epochs.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [f"{epoch},{0.5 / epoch},nan" for epoch in range(1, number + 1)]
    path.write_text("\n".join(["epoch,train_loss,lr_agent", *rows]) + "\n")


def track(folder: StudyFolder, trials: list[Trial], outcome: str, uri: str | None) -> list[str]:
    warnings: list[str] = []
    tracker = Tracker(STUDY, folder, trials, uri, warnings.append)
    tracker.start()
    tracker.close(outcome)
    return warnings


def test_epochs_are_copied_once_however_often_the_study_is_continued(
    tmp_path: Path, trials: list[Trial]
) -> None:
    folder = StudyFolder(tmp_path)
    client = MlflowClient(local_store(folder))
    write_epochs(folder, trials[0], 2)
    assert track(folder, trials, "KILLED", None) == []
    write_epochs(folder, trials[0], 3)
    assert track(folder, trials, "FAILED", None) == []
    experiment = client.get_experiment_by_name("tracked")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    assert len(runs) == 2
    (child,) = (run for run in runs if "mlflow.parentRunId" in run.data.tags)
    history = client.get_metric_history(child.info.run_id, "train_loss")
    assert [(point.step, point.value) for point in history] == [(1, 0.5), (2, 0.25), (3, 0.5 / 3)]
    assert "lr_agent" not in child.data.metrics
    assert {run.info.status for run in runs} == {"KILLED", "FAILED"}


def test_the_studys_database_is_whole_as_soon_as_it_is_there(
    tmp_path: Path, trials: list[Trial]
) -> None:
    """MLflow cannot read one of which it was killed while it made the tables."""
    database = tmp_path / "mlflow.db"
    tables: list[int] = []

    def look() -> None:
        while not database.exists():
            time.sleep(1e-4)
        with closing(sqlite3.connect(database)) as connection:
            query = "select count(*) from sqlite_master where name in ('runs', 'alembic_version')"
            tables.extend(connection.execute(query).fetchone())

    watching = Thread(target=look)
    watching.start()
    assert track(StudyFolder(tmp_path), trials, "KILLED", None) == []
    watching.join(timeout=60)
    assert tables == [2]


def test_a_long_training_is_copied_in_as_many_calls_as_mlflow_needs(
    tmp_path: Path, trials: list[Trial]
) -> None:
    folder = StudyFolder(tmp_path)
    write_epochs(folder, trials[0], 700)  # 1400 metrics without NaN; MLflow refuses above 1000
    assert track(folder, trials, "KILLED", None) == []
    client = MlflowClient(local_store(folder))
    child = client.search_runs(["1"], f"tags.`mgmt_ray.trial` = '{trials[0].id}'")[0]
    history = client.get_metric_history(child.info.run_id, "train_loss")
    assert [point.step for point in history] == [*range(1, 701)]


def test_a_run_of_a_plan_that_has_changed_is_not_left_running(
    tmp_path: Path, trials: list[Trial]
) -> None:
    folder = StudyFolder(tmp_path)
    write_epochs(folder, trials[0], 2)
    track(folder, trials, "KILLED", None)
    client = MlflowClient(local_store(folder))
    experiment = client.get_experiment_by_name("tracked")
    assert experiment is not None
    for run in client.search_runs([experiment.experiment_id]):  # as after SIGKILL
        client.update_run(run.info.run_id, status="RUNNING")
    changed = STUDY.model_copy(update={"seed": 1})
    tracker = Tracker(changed, folder, make_plan(changed, (SPLIT,)), None, print)
    tracker.start()
    tracker.close("FINISHED")
    runs = client.search_runs([experiment.experiment_id])
    assert "RUNNING" not in {run.info.status for run in runs}
    parents = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    assert sorted(run.data.params["seed"] for run in parents) == ["0", "1"]


def test_results_of_a_cohort_removed_from_the_study_are_not_copied(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    header = "network,ensemble,auc,auc_low,auc_high,ap,sen,spe"
    for place in (folder, folder.external("kept"), folder.external("dropped")):
        write_text(
            place.ensembles / "metrics.csv", f"{header}\nrandom,PH,0.7,0.6,0.8,0.5,0.4,0.3\n"
        )
        write_text(place.problems, "subject\n")
    study = StudyConfig.model_validate(
        {**STUDY.model_dump(mode="json"), "external": {"kept": {"reader": "upenn", "root": "x"}}}
    )
    tracker = Tracker(study, folder, make_plan(study, (SPLIT,)), None, print)
    tracker.start()
    tracker.close("FINISHED")
    client = MlflowClient(local_store(folder))
    experiment = client.get_experiment_by_name("tracked")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    aucs = {name for name in run.data.metrics if name.endswith("/auc")}
    assert aucs == {"random/PH/auc", "external/kept/random/PH/auc"}
    assert [item.path for item in client.list_artifacts(run.info.run_id, "external")] == [
        "external/kept"
    ]
    found = [item.path for item in client.list_artifacts(run.info.run_id, "external/kept")]
    assert found == ["external/kept/ensembles", "external/kept/problems.csv"]


def test_a_finished_study_is_copied_again_once_it_or_the_copy_has_changed(
    tmp_path: Path, trials: list[Trial]
) -> None:
    folder = StudyFolder(tmp_path)
    store = tmp_path / "mlflow.db"

    def is_copied() -> bool:
        before = store.stat().st_mtime_ns if store.exists() else 0
        assert track(folder, trials, "FINISHED", None) == []
        return store.stat().st_mtime_ns != before

    write_text(folder.problems, "subject\n")
    assert is_copied()
    assert not is_copied()
    write_text(folder.problems, "subject,kind\n")
    assert is_copied()
    (tmp_path / "mlflow.json").write_text("damaged")
    assert is_copied()
    assert track(folder, trials, "FINISHED", f"sqlite:///{tmp_path / 'other.db'}") == []
    assert (tmp_path / "other.db").exists()


def test_a_server_that_does_not_answer_causes_one_warning_and_a_later_copy(
    tmp_path: Path, trials: list[Trial]
) -> None:
    folder = StudyFolder(tmp_path)
    write_epochs(folder, trials[0], 2)
    started = time.monotonic()
    (warning,) = track(folder, trials, "FINISHED", "http://127.0.0.1:9")
    # MLflow's own patience is over four minutes
    assert time.monotonic() - started < 60
    assert "http://127.0.0.1:9 cannot be written" in warning
    assert "rerun the command" in warning
    assert track(folder, trials, "FINISHED", None) == []
    client = MlflowClient(local_store(folder))
    experiment = client.get_experiment_by_name("tracked")
    assert experiment is not None
    assert len(client.search_runs([experiment.experiment_id])) == 2


def test_a_diverged_trial_is_a_failed_run_that_is_copied_again_after_it_was_retrained(
    tmp_path: Path, trials: list[Trial]
) -> None:
    folder, (trial, *_) = StudyFolder(tmp_path), trials
    diverged = {
        "status": "diverged",
        "weights_sha256": None,
        "last_good_epoch": 0,
        "message": "inf",
    }
    write_json(folder.trial(trial.id) / "trial.json", diverged)
    client = MlflowClient(local_store(folder))

    def copies() -> list[tuple[str, str | None]]:
        experiment = client.get_experiment_by_name("tracked")
        runs = client.search_runs([experiment.experiment_id], order_by=["start_time"])
        children = [run for run in runs if "mlflow.parentRunId" in run.data.tags]
        return [(run.info.status, run.data.tags.get("selection_rule")) for run in children]

    for _ in range(2):
        assert track(folder, trials, "FAILED", None) == []
        assert copies() == [("FAILED", "diverged")]
    selection = {"rule": "best_m", "epoch": 1, "m": 0.6, "sen": 0.6, "spe": 0.6}
    content = {"status": "finished", "weights_sha256": "f" * 64, "selection": selection}
    write_json(folder.trial(trial.id) / "trial.json", content)
    (folder.trial(trial.id) / "epochs.csv").write_text("epoch,train_loss\n1,0.5\n")
    assert track(folder, trials, "FINISHED", None) == []
    assert copies() == [("FAILED", "diverged"), ("FINISHED", "best_m")]


def test_runs_of_slices_have_their_stage(tmp_path: Path) -> None:
    chen = {"kind": "slices", "parts": 2}
    changed = STUDY.model_dump() | {"networks": {"chen": chen}}
    study = StudyConfig.model_validate(changed)
    plan = make_plan(study, (SPLIT,))[:4]
    folder = StudyFolder(tmp_path)
    for trial in plan:
        write_epochs(folder, trial, 1)
    tracker = Tracker(study, folder, plan, None, print)
    tracker.start()
    tracker.close("KILLED")
    client = MlflowClient(local_store(folder))
    experiment = client.get_experiment_by_name("tracked")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    stages = {
        (run.data.params["stage"], run.data.params["part_left_out"])
        for run in runs
        if "stage" in run.data.params
    }
    parts = {("segmentation", part) for part in ("none", "0", "1")}
    assert stages == parts | {("classification", "none")}


def test_a_deleted_experiment_is_told_with_its_restoration(
    tmp_path: Path, trials: list[Trial]
) -> None:
    folder = StudyFolder(tmp_path)
    client = MlflowClient(local_store(folder))
    number = client.create_experiment("tracked")
    client.delete_experiment(number)
    (warning,) = track(folder, trials, "FINISHED", None)
    assert "its experiment tracked was deleted there" in warning
    assert f"experiments restore --experiment-id {number} restores it" in warning
    client.restore_experiment(number)
    assert track(folder, trials, "FINISHED", None) == []


@pytest.mark.parametrize(
    ("name", "is_accepted"),
    [("a?b", False), ("100%41", False), ("a%20b", False), ("100%", True), ("a%b#c d~", True)],
)
def test_the_database_lies_in_the_study_or_the_folders_name_is_refused(
    tmp_path: Path, name: str, is_accepted: bool
) -> None:
    folder = StudyFolder(tmp_path / name)
    # where SQLAlchemy, with which MLflow opens it, takes the database to be
    database = make_url(local_store(folder)).database
    assert (database == str(folder.root / "mlflow.db")) == is_accepted
    if is_accepted:
        check_local_store(folder)
    else:
        with pytest.raises(MgmtError, match="write its database elsewhere"):
            check_local_store(folder)
