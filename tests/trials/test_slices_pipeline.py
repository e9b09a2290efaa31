"""A two-stage study from files to results, in this process."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from mgmt_ray.base import MgmtError
from mgmt_ray.cluster.resources import Resources
from mgmt_ray.pipeline.stages import (
    bring_up_to_date,
    ensemble,
    select,
    train,
)
from mgmt_ray.study.folder import read_trial_file, write_trial_file
from mgmt_ray.study.outcome import Outcome
from mgmt_ray.trials.context import StudyContext
from mgmt_ray.trials.run_trial import run_trial
from tests.run_stages import planned, prepared, trained
from tests.slice_studies import make_job


class Stopped(Exception):
    """What a power cut would be."""


def test_a_study_of_slices_runs_from_files_to_report_and_nothing_twice(
    finished: StudyContext, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = finished.folder
    inputs, trials = planned(finished)
    (split,) = inputs.splits
    assert len(trials) == 2 * (1 + 2 + 1)
    assert not folder.volumes.exists()
    for trial in trials:
        expected = {"trial.json", "epochs.csv", "weights.safetensors"}
        expected |= {"slice_validation.csv", "slice_train.csv"}
        expected |= {"validation.csv"} if trial.is_classifier else set()
        whole = not trial.is_classifier and trial.inner_fold is None
        expected |= {"segmentations.csv"} if whole else set()
        assert {p.name for p in folder.trial(trial.id).iterdir()} == expected
        slices = pd.read_csv(folder.trial(trial.id) / "slice_validation.csv")
        assert {*slices["subject"]} == {*split.folds[trial.fold]}
        assert slices["dice"].between(0, 1).all()
        trained = pd.read_csv(folder.trial(trial.id) / "slice_train.csv")
        assert {*trained["subject"]} == {*folder.read_trial(trial.id)["persons"]["trained"]}
        assert not trained.duplicated(["subject", "depth"]).any()
        assert 9 * len(trained) == folder.read_trial(trial.id)["num_train_volumes"]
    assert set(pd.read_csv(folder.ensembles / "members.csv")["trial"]) == {
        trial.id for trial in trials if trial.is_classifier
    }
    assert (folder.root / "report.html").stat().st_size > 100_000
    before = {p: p.stat().st_mtime_ns for p in folder.trials.glob("*/*")}
    capsys.readouterr()
    bring_up_to_date(finished)
    printed = capsys.readouterr().out
    for stage in ("prepare slices", "trials", "ensemble"):
        assert f"{stage}: up to date" in printed
    assert {p: p.stat().st_mtime_ns for p in folder.trials.glob("*/*")} == before
    assert len(folder.test_openings.read_text(encoding="utf-8").splitlines()) == 1


def test_a_cohorts_tumours_that_are_too_small_for_slices_are_found_with_its_files(
    copied: StudyContext,
) -> None:
    most = pd.read_csv(copied.folder.ensembles / "slice_predictions.csv")["tumour_pixels"].max()
    slices = copied.study.slices.model_copy(update={"least_tumour_voxels": int(most) + 1})
    context = replace(copied, study=copied.study.model_copy(update={"slices": slices}))
    with pytest.raises(MgmtError, match=r"voxels of tumour .*\(small_tumour\)\..* lower slices\."):
        select(context)
    few = slices.model_copy(update={"least_tumour_voxels": 1, "least_brain_voxels": 1024})
    context = replace(copied, study=copied.study.model_copy(update={"slices": few}))
    with pytest.raises(MgmtError, match=r"1024 voxels of brain .*\(constant\)\..* lower slices\."):
        select(context)


@pytest.mark.parametrize("split", ["validation", "test"])
def test_a_patients_probability_is_the_mean_of_the_slices(
    finished: StudyContext, split: str
) -> None:
    folder = finished.folder
    if split == "test":
        patients = pd.read_csv(folder.ensembles / "member_predictions.csv")
        slices = pd.read_csv(folder.ensembles / "slice_predictions.csv")
    else:
        _, trials = planned(finished)
        tables = [folder.trial(t.id) for t in trials if t.is_classifier]
        patients = pd.concat(pd.read_csv(t / "validation.csv") for t in tables)
        slices = pd.concat(pd.read_csv(t / "slice_validation.csv") for t in tables)
    assert {*slices["split"]} == {*patients["split"]} == {split}
    means = slices.groupby(["trial", "subject"])["probability"].mean()
    assert len(means) == len(patients)
    probability = patients.set_index(["trial", "subject"])["probability"]
    # both are read from text with all digits
    pd.testing.assert_series_equal(probability.sort_index(), means.sort_index(), rtol=1e-12)


def test_every_mask_of_a_training_slice_is_by_a_network_that_did_not_train_on_it(
    finished: StudyContext,
) -> None:
    inputs, trials = planned(finished)
    for trial in (t for t in trials if t.is_classifier):
        train_ids, validation = inputs.splits[0].fold(trial.fold, {*inputs.splits[0].training})
        metadata = [finished.folder.read_trial(need.id) for need in trial.needs]
        trained = [{*entry["persons"]["trained"]} for entry in metadata]
        learnt = [{*entry["standard_histogram"]["learnt_from"]} for entry in metadata]
        assert trained == learnt
        fold_trained, *parts = trained
        assert fold_trained == {*train_ids}
        left_out = [fold_trained - part for part in parts]
        assert sorted(s for ids in left_out for s in ids) == sorted(train_ids)
        assert not any(trained_on & {*validation} for trained_on in trained)
        assert {entry["num_train_subjects"] for entry in metadata[1:]} == {len(train_ids) // 2}


@pytest.mark.parametrize("key", ["persons", "standard_histogram"])
def test_a_part_that_trained_on_its_patients_is_refused(key: str, copied: StudyContext) -> None:
    inputs, trials = planned(copied)
    trial = next(t for t in trials if t.is_classifier)
    part, fold = (copied.folder.trial(trial.needs[number].id) for number in (1, 0))
    write_trial_file(part, read_trial_file(part) | {key: read_trial_file(fold)[key]})
    shutil.rmtree(copied.folder.trial(trial.id))
    with pytest.raises(MgmtError, match="from a network that was trained on the same persons"):
        run_trial(trial, inputs, "cpu")


def test_a_part_whose_weights_were_exchanged_for_anothers_is_refused(copied: StudyContext) -> None:
    """The fold's own network was trained on all subjects that the part's must not know."""
    inputs, trials = planned(copied)
    trial = next(t for t in trials if t.is_classifier)
    fold_weights, part = (copied.folder.weights(need.id) for need in trial.needs[:2])
    part.write_bytes(fold_weights.read_bytes())
    shutil.rmtree(copied.folder.trial(trial.id))
    with pytest.raises(MgmtError, match=r"its checksum is not the one in trial\.json") as raised:
        run_trial(trial, inputs, "cpu")
    assert str(part) in str(raised.value)
    part.unlink()
    with pytest.raises(MgmtError, match="so it was changed or lost"):
        run_trial(trial, inputs, "cpu")


def test_a_deleted_segmentation_comes_back_and_its_classifier_stays(copied: StudyContext) -> None:
    inputs, trials = planned(copied)
    classifier = next(t for t in trials if t.is_classifier)
    folder = copied.folder.trial(classifier.id)
    before = {path: path.read_bytes() for path in folder.iterdir()}
    shutil.rmtree(copied.folder.trial(classifier.needs[1].id))
    train(trials, inputs)
    assert copied.folder.is_finished(classifier.needs[1].id)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_a_classifier_of_another_segmentation_than_the_one_that_came_back_is_refused(
    copied: StudyContext,
) -> None:
    inputs, trials = planned(copied)
    classifier = next(t for t in trials if t.is_classifier)
    metadata = copied.folder.read_trial(classifier.id)
    for number, name in enumerate(need.id for need in classifier.needs[:2]):
        shutil.rmtree(copied.folder.trial(name))
        metadata["segmentations"][name] = str(number)
    write_trial_file(copied.folder.trial(classifier.id), metadata)
    with pytest.raises(MgmtError, match=r"other files \(segmentations differ\)"):
        train(trials, inputs)
    assert all(copied.folder.is_finished(need.id) for need in classifier.needs)


def test_a_segmentation_tells_the_voxels_that_it_trained_on(finished: StudyContext) -> None:
    _, trials = planned(finished)
    ranges = {tuple(finished.folder.read_trial(t.id).get("in_plane_mm", ())) for t in trials}
    assert ranges == {(1.0, 1.0), ()}


@pytest.mark.parametrize("kind", ["segmentation", "classification"])
def test_a_trial_cut_off_after_an_epoch_ends_as_if_it_had_not_been(
    kind: str, finished: StudyContext, copied: StudyContext
) -> None:
    inputs, trials = planned(copied)
    inputs = replace(inputs, state_seconds=0.0)
    trial = next(t for t in trials if t.is_classifier == (kind == "classification"))
    shutil.rmtree(copied.folder.trial(trial.id))

    def cut(row: dict[str, float]) -> None:
        raise Stopped

    with pytest.raises(Stopped):
        run_trial(trial, inputs, "cpu", report=cut)
    epochs: list[float] = []
    run_trial(trial, inputs, "cpu", report=lambda row: epochs.append(row["epoch"]))
    assert epochs == list(range(2, trial.training_config.epochs + 1))
    whole, continued = finished.folder.trial(trial.id), copied.folder.trial(trial.id)
    for name in ("weights.safetensors", "slice_validation.csv", "slice_train.csv"):
        assert (whole / name).read_bytes() == (continued / name).read_bytes()
    timed = ["epochs.csv"] + (["segmentations.csv"] if kind == "segmentation" else [])
    for name in timed:
        tables = [pd.read_csv(p / name).drop(columns="seconds") for p in (whole, continued)]
        pd.testing.assert_frame_equal(*tables, check_exact=True)


def test_a_classifier_waits_for_its_segmentations(copied: StudyContext) -> None:
    """One that cannot be trained stops its classifier alone; mended, the study goes on."""
    inputs, trials = planned(copied)
    segmentation = trials[0]
    classifier = next(t for t in trials if segmentation in t.needs)
    for trial in (segmentation, classifier):
        shutil.rmtree(copied.folder.trial(trial.id))
    index = json.loads((copied.folder.slices / "FLAIR.json").read_text())
    subject = next(s for s in index["subjects"] if s in inputs.splits[0].folds[1])
    (file,) = (copied.folder.slices / "FLAIR").glob(f"{subject}-*")
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(MgmtError, match="2 of 8 trials are not finished"):
        train(trials, inputs)
    assert "are not what was written" in copied.folder.outcome(segmentation.id).message
    assert segmentation.id in copied.folder.outcome(classifier.id).message
    file.write_bytes(whole)
    train(trials, inputs)
    assert copied.folder.outcome(classifier.id) == Outcome("finished")


def test_test_subjects_are_not_read_before_the_ensemble(copied: StudyContext) -> None:
    inputs, trials = planned(copied)
    for subject in inputs.splits[0].test:
        (file,) = (copied.folder.slices / "FLAIR").glob(f"{subject}-*")
        file.unlink()
    classifier = next(t for t in trials if t.is_classifier)
    for trial in (*classifier.needs, classifier):
        shutil.rmtree(copied.folder.trial(trial.id))
        run_trial(trial, inputs, "cpu")
    shutil.rmtree(copied.folder.ensembles)
    with pytest.raises(MgmtError, match="are not what was written"):
        ensemble(trials, inputs, {})


def test_a_segmentation_that_was_changed_is_not_predicted_with(copied: StudyContext) -> None:
    inputs, trials = planned(copied)
    classifier = next(t for t in trials if t.is_classifier)
    fold_weights, other = (copied.folder.weights(need.id) for need in classifier.needs[:2])
    fold_weights.write_bytes(other.read_bytes())
    shutil.rmtree(copied.folder.ensembles)
    with pytest.raises(MgmtError, match=r"its checksum is not the one in trial\.json"):
        ensemble(trials, inputs, {})


def test_a_classifier_of_a_segmentation_that_diverged_says_so(copied: StudyContext) -> None:
    inputs, trials = planned(copied)
    classifier = next(t for t in trials if t.is_classifier)
    shutil.rmtree(copied.folder.trial(classifier.id))
    folder = copied.folder.trial(classifier.needs[1].id)
    diverged = {"status": "diverged", "weights_sha256": None, "message": "lost"}
    write_trial_file(folder, read_trial_file(folder) | diverged)
    run_trial(classifier, inputs, "cpu")
    metadata = copied.folder.read_trial(classifier.id)
    assert metadata["status"] == "diverged" and classifier.needs[1].id in metadata["message"]


def test_masks_of_the_folds_own_network_are_a_choice(cohort_root: Path, tmp_path: Path) -> None:
    context = make_job(cohort_root, tmp_path / "own", cross_fitted=False, parts=3)
    inputs, trials = prepared(context)
    segmentation, classifier = trials[:2]
    for trial in (segmentation, classifier):
        run_trial(trial, inputs, "cpu")
    assert context.folder.read_trial(classifier.id)["needs"] == [segmentation.id]


@pytest.mark.ray
@pytest.mark.usefixtures("local_ray")
def test_ray_trains_both_stages_to_the_same_bits(
    finished: StudyContext, make_ray_job: Callable[[], StudyContext]
) -> None:
    context = make_ray_job()
    _, trials = trained(context)
    for trial in trials:
        results = [
            folder.read_trial(trial.id)["weights_sha256"]
            for folder in (context.folder, finished.folder)
        ]
        assert results[0] == results[1]


@pytest.fixture
def make_ray_job(cohort_root: Path, tmp_path: Path) -> Callable[[], StudyContext]:
    def make() -> StudyContext:
        context = make_job(cohort_root, tmp_path / "on_ray")
        return replace(context, resources=Resources(backend="ray"))

    return make
