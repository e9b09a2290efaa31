from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient

from mgmt_ray.base import MgmtError
from mgmt_ray.orchestration.stages import (
    Job,
    bring_up_to_date,
    ensemble,
    existing,
    plan_study,
    prepare,
    train,
)
from mgmt_ray.preprocess.store import VolumeStore
from mgmt_ray.preprocess.store_plan import plan_store
from mgmt_ray.tracking import local_store
from mgmt_ray.training.pretrain import SourceTaskConfig, write_source_task_checkpoint

EPOCH_COLUMNS = {
    "epoch",
    *(f"{part}_{name}" for part in ("train", "validation") for name in ("loss", "auc", "ap")),
    *(f"{part}_{name}" for part in ("train", "validation") for name in ("sen", "spe", "m")),
    "lr_network",
    "lr_agent",
    "seconds",
}
METRIC_COLUMNS = {"network", "ensemble", "num_members", "num_subjects", "num_methylated"} | {
    f"{name}{bound}" for name in ("auc", "ap", "sen", "spe") for bound in ("", "_low", "_high")
}


def files(root: Path) -> dict[str, int]:
    """Time of change of everything that a finished study must not make again."""
    kept = [*root.glob("volumes/*"), *root.glob("trials/*/*"), *root.glob("ensembles/*")]
    return {str(path): path.stat().st_mtime_ns for path in [*kept, root / "splits.json"]}


@pytest.mark.ray
@pytest.mark.usefixtures("local_ray")
def test_a_study_runs_from_files_to_report_and_nothing_twice(
    make_job: Callable[..., Job], capsys: pytest.CaptureFixture[str]
) -> None:
    job = make_job("ray", out="on_ray")
    bring_up_to_date(job)
    root = job.folder.root
    _, split, trials = plan_study(job)
    assert len(trials) == 3 * 2 * 2
    for trial in trials:
        check_trial(root / "trials" / trial.id, set(split.test))
    metrics = pd.read_csv(root / "ensembles" / "metrics.csv")
    assert set(metrics.columns) >= METRIC_COLUMNS
    assert set(metrics["ensemble"]) == {"DSC", "Struct", "DSC+Struct", "PH", "FLAIR"}
    assert set(metrics["num_subjects"]) == {len(split.test)}
    assert (metrics["auc_low"] <= metrics["auc"]).all()
    assert len(pd.read_csv(root / "ensembles" / "comparisons.csv")) == 5 * 3
    assert (root / "report.html").stat().st_size > 100_000
    check_mlflow(job, len(trials))

    before = files(root)
    capsys.readouterr()
    bring_up_to_date(job)
    assert files(root) == before
    assert len((root / "ensembles" / "test_openings.jsonl").read_text().splitlines()) == 1
    printed = capsys.readouterr().out
    for stage in ("prepare", "trials", "ensemble"):
        assert f"{stage}: up to date" in printed

    here = make_job("in-process", out="here")
    bring_up_to_date(here)
    for name in ("metrics.csv", "predictions.csv", "comparisons.csv"):
        here_text = (here.folder.ensembles / name).read_text()
        assert here_text == (job.folder.ensembles / name).read_text(), name


def check_trial(folder: Path, test: set[str]) -> None:
    description = json.loads((folder / "trial.json").read_text())
    assert description["id"] == folder.name
    assert description["selection"]["rule"] in ("best_m", "last_epoch")
    epochs = pd.read_csv(folder / "epochs.csv")
    assert set(epochs.columns) == EPOCH_COLUMNS
    assert epochs["epoch"].tolist() == [1, 2]
    validation = pd.read_csv(folder / "validation.csv")
    assert set(validation["weights"]) == {description["weights"]}
    assert not set(validation["subject"]) & test
    assert {p.name for p in folder.iterdir()} == {
        "trial.json",
        "epochs.csv",
        "weights.safetensors",
        "validation.csv",
    }


