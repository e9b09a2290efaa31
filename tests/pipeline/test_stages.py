from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pandas as pd
import psutil
import pytest
from mlflow import MlflowClient

from mgmt_ray.base import MgmtError
from mgmt_ray.cohort.cohort import read_cohort
from mgmt_ray.cohort.upenn import UpennConfig, read_upenn
from mgmt_ray.pipeline.stages import (
    bring_up_to_date,
    ensemble,
    load_existing,
    prepare,
    search,
    select,
    train,
)
from mgmt_ray.report.cautions import protocol_deviations
from mgmt_ray.report.study_results import read_study_results
from mgmt_ray.study.folder import read_trial_file
from mgmt_ray.synthetic.generate import SyntheticConfig, synthesize
from mgmt_ray.synthetic.table_layout import write_table_copy
from mgmt_ray.tracking.mlflow_tracker import local_store
from mgmt_ray.training.pretrain import SourceTaskConfig, write_source_task_checkpoint
from mgmt_ray.trials.context import StudyContext
from tests.run_stages import evaluated, planned, prepared, trained

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


ELSEWHERE = {
    "subjects": 12,
    "grid": (24, 28, 28),
    "modalities": ("PH", "FLAIR"),
    "methylated_fraction": 0.5,
    "without_dti": 0.0,
    "without_dsc": 0.2,
}


@pytest.fixture
def own_data(
    make_job: Callable[..., StudyContext], data, tmp_path: Path
) -> Callable[..., StudyContext]:
    """A job on a copy of the small cohort that a test may spoil."""

    def make(**sections: object) -> StudyContext:
        root = tmp_path / "cohort"
        shutil.copytree(data.root, root)
        context = make_job(**sections)
        cohort = context.study.cohort.model_copy(update={"root": root})
        return replace(context, study=context.study.model_copy(update={"cohort": cohort}))

    return make


def files(root: Path) -> dict[str, int]:
    """Time of change of everything that a finished study must not make again."""
    stores = ("volumes/**/*", "inspections/**/*")
    kept = ("*.*", *stores, "trials/*/*", "ensembles/*", "figures/*")
    return {str(p): p.stat().st_mtime_ns for pattern in kept for p in root.glob(pattern)}


@pytest.mark.chaos
@pytest.mark.ray
@pytest.mark.usefixtures("local_ray")
def test_a_study_runs_on_ray_though_a_worker_is_killed_and_does_nothing_twice(
    make_job: Callable[..., StudyContext], capsys: pytest.CaptureFixture[str]
) -> None:
    """Its tables are those of a study in one process."""
    context = make_job("ray", out="on_ray")
    root = context.folder.root
    with ThreadPoolExecutor() as pool:
        killed = pool.submit(kill_a_worker, root)
        bring_up_to_date(context)
        assert killed.result(timeout=0) < 3 * 2 * 2, "it was killed after all trials"
    inputs, trials = planned(context)
    (split,) = inputs.splits
    assert len(trials) == 3 * 2 * 2
    for trial in trials:
        check_trial(root / "trials" / trial.id, set(split.test))
    metrics = pd.read_csv(root / "ensembles" / "metrics.csv")
    assert set(metrics.columns) >= METRIC_COLUMNS
    groups = {"DSC", "Struct", "DSC+Struct", "PH", "FLAIR"}
    assert set(metrics["ensemble"]) == groups | {"best overall", "forward selection"}
    assert set(metrics["num_subjects"]) == {len(split.test)}
    assert (metrics["auc_low"] <= metrics["auc"]).all()
    assert len(pd.read_csv(root / "ensembles" / "comparisons.csv")) == 7 * 3
    assert (root / "report.html").stat().st_size > 100_000
    check_mlflow(context, len(trials))
    assert protocol_deviations(read_study_results(root)) == []

    before = files(root)
    capsys.readouterr()
    bring_up_to_date(context)
    assert files(root) == before
    assert (
        len((root / "ensembles" / "test_openings.jsonl").read_text(encoding="utf-8").splitlines())
        == 1
    )
    printed = capsys.readouterr().out
    for stage in ("prepare", "trials", "ensemble", "report"):
        assert f"{stage}: up to date" in printed

    here = make_job("in-process", out="here")
    evaluated(here)
    for name in ("metrics.csv", "predictions.csv", "comparisons.csv"):
        here_text = (here.folder.ensembles / name).read_text(encoding="utf-8")
        assert here_text == (context.folder.ensembles / name).read_text(encoding="utf-8"), name


