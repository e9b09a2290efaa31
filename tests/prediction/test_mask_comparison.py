"""The effect of predicted masks on the results of a finished 3-D study."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import pytest

from mgmt_ray.base import MgmtError
from mgmt_ray.cohort.cohort import read_cohort
from mgmt_ray.cohort.scan import read_scan
from mgmt_ray.masks.mask_files import MaskRequest, mask_artefact, write_mask_file
from mgmt_ray.pipeline.stages import ensemble, load_existing, report
from mgmt_ray.study.folder import StudyFolder
from mgmt_ray.study.trial import Trial
from mgmt_ray.trials.context import StudyContext, TrialInputs
from tests.masks.test_predicted_masks import exposed_persons

if TYPE_CHECKING:
    from tests.studies import Outlined


def finished(context: StudyContext) -> tuple[list[Trial], TrialInputs]:
    inputs, trials, _ = load_existing(context)
    return trials, inputs


def purposes(folder: StudyFolder) -> list[str]:
    return [json.loads(line)["purpose"] for line in folder.test_openings.open(encoding="utf-8")]


def predict_what_was_given(folder: StudyFolder) -> None:
    """Put given masks where predicted ones are, as perfect networks would."""
    index = json.loads((folder.masks / "alternate_masks.json").read_text())["subjects"]
    for subject in read_cohort(folder.root).subjects:
        if subject.id in index:
            tumour = read_scan(subject.required_mask).voxels > 0
            entry = index[subject.id]
            request = MaskRequest(subject.id, (subject.scans["FLAIR"],), tuple(entry["networks"]))
            path = folder.masks / "alternate_masks" / entry["file"]
            write_mask_file(path, mask_artefact(tumour, request))


@pytest.fixture
def copied(joined: dict[str, StudyContext], tmp_path: Path) -> Callable[[str], StudyContext]:
    def copy(mask: str) -> StudyContext:
        shutil.copytree(joined[mask].folder.root, tmp_path / mask)
        return replace(joined[mask], folder=StudyFolder(tmp_path / mask))

    return copy


@pytest.mark.parametrize("mask", ["given", "predicted"])
def test_test_subjects_are_predicted_with_their_other_mask_and_that_is_logged(
    mask: str, joined: dict[str, StudyContext], capsys: pytest.CaptureFixture[str]
) -> None:
    context = joined[mask]
    folder = context.folder
    table = pd.read_csv(folder.ensembles / "mask_effect.csv")
    trials, inputs = finished(context)
    assert {*table["num_subjects"]} == {len(inputs.splits[0].test)}
    own = pd.read_csv(folder.ensembles / "metrics.csv").set_index("ensemble")["auc"]
    used = table.set_index("ensemble")[f"auc_{mask}"]
    # the same probabilities, ranked by the same function
    assert used.to_dict() == {name: own[name] for name in used.index}
    other = pd.read_csv(folder.mask_effect.ensembles / "member_predictions.csv")
    results = pd.read_csv(folder.ensembles / "member_predictions.csv")
    assert other[["trial", "subject"]].equals(results[["trial", "subject"]])
    assert (other["probability"] != results["probability"]).all()
    assert table["median_dice"].between(0.2, 0.99).all()
    assert purposes(folder) == ["ensembles", "mask effect"]
    ensemble(trials, inputs, {})
    printed = capsys.readouterr().out
    assert "ensemble: up to date" in printed and "mask effect: up to date" in printed
    assert len(purposes(folder)) == 2


def test_networks_that_know_a_test_subject_predict_none_of_its_other_masks(
    joined: dict[str, StudyContext], outlined: Outlined
) -> None:
    known = exposed_persons(outlined.slices)
    context = joined["given"]
    _, inputs = finished(context)
    entries = json.loads((context.folder.masks / "alternate_masks.json").read_text())["subjects"]
    assert entries.keys() == {*inputs.splits[0].test}
    person = {s.id: s.person for s in inputs.cohort.subjects}
    networks = {name: {*entry["networks"]} for name, entry in entries.items()}
    assert networks == {
        name: {n for n, persons in known.items() if person[name] not in persons} for name in entries
    }
    assert any(len(names) < len(known) for names in networks.values())


def test_the_report_tells_what_predicted_masks_do(joined: dict[str, StudyContext]) -> None:
    text = report(joined["given"]).read_text(encoding="utf-8")
    assert "Effect of predicted masks on the results" in text
    assert "what a site without annotators would get" in text
    assert "The test set was accessed" not in text


def test_predicted_masks_that_equal_the_given_ones_have_no_effect(
    copied: Callable[[str], StudyContext],
) -> None:
    context = copied("given")
    before = pd.read_csv(context.folder.ensembles / "mask_effect.csv")
    assert (before["mean_absolute_change"] > 0).all()
    predict_what_was_given(context.folder)
    ensemble(*finished(context), {})
    table = pd.read_csv(context.folder.ensembles / "mask_effect.csv")
    assert (table["auc_given"] == before["auc_given"]).all()
    for name in ("difference", "difference_low", "difference_high", "mean_absolute_change"):
        assert (table[name] == 0).all(), name
    assert (table["p"] == 1).all() and (table["median_dice"] == 1).all()


def test_a_subject_without_another_mask_is_left_out_with_the_reason(
    copied: Callable[[str], StudyContext],
) -> None:
    context = copied("predicted")
    _, inputs = finished(context)
    gone = inputs.splits[0].test[0]
    cohort = context.folder.root / "cohort.csv"
    table = pd.read_csv(cohort, dtype=str, keep_default_na=False)
    table.loc[table["subject"] == gone, "given_mask"] = ""
    table.to_csv(cohort, index=False)
    ensemble(*finished(context), {})
    effect = pd.read_csv(context.folder.ensembles / "mask_effect.csv")
    assert {*effect["num_subjects"]} == {len(inputs.splits[0].test) - 1}
    reasons = pd.read_csv(context.folder.mask_effect.root / "subjects.csv").set_index("subject")
    assert reasons["left_out_because"].dropna().to_dict() == {gone: "no given mask"}


def test_a_study_that_names_no_segmentation_any_more_keeps_no_table(
    copied: Callable[[str], StudyContext], capsys: pytest.CaptureFixture[str]
) -> None:
    context = copied("given")
    context = replace(context, study=context.study.model_copy(update={"mask_source": None}))
    ensemble(*finished(context), {})
    assert not (context.folder.ensembles / "mask_effect.csv").exists()
    capsys.readouterr()
    ensemble(*finished(context), {})
    assert "ensemble: up to date" in capsys.readouterr().out
    assert purposes(context.folder) == ["ensembles", "mask effect"]


def test_a_changed_effect_is_made_again(copied: Callable[[str], StudyContext]) -> None:
    context = copied("given")
    trials, inputs = finished(context)
    path = context.folder.mask_effect_table
    before = pd.read_csv(path)
    before.assign(auc_predicted=0.99).to_csv(path, index=False)
    ensemble(trials, inputs, {})
    pd.testing.assert_frame_equal(pd.read_csv(path), before)
    assert purposes(context.folder) == [
        "ensembles",
        "mask effect",
    ]  # no subject was predicted again


def test_a_study_with_masks_of_another_kind_is_not_taken_for_the_folders(
    copied: Callable[[str], StudyContext],
) -> None:
    context = copied("predicted")
    cohort = context.study.cohort.model_copy(update={"mask": "given"})
    other = replace(context, study=context.study.model_copy(update={"cohort": cohort}))
    with pytest.raises(MgmtError, match=r"its cohort.mask or mask_source is not this study's"):
        load_existing(other)