def check_mlflow(job: Job, num_trials: int) -> None:
    client = MlflowClient(local_store(job.folder))
    experiment = client.get_experiment_by_name("small")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], max_results=1000)
    assert {run.info.status for run in runs} == {"FINISHED"}
    children = [run for run in runs if "mlflow.parentRunId" in run.data.tags]
    (parent,) = (run for run in runs if "mlflow.parentRunId" not in run.data.tags)
    assert len(children) == num_trials
    for run in children:
        assert {"network", "modality", "fold", "mgmt_ray.trial"} <= run.data.tags.keys()
        history = client.get_metric_history(run.info.run_id, "validation_loss")
        assert [point.step for point in history] == [1, 2]
        table = pd.read_csv(job.folder.trial(run.data.tags["mgmt_ray.trial"]) / "epochs.csv")
        assert [point.value for point in history] == table["validation_loss"].tolist()
        assert run.data.params["training.learning_rate"] == "0.005"
    logged = {f.path for f in client.list_artifacts(parent.info.run_id)}
    assert {"report.html", "ensembles", "figures", "study.yaml"} <= logged
    assert "spottune/DSC/auc" in parent.data.metrics


def test_a_longer_study_keeps_the_trials_that_it_has(make_job: Callable[..., Job]) -> None:
    networks = {"random": {"kind": "random", "depth": 10, "width": 4}}
    more = networks | {"transfer": {"kind": "transfer", "depth": 10, "width": 4}}
    bring_up_to_date(make_job(networks=networks))
    job = make_job(networks=more)
    before = files(job.folder.root)
    bring_up_to_date(job)
    after = files(job.folder.root)
    kept = {path: time for path, time in before.items() if "/trials/" in path}
    assert kept and kept.items() <= after.items()
    openings = job.folder.test_openings.read_text().splitlines()
    assert [json.loads(line)["num_members"] for line in openings] == [4, 8]


def test_swept_values_are_chosen_on_validation(make_job: Callable[..., Job]) -> None:
    networks = {"random": {"kind": "random", "depth": 10, "width": 4}}
    job = make_job(networks=networks, sweep={"learning_rate": [0.01, 1e-9]})
    bring_up_to_date(job)
    members = pd.read_csv(job.folder.ensembles / "members.csv")
    _, _, trials = plan_study(job)
    assert len(trials) == 2 * 2 * 2
    assert len(members) == 2 * 2
    for _, rows in members.groupby("modality"):
        assert rows["hyperparameters"].nunique() == 1


def test_trials_of_other_volumes_are_not_taken_for_this_studys(
    make_job: Callable[..., Job],
) -> None:
    job = make_job(networks={"random": {"kind": "random", "depth": 10, "width": 4}})
    bring_up_to_date(job)
    path = next(job.folder.trials.glob("*_PH_*/trial.json"))
    path.write_text(path.read_text().replace('"PH": "', '"PH": "0'))
    with pytest.raises(MgmtError, match=r"trained from other files \(volumes_checksum differ\)"):
        bring_up_to_date(job)


def test_a_fault_of_one_trial_is_told_and_does_not_stop_the_others(
    make_job: Callable[..., Job], capsys: pytest.CaptureFixture[str]
) -> None:
    networks = {
        "random": {"kind": "random", "depth": 10, "width": 4},
        "transfer": {"kind": "transfer", "depth": 10, "width": 64},
    }
    with pytest.raises(MgmtError, match=r"4 of 8 trials are not finished \(4 with a fault"):
        bring_up_to_date(make_job(networks=networks))
    printed = capsys.readouterr().out
    assert "does not fit the network" in printed
    assert "Set depth and width" in printed


def test_a_broken_scan_is_named_and_the_others_are_kept(
    make_job: Callable[..., Job], data, tmp_path: Path
) -> None:
    root = tmp_path / "cohort"
    shutil.copytree(data.root, root)
    job = make_job()
    cohort = job.study.cohort.model_copy(update={"root": root})
    job = replace(job, study=job.study.model_copy(update={"cohort": cohort}))
    subject = plan_study(job)[0].subjects[0]
    whole = subject.scans["FLAIR"].read_bytes()
    subject.scans["FLAIR"].write_bytes(whole[:-200])
    with pytest.raises(MgmtError, match=subject.scans["FLAIR"].name):
        bring_up_to_date(job)
    assert not list(job.folder.trials.glob("*"))
    assert not (job.folder.volumes / "FLAIR.npy").exists()

    subject.scans["FLAIR"].write_bytes(whole)
    plan = plan_store(job.folder.volumes, plan_study(job)[0], ("FLAIR",), job.study.recipe)
    assert [task.subject.id for task in plan.tasks] == [subject.id]