def kill_a_worker(root: Path) -> int:
    """Kill a worker of Ray Train once a trial is finished; return how many were then."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        finished = len(list(root.glob("trials/*/trial.json")))
        for process in psutil.Process().children(recursive=True) if finished else ():
            with suppress(psutil.Error):
                if "RayTrainWorker" in " ".join(process.cmdline()):
                    process.kill()
                    return finished
        time.sleep(0.05)
    raise AssertionError("no trial was finished, or no worker was found")


def check_trial(folder: Path, test: set[str]) -> None:
    description = json.loads((folder / "trial.json").read_text(encoding="utf-8"))
    assert description["id"] == folder.name
    assert description["selection"]["rule"] in ("best_m", "last_epoch")
    epochs = pd.read_csv(folder / "epochs.csv")
    assert set(epochs.columns) == EPOCH_COLUMNS
    assert epochs["epoch"].tolist() == [1, 2]
    validation = pd.read_csv(folder / "validation.csv")
    assert set(validation["weights_sha256"]) == {description["weights_sha256"]}
    assert not set(validation["subject"]) & test
    assert {p.name for p in folder.iterdir()} == {
        "trial.json",
        "epochs.csv",
        "weights.safetensors",
        "validation.csv",
    }


def check_mlflow(context: StudyContext, num_trials: int) -> None:
    client = MlflowClient(local_store(context.folder))
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
        table = pd.read_csv(context.folder.trial(run.data.tags["mgmt_ray.trial"]) / "epochs.csv")
        assert [point.value for point in history] == table["validation_loss"].tolist()
        assert run.data.params["training.learning_rate"] == "0.005"
    logged = {f.path for f in client.list_artifacts(parent.info.run_id)}
    assert {"report.html", "ensembles", "figures", "study.yaml"} <= logged
    assert "spottune/DSC/auc" in parent.data.metrics


def test_a_longer_study_keeps_the_trials_that_it_has(make_job: Callable[..., StudyContext]) -> None:
    networks = {"random": {"kind": "random", "depth": 10, "width": 4}}
    more = networks | {"transfer": {"kind": "transfer", "depth": 10, "width": 4}}
    evaluated(make_job(networks=networks))
    context = make_job(networks=more)
    before = files(context.folder.root)
    evaluated(context)
    after = files(context.folder.root)
    kept = {path: time for path, time in before.items() if "/trials/" in path}
    assert kept and kept.items() <= after.items()
    accesses = context.folder.test_openings.read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["num_members"] for line in accesses] == [4, 8]


def test_a_search_chooses_on_validation_and_run_trains_nothing_again(
    make_job: Callable[..., StudyContext], capsys: pytest.CaptureFixture[str]
) -> None:
    networks = {"random": {"kind": "random", "depth": 10, "width": 4}}
    section = {"method": "grid", "space": {"learning_rate": {"values": [1e30, 0.005, 1e-9]}}}
    context = make_job(networks=networks, search=section)
    with pytest.raises(MgmtError, match=r"search: is not finished, .* Run `mgmt-ray search STUDY`"):
        bring_up_to_date(context)
    search(context)
    table = pd.read_csv(context.folder.search_table)
    assert table["state"].tolist() == ["diverged", "finished", "finished"]
    assert not context.folder.test_openings.exists()
    before = files(context.folder.root)
    capsys.readouterr()
    search(context)
    assert files(context.folder.root) == before
    bring_up_to_date(context)
    assert "trials: up to date (4 finished)" in capsys.readouterr().out
    members = pd.read_csv(context.folder.ensembles / "members.csv")
    chosen = table.loc[table["chosen"] == 1, "learning_rate"].tolist()
    rates = [json.loads(text)["learning_rate"] for text in members["hyperparameters"]]
    assert rates == chosen * 4
    assert all(f"_lr{chosen[0]:g}_fold" in name for name in members["trial"]) or chosen[0] < 1e-3
    protocol = json.loads(context.folder.protocol.read_text(encoding="utf-8"))
    assert protocol["num_searched_configurations"] == 3

    space = {"learning_rate": {"values": [1e30, 0.005]}}
    other = make_job(networks=networks, search=section | {"space": space})
    with pytest.raises(MgmtError, match="search: was made with other settings"):
        bring_up_to_date(other)


def test_a_diverged_trial_is_reported_and_never_chosen(
    make_job: Callable[..., StudyContext], capsys: pytest.CaptureFixture[str]
) -> None:
    networks = {"random": {"kind": "random", "depth": 10, "width": 4}}
    section = {"method": "grid", "space": {"learning_rate": {"values": [1e30]}}}
    context = make_job(networks=networks, search=section)
    with pytest.raises(MgmtError, match="random: a training of each configuration diverged"):
        search(context)
    assert not context.folder.search_choice.exists()


def test_the_test_set_is_not_accessed_where_all_trials_diverged(
    make_job: Callable[..., StudyContext],
) -> None:
    training = {"epochs": 1, "batch_size": 12, "learning_rate": 1e30}
    networks = {"random": {"kind": "random", "depth": 10, "width": 4}}
    context = make_job(networks=networks, training=training)
    with pytest.raises(
        MgmtError, match=r"random PH, random FLAIR: .* Lower the study's training.learning_rate"
    ):
        bring_up_to_date(context)
    assert not context.folder.test_openings.exists()


def test_trials_of_other_volumes_are_not_taken_for_this_studys(
    make_job: Callable[..., StudyContext],
) -> None:
    context = make_job(networks={"random": {"kind": "random", "depth": 10, "width": 4}})
    trained(context)
    path = next(context.folder.trials.glob("*_PH_*/trial.json"))
    metadata = read_trial_file(path.parent)
    metadata["volumes_checksum"]["PH"] += "0"
    path.write_text(json.dumps(metadata), encoding="utf-8")
    with pytest.raises(MgmtError, match=r"trained from other files \(volumes_checksum differ\)"):
        trained(context)


def test_an_error_of_one_trial_is_reported_and_does_not_stop_the_others(
    make_job: Callable[..., StudyContext], capsys: pytest.CaptureFixture[str]
) -> None:
    context = make_job(networks={"random": {"kind": "random", "depth": 10, "width": 4}})
    _, trials = planned(context)
    in_the_way = context.folder.partial_trial(trials[1].id)
    in_the_way.parent.mkdir(parents=True)
    in_the_way.write_text("a file where the trial's folder should be")
    with pytest.raises(MgmtError, match=r"1 of 4 trials are not finished \(1 failed"):
        trained(context)
    printed = capsys.readouterr().out
    assert f"trial {trials[1].id} ended without a result" in printed
    assert "cannot be written" in printed
    in_the_way.unlink()
    trained(context)
    assert context.folder.is_finished(trials[1].id)


def test_a_broken_scan_is_named_before_anything_is_prepared(
    own_data: Callable[..., StudyContext],
) -> None:
    context = own_data()
    subject = select(context).cohort.subjects[0]
    whole = subject.scans["FLAIR"].read_bytes()
    subject.scans["FLAIR"].write_bytes(whole[:-200])
    with pytest.raises(MgmtError, match=subject.scans["FLAIR"].name):
        bring_up_to_date(context)
    assert not context.folder.volumes.exists()
    assert not context.folder.trials.exists()


def test_a_scan_that_breaks_after_it_was_checked_is_named_and_the_others_are_kept(
    own_data: Callable[..., StudyContext],
) -> None:
    context = own_data()
    selected = select(context)
    subject = selected.cohort.subjects[0]
    whole = subject.scans["FLAIR"].read_bytes()
    subject.scans["FLAIR"].write_bytes(whole[:-200])
    with pytest.raises(MgmtError, match=subject.scans["FLAIR"].name):
        prepare(context, selected)
    assert not (context.folder.volumes / "FLAIR.json").exists()

    subject.scans["FLAIR"].write_bytes(whole)
    before = files(context.folder.root)
    prepare(context, selected)
    made = [Path(path) for path in files(context.folder.root).keys() - before.keys()]
    volumes = [path for path in made if path.suffix == ".safetensors"]
    assert {path.name.rpartition("-")[0] for path in volumes} == {subject.id}


def test_an_external_cohort_is_predicted_without_the_persons_of_the_study(
    make_job: Callable[..., StudyContext], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    synthesize(SyntheticConfig(**{**ELSEWHERE, "seed": 9}), tmp_path / "elsewhere")
    config = UpennConfig(reader="upenn", root=tmp_path / "elsewhere", modalities=("PH", "FLAIR"))
    strangers = read_upenn(config).subjects
    networks = {"random": {"kind": "random", "depth": 10, "width": 4}}
    known = select(make_job(networks=networks, out="first")).cohort.subjects[:3]
    renamed = [replace(s, id=f"X{s.id}", person=f"X{s.person}") for s in strangers]
    write_table_copy([*known, *renamed], tmp_path / "table", seed=0)
    external = {
        "reader": "table",
        "root": str(tmp_path / "table"),
        "modalities": ["PH", "FLAIR"],
    }
    context = make_job(networks=networks, external={"elsewhere": external})
    bring_up_to_date(context)
    printed = " ".join(capsys.readouterr().out.split())
    assert "excluded: also in the study's own cohort 3" in printed
    there = context.folder.external("elsewhere")
    metrics = pd.read_csv(there.ensembles / "metrics.csv")
    assert {"DSC", "Struct"} <= set(metrics["ensemble"])
    assert metrics["num_subjects"].max() == len(strangers)
    assert "elsewhere" in (context.folder.root / "report.html").read_text(encoding="utf-8")
    before = files(context.folder.root) | files(there.root)
    bring_up_to_date(context)
    assert files(context.folder.root) | files(there.root) == before


def test_every_subject_is_tested_once_by_nested_cross_validation(
    make_job: Callable[..., StudyContext],
) -> None:
    networks = {"random": {"kind": "random", "depth": 10, "width": 4}}
    context = make_job(networks=networks, split={"folds": 2, "outer_folds": 3})
    bring_up_to_date(context)
    cohort = read_cohort(context.folder.root)
    complete = {s.id for s in cohort.subjects if s.has_all(context.study.modalities)}
    predictions = pd.read_csv(context.folder.ensembles / "predictions.csv")
    for _, rows in predictions.groupby(["network", "ensemble"]):
        assert sorted(rows["subject"]) == sorted(complete)
    assert len(list(context.folder.trials.glob("*_outer2_*"))) == 2 * 2
    assert (context.folder.root / "report.html").exists()


@pytest.mark.parametrize("fault", ["weights", "missing"])
def test_the_test_set_is_not_accessed_for_incomplete_trials(
    make_job: Callable[..., StudyContext], fault: str
) -> None:
    networks = {"random": {"kind": "random", "depth": 10, "width": 4}}
    context = make_job(networks=networks)
    inputs, trials = prepared(context)
    if fault == "missing":
        train(trials[:-1], inputs)
        with pytest.raises(MgmtError, match=r"1 of 4 trials are not finished.*mgmt-ray run"):
            ensemble(trials, inputs, {})
        assert not context.folder.test_openings.exists()
    else:
        train(trials, inputs)
        weights = context.folder.trial(trials[0].id) / "weights.safetensors"
        content = bytearray(weights.read_bytes())
        content[-1] ^= 1
        weights.write_bytes(content)
        with pytest.raises(MgmtError, match="its checksum is not the one"):
            ensemble(trials, inputs, {})


def test_a_lost_table_is_rebuilt(make_job: Callable[..., StudyContext]) -> None:
    context = make_job(networks={"random": {"kind": "random", "depth": 10, "width": 4}})
    evaluated(context)
    before = (context.folder.ensembles / "metrics.csv").read_text(encoding="utf-8")
    (context.folder.ensembles / "metrics.csv").unlink()
    (context.folder.ensembles / "predictions.csv").write_text("")
    evaluated(context)
    assert (context.folder.ensembles / "metrics.csv").read_text(encoding="utf-8") == before
    assert num_accesses(context) == 1, "what models predicted was there"
    (context.folder.ensembles / "member_predictions.csv").unlink()
    evaluated(context)
    assert (context.folder.ensembles / "metrics.csv").read_text(encoding="utf-8") == before
    assert num_accesses(context) == 2


def num_accesses(context: StudyContext) -> int:
    return len(context.folder.test_openings.read_text(encoding="utf-8").splitlines())


def test_a_corrected_covariate_changes_its_tables_without_test_set_access(
    own_data: Callable[..., StudyContext],
) -> None:
    context = own_data(networks={"random": {"kind": "random", "depth": 10, "width": 4}})
    evaluated(context)
    before = (context.folder.ensembles / "subgroups.csv").read_text(encoding="utf-8")
    (table,) = context.study.cohort.root.glob("*clinical*.csv")
    table.write_text(table.read_text(encoding="utf-8").replace(",F,", ",M,"), encoding="utf-8")
    evaluated(context)
    assert (context.folder.ensembles / "subgroups.csv").read_text(encoding="utf-8") != before
    assert num_accesses(context) == 1


def test_other_pretrained_weights_are_an_error_before_test_set_access(
    make_job: Callable[..., StudyContext], tmp_path: Path
) -> None:
    context = make_job(networks={"transfer": {"kind": "transfer", "depth": 10, "width": 4}})
    inputs, trials = trained(context)
    weights = SourceTaskConfig(depth=10, width=4, steps=0, shape=(10, 12, 12), seed=5)
    write_source_task_checkpoint(weights, tmp_path / "other.pth")
    study = context.study.model_copy(update={"checkpoint": tmp_path / "other.pth"})
    other = replace(inputs, study=study)
    with pytest.raises(MgmtError, match=r"checkpoint_checksum differ"):
        ensemble(trials, other, {})
    assert not context.folder.test_openings.exists()


def test_a_damaged_store_is_an_error_before_any_trial_and_not_read_after_the_last(
    make_job: Callable[..., StudyContext],
) -> None:
    context = make_job(networks={"random": {"kind": "random", "depth": 10, "width": 4}})
    inputs, _ = prepared(context)
    (split,) = inputs.splits
    trained_on = split.training[0]
    (path,) = (context.folder.volumes / "FLAIR").glob(f"{trained_on}-*")
    clean = path.read_bytes()
    spoil(context, "FLAIR", (trained_on,))
    with pytest.raises(MgmtError, match=f"{path.name}: the data of {trained_on} are not what"):
        bring_up_to_date(context)
    assert not context.folder.trials.exists()

    path.write_bytes(clean)
    bring_up_to_date(context)
    spoil(context, "FLAIR", (trained_on,))
    bring_up_to_date(context)  # nothing is trained, so 20 GB need not be read
    with pytest.raises(MgmtError, match=rf"the data of {trained_on} are not what was written"):
        prepare(context, select(context))


def test_tables_of_another_split_are_not_continued(make_job: Callable[..., StudyContext]) -> None:
    networks = {"random": {"kind": "random", "depth": 10, "width": 4}}
    context = make_job(networks=networks)
    planned(context)
    changed = make_job(networks=networks, split={"folds": 2, "seed": 9})
    with pytest.raises(MgmtError, match="not the split of the present study"):
        load_existing(changed)


def test_trials_never_read_the_test_subjects(make_job: Callable[..., StudyContext]) -> None:
    networks = {"spottune": {"kind": "spottune", "depth": 10, "width": 4, "agent_width": 2}}
    tables = []
    for out in ("clean", "spoilt"):
        context = make_job(networks=networks, out=out)
        inputs, trials = prepared(context)
        (split,) = inputs.splits
        if out == "spoilt":
            for modality in context.study.modalities:
                spoil(context, modality, split.test)
        train(trials, inputs)
        tables.append(
            [
                (context.folder.trial(t.id) / "validation.csv").read_text(encoding="utf-8")
                for t in trials
            ]
        )
    assert tables[0] == tables[1]


def spoil(context: StudyContext, modality: str, subjects: tuple[str, ...]) -> None:
    """Make the volumes of some subjects impossible, behind the index's back."""
    for subject in subjects:
        (path,) = (context.folder.volumes / modality).glob(f"{subject}-*")
        content = path.read_bytes()
        start = 8 + int.from_bytes(content[:8], "little")
        path.write_bytes(content[:start] + b"\xff" * len(content[start:]))  # NaN