@pytest.mark.parametrize("fault", ["weights", "missing"])
def test_the_test_set_is_not_opened_for_trials_that_are_not_whole(
    make_job: Callable[..., Job], fault: str
) -> None:
    networks = {"random": {"kind": "random", "depth": 10, "width": 4}}
    job = make_job(networks=networks)
    cohort, split, trials = plan_study(job)
    prepare(job, cohort)
    inputs = job.inputs(cohort, split)
    if fault == "missing":
        train(job, trials[:-1], inputs)
        with pytest.raises(MgmtError, match=r"1 of 4 trials are not finished.*mgmt-ray run"):
            ensemble(job, trials, inputs)
        assert not job.folder.test_openings.exists()
    else:
        train(job, trials, inputs)
        weights = job.folder.trial(trials[0].id) / "weights.safetensors"
        content = bytearray(weights.read_bytes())
        content[-1] ^= 1
        weights.write_bytes(content)
        with pytest.raises(MgmtError, match="its checksum is not the one"):
            ensemble(job, trials, inputs)


def test_a_lost_table_is_made_again(make_job: Callable[..., Job]) -> None:
    job = make_job(networks={"random": {"kind": "random", "depth": 10, "width": 4}})
    bring_up_to_date(job)
    before = (job.folder.ensembles / "metrics.csv").read_text()
    (job.folder.ensembles / "metrics.csv").unlink()
    (job.folder.ensembles / "predictions.csv").write_text("")
    bring_up_to_date(job)
    assert (job.folder.ensembles / "metrics.csv").read_text() == before


def test_other_pretrained_weights_are_refused_before_the_test_set_is_opened(
    make_job: Callable[..., Job], tmp_path: Path
) -> None:
    job = make_job(networks={"transfer": {"kind": "transfer", "depth": 10, "width": 4}})
    cohort, split, trials = plan_study(job)
    prepare(job, cohort)
    train(job, trials, job.inputs(cohort, split))
    weights = SourceTaskConfig(depth=10, width=4, steps=0, shape=(10, 12, 12), seed=5)
    write_source_task_checkpoint(weights, tmp_path / "other.pth")
    other = replace(job.inputs(cohort, split), checkpoint=tmp_path / "other.pth")
    with pytest.raises(MgmtError, match=r"checkpoint_checksum differ"):
        ensemble(job, trials, other)
    assert not job.folder.test_openings.exists()


def test_tables_of_another_split_are_not_continued(make_job: Callable[..., Job]) -> None:
    networks = {"random": {"kind": "random", "depth": 10, "width": 4}}
    plan_study(make_job(networks=networks))
    changed = make_job(networks=networks, split={"folds": 2, "seed": 9})
    with pytest.raises(MgmtError, match="not the split of this study"):
        existing(changed)


def test_trials_never_read_the_test_subjects(make_job: Callable[..., Job]) -> None:
    networks = {"spottune": {"kind": "spottune", "depth": 10, "width": 4, "agent_width": 2}}
    tables = []
    for out in ("clean", "spoilt"):
        job = make_job(networks=networks, out=out)
        cohort, split, trials = plan_study(job)
        prepare(job, cohort)
        if out == "spoilt":
            for modality in job.study.modalities:
                spoil(job, modality, split.test)
        train(job, trials, job.inputs(cohort, split))
        tables.append([(job.folder.trial(t.id) / "validation.csv").read_text() for t in trials])
    assert tables[0] == tables[1]


def spoil(job: Job, modality: str, subjects: tuple[str, ...]) -> None:
    """Make the volumes of some subjects impossible, behind the index's back."""
    store = VolumeStore(job.folder.volumes, modality)
    array = np.load(store.path, mmap_mode="r+")
    for subject in subjects:
        array[store.ids.index(subject)] = np.nan
    array.flush()
