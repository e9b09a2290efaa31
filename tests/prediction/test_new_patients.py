"""Patients without labels, predicted by finished studies."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import pytest
import SimpleITK

from mgmt_ray.base import MgmtError, file_checksum
from mgmt_ray.cluster.resources import Resources
from mgmt_ray.cohort.cohort import Cohort
from mgmt_ray.cohort.datasets import read_data_set
from mgmt_ray.cohort.persons import PersonRef
from mgmt_ray.cohort.scan import read_scan
from mgmt_ray.cohort.upenn import UpennConfig
from mgmt_ray.masks.contamination import contamination_reason
from mgmt_ray.pipeline.stages import load_existing, plan_study, predict_new, prepare, select, train
from mgmt_ray.prediction.external_cohorts import predict_external
from mgmt_ray.prediction.new_patients import DISCLAIMER, PATIENT_COLUMNS, PATIENTS
from mgmt_ray.preprocess.scan_inspection import read_inspection
from mgmt_ray.study.folder import StudyFolder, read_trial_file
from mgmt_ray.study.study_config import load_study
from mgmt_ray.synthetic.generate import SyntheticConfig, synthesize
from mgmt_ray.trials.context import StudyContext
from mgmt_ray.trials.pipelines import prepare_stores
from tests.inspections import write_inspection
from tests.masks.test_predicted_masks import exposed_persons
from tests.prediction.test_predict_slices import silence

if TYPE_CHECKING:
    from tests.studies import Outlined
from mgmt_ray.prediction.new_patients import check_overwrite


@pytest.fixture(scope="module")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cohort of other persons than the studies'."""
    root = tmp_path_factory.mktemp("strangers") / "data"
    others = {"follow_ups": 0, "indeterminate": 0, "not_available": 0, "without_scans": 0}
    config = SyntheticConfig(subjects=5, grid=(24, 48, 48), modalities=("FLAIR",), seed=9, **others)
    synthesize(config, root)
    return root


@pytest.fixture
def patients(strangers: Path, tmp_path: Path) -> Callable[..., Path]:
    """Folders of patients, with their masks or without."""

    def write(*, masks: bool) -> Path:
        folder = tmp_path / "scans"
        config = UpennConfig(reader="upenn", root=strangers, modalities=("FLAIR",))
        for number, subject in enumerate(read_data_set(config).subjects):
            own = folder / f"P{number}"
            own.mkdir(parents=True)
            shutil.copy(subject.scans["FLAIR"], own / "FLAIR.nii.gz")
            if masks:
                shutil.copy(subject.required_mask, own / "mask.nii.gz")
        return folder

    return write


def contents(folder: Path) -> dict[Path, str]:
    return {path: file_checksum(path) for path in folder.rglob("*") if path.is_file()}


def test_a_raw_patient_goes_from_images_to_a_probability(
    joined: dict[str, StudyContext],
    patients: Callable[..., Path],
    outlined: Outlined,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    context, scans = joined["predicted"], patients(masks=False)
    (scans / "P1" / "FLAIR.nii.gz").write_bytes(b"no scan")
    known = read_data_set(context.study.cohort).subjects[0]
    (scans / "renamed").mkdir()
    shutil.copy(known.scans["FLAIR"], scans / "renamed" / "FLAIR.nii.gz")
    before = contents(context.folder.root) | contents(outlined.slices)
    predict_new(context, scans, tmp_path / "predictions.csv")
    assert contents(context.folder.root) | contents(outlined.slices) == before
    table = pd.read_csv(tmp_path / "predictions.csv", keep_default_na=False)
    assert tuple(table.columns) == PATIENT_COLUMNS
    good = table[table["problem"] == ""]
    assert [*good["subject"]] == [s for s in ("P0", "P2", "P3", "P4") for _ in range(2)]
    assert {*good["mask"]} == {"predicted"} and {*good["num_members"]} == {"2"}
    number = good.astype(dict.fromkeys(PATIENT_COLUMNS[3:8], float))
    assert number["probability"].between(number["member_lowest"], number["member_highest"]).all()
    problems = table.set_index("subject")["problem"]
    assert "is not a NIfTI file" in problems["P1"] and "Write it as .nii.gz" in problems["P1"]
    assert problems["renamed"].startswith(f"is {known.id} of the study's own cohort")
    printed = capsys.readouterr().out
    assert "P1: not predicted" in printed and "renamed: not predicted" in printed
    assert "4 of 6 patients predicted" in printed and DISCLAIMER in printed
    (path,) = (tmp_path / "predictions_files" / "masks").rglob("P0-*.nii.gz")
    mask = read_scan(path)
    scan = read_scan(scans / "P0" / "FLAIR.nii.gz")
    assert mask.voxels.any() and mask.grid.difference(scan.grid) == ""
    predict_new(context, scans, tmp_path / "predictions.csv")
    assert "masks: up to date" in capsys.readouterr().out


def test_patients_have_the_probabilities_of_the_same_scans_in_an_external_cohort(
    joined: dict[str, StudyContext], patients: Callable[..., Path], strangers: Path, tmp_path: Path
) -> None:
    shutil.copytree(joined["given"].folder.root, tmp_path / "study")
    context = replace(joined["given"], folder=StudyFolder(tmp_path / "study"))
    predict_new(context, patients(masks=True), tmp_path / "predictions.csv")
    config = UpennConfig(reader="upenn", root=strangers, modalities=("FLAIR",))
    inputs, trials, _ = load_existing(context)
    # other persons, though both cohorts count them from 1
    subjects = tuple(replace(s, person=f"X-{s.person}") for s in read_data_set(config).subjects)
    cohort = Cohort(subjects)
    there = context.folder.external("strangers")
    prepare_stores("strangers", cohort, context.study, there, context.resources)
    predict_external("strangers", cohort, trials, inputs, lambda done, total: None)
    expected = pd.read_csv(there.ensembles / "predictions.csv")
    table = pd.read_csv(tmp_path / "predictions.csv")
    assert {*table["mask"]} == {"given"}
    name = {f"P{number}": s.id for number, s in enumerate(subjects)}
    table["subject"] = table["subject"].map(name)
    keys = ["subject", "network", "ensemble"]
    merged = table.merge(expected, on=keys, suffixes=("", "_expected"))
    assert len(merged) == len(table) == len(expected)
    # who shares a batch may change the last bit of single precision
    assert (merged["probability"] - merged["probability_expected"]).abs().max() < 1e-6


def test_a_slices_study_finds_the_tumour_of_a_patient_itself(
    outlined: Outlined, patients: Callable[..., Path], tmp_path: Path
) -> None:
    study = load_study(outlined.slices.with_suffix(".yaml"), outlined.root)
    context = StudyContext(study, StudyFolder(outlined.slices), Resources(backend="in-process"))
    predict_new(context, patients(masks=False), tmp_path / "predictions.csv")
    table = pd.read_csv(tmp_path / "predictions.csv", keep_default_na=False)
    assert {*table["subject"]} == {f"P{number}" for number in range(5)}
    assert {*table["mask"]} == {"none"}
    assert {*table["problem"]} == {*table["note"]} == {""}
    (source,) = (tmp_path / "predictions_files" / "masks").glob("*/masks.json")
    assert source.parent.name == "chen_FLAIR"
    _, trials, _ = load_existing(context)
    own = {t.needs[0].id for t in trials if t.needs}
    for number in range(5):
        (path,) = (source.parent / "masks").glob(f"P{number}-*.nii.gz")
        mask = read_scan(path)
        scan = read_scan(tmp_path / "scans" / f"P{number}" / "FLAIR.nii.gz")
        assert mask.voxels.any() and mask.grid.difference(scan.grid) == ""
        networks = json.loads(source.read_text())["subjects"][f"P{number}"]["networks"]
        assert {*networks} == own


def test_a_patient_in_whom_a_slices_study_finds_no_tumour_has_a_note(
    outlined: Outlined,
    patients: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    context = sliced_copy(outlined, tmp_path)
    _, trials, _ = load_existing(context)
    silence(context, trials)
    predict_new(context, patients(masks=False), tmp_path / "predictions.csv")
    table = pd.read_csv(tmp_path / "predictions.csv", keep_default_na=False)
    assert table["note"].str.startswith("no tumour found by 2 of 2 models").all()
    assert table["probability"].astype(float).between(0, 1).all()
    printed = capsys.readouterr().out
    assert "no slice with 4 voxels of predicted tumour in P0 (2 models)" in printed


def test_a_patient_whose_voxels_no_segmentation_knows_is_not_predicted(
    outlined: Outlined, patients: Callable[..., Path], tmp_path: Path
) -> None:
    context = sliced_copy(outlined, tmp_path)
    scans = patients(masks=False)
    path = str(scans / "P1" / "FLAIR.nii.gz")
    image = SimpleITK.ReadImage(path)
    image.SetSpacing((1.0, 0.75, 1.0))
    SimpleITK.WriteImage(image, path)
    path = str(scans / "P2" / "FLAIR.nii.gz")
    image = SimpleITK.ReadImage(path)
    image.SetSpacing((1.2, 1.2, 1.0))  # not larger than 1.25 times what trained
    SimpleITK.WriteImage(image, path)
    predict_new(context, scans, tmp_path / "predictions.csv")
    table = pd.read_csv(tmp_path / "predictions.csv", keep_default_na=False).set_index("subject")
    assert table.loc["P1", "problem"].startswith("FLAIR: its voxels are 0.75×1 mm in plane")
    assert table.loc["P1", "problem"].endswith("Resample it to 1 mm")
    assert table.loc["P1", "probability"] == ""
    assert {*table.drop("P1")["problem"]} == {""}


def sliced_copy(outlined: Outlined, tmp_path: Path) -> StudyContext:
    """The slices study with its classifiers, to be changed."""
    study = load_study(outlined.slices.with_suffix(".yaml"), outlined.root)
    shutil.copytree(outlined.slices, tmp_path / "slices")
    return StudyContext(study, StudyFolder(tmp_path / "slices"), Resources(backend="in-process"))


def test_patients_without_masks_need_a_segmentation(
    joined: dict[str, StudyContext], patients: Callable[..., Path], tmp_path: Path
) -> None:
    context = joined["given"]
    context = replace(context, study=context.study.model_copy(update={"mask_source": None}))
    with pytest.raises(MgmtError, match="none of 5 patients can be predicted"):
        predict_new(context, patients(masks=False), tmp_path / "predictions.csv")
    assert not (tmp_path / "predictions.csv").exists()


def test_patients_with_one_mask_and_other_scans_are_not_predicted(
    joined: dict[str, StudyContext],
    patients: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    scans = patients(masks=True)
    for number in range(1, 5):
        shutil.copy(scans / "P0" / "mask.nii.gz", scans / f"P{number}" / "mask.nii.gz")
    with pytest.raises(MgmtError, match="none of 5 patients can be predicted"):
        predict_new(joined["given"], scans, tmp_path / "predictions.csv")
    assert "has the same mask as P1, with other scans. Give each" in capsys.readouterr().out


def test_patients_with_the_same_scan_are_named(
    joined: dict[str, StudyContext],
    patients: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    scans = patients(masks=True)
    shutil.copytree(scans / "P0", scans / "P0-again")
    predict_new(joined["given"], scans, tmp_path / "predictions.csv")
    printed = capsys.readouterr().out
    assert "P0, P0-again: have the same voxels in a scan. Check whose it is." in printed
    assert printed.count("same voxels") == 1
    table = pd.read_csv(tmp_path / "predictions.csv", keep_default_na=False)
    assert {*table["problem"]} == {""}


def with_crosswalk(context: StudyContext, tmp_path: Path, *rows: str) -> StudyContext:
    path = tmp_path / "crosswalk.csv"
    path.write_text("\n".join(["ours,hospital", *rows]))
    cohort = context.study.cohort.model_copy(update={"crosswalk": path})
    return replace(context, study=context.study.model_copy(update={"cohort": cohort}))


def lay_scan(scan: Path, folder: Path, *, change: int) -> None:
    """A patient's folder with a scan, of which one voxel is changed by some number."""
    image = SimpleITK.ReadImage(str(scan))
    middle = [size // 2 for size in image.GetSize()]
    image[middle] = image[middle] + change
    folder.mkdir(parents=True)
    SimpleITK.WriteImage(image, str(folder / "FLAIR.nii.gz"))


def test_a_person_of_the_study_with_another_name_in_its_crosswalk_is_not_predicted(
    joined: dict[str, StudyContext], patients: Callable[..., Path], tmp_path: Path
) -> None:
    known, other = read_data_set(joined["given"].study.cohort).subjects[:2]
    scans = patients(masks=True)
    for name, subject in {"HOSP-17": known, "HOSP-18": other}.items():
        lay_scan(subject.scans["FLAIR"], scans / name, change=1)
        shutil.copy(subject.required_mask, scans / name / "mask.nii.gz")
    context = with_crosswalk(joined["given"], tmp_path, f"{known.id},HOSP-17")
    predict_new(context, scans, tmp_path / "predictions.csv")
    table = pd.read_csv(tmp_path / "predictions.csv", keep_default_na=False).set_index("subject")
    assert table.loc["HOSP-17", "problem"].startswith(f"is {known.id} of the study's own cohort")
    assert {*table.drop("HOSP-17")["problem"]} == {""}


def test_no_patient_is_predicted_where_copies_of_the_studys_scans_cannot_be_recognised(
    joined: dict[str, StudyContext], patients: Callable[..., Path], tmp_path: Path
) -> None:
    shutil.copytree(joined["given"].folder.root, tmp_path / "study")
    context = replace(joined["given"], folder=StudyFolder(tmp_path / "study"))
    absent, damaged = (s.id for s in load_existing(context)[0].cohort.subjects[:2])
    for name in (absent, damaged):
        (path,) = context.folder.inspections.glob(f"given/{name}-*")
        path.unlink() if name == absent else path.write_bytes(b"nothing")
    message = f"no inspection of {absent}, {damaged}, so copies of training scans cannot be"
    with pytest.raises(MgmtError, match=message):
        predict_new(context, patients(masks=True), tmp_path / "predictions.csv")
    assert not (tmp_path / "predictions.csv").exists()


@pytest.mark.parametrize("role", ["trained", "chosen"])
def test_a_person_known_to_a_models_initial_weights_is_not_predicted(
    role: str, joined: dict[str, StudyContext], patients: Callable[..., Path], tmp_path: Path
) -> None:
    shutil.copytree(joined["given"].folder.root, tmp_path / "study")
    context = replace(joined["given"], folder=StudyFolder(tmp_path / "study"))
    path = context.folder.trial(load_existing(context)[1][-1].id) / "trial.json"
    metadata = read_trial_file(path.parent)
    metadata["persons"][role].append("P3")
    path.write_text(json.dumps(metadata))
    predict_new(context, patients(masks=True), tmp_path / "predictions.csv")
    table = pd.read_csv(tmp_path / "predictions.csv", keep_default_na=False).set_index("subject")
    assert table.loc["P3", "problem"].startswith("is P3, and a model that this study's models")
    assert {*table.drop("P3")["problem"]} == {""}


@pytest.mark.parametrize("name", ["P1", "p1", "Z-1", "P2"])
def test_an_id_or_a_persons_name_of_the_cohort_is_known(
    name: str, joined: dict[str, StudyContext], tmp_path: Path
) -> None:
    context = joined["given"]
    subject = load_existing(context)[0].cohort.subjects[0]
    cohort = Cohort((replace(subject, id="P1", person="Z-1"),))
    folder = StudyFolder(tmp_path)
    inspection = read_inspection(context.folder.inspections, subject.id)
    assert inspection is not None
    write_inspection(replace(inspection, subject="P1"), folder.inspections)
    why = contamination_reason(folder, cohort, (), [PersonRef(PATIENTS, name, name)], {})
    assert [*why] == [(PATIENTS, name)] * (name != "P2")
    assert all(reason.startswith("is P1 of the study's own cohort") for reason in why.values())


def test_segmentations_trained_on_a_patient_do_not_segment_that_patient(
    outlined: Outlined, joined_job: Callable[..., StudyContext], tmp_path: Path
) -> None:
    known = exposed_persons(outlined.slices)
    by = {p: {n for n in known if p in known[n]} for p in set().union(*known.values())}
    person = min(p for p, names in by.items() if len(names) < len(known))
    context = joined_job(tmp_path / "without", mask="given", exclude=[f"{person}_11"])
    selected = select(context)
    inputs, trials = plan_study(context, selected)
    prepare(context, selected)
    train(trials, inputs)
    subjects = {s.id: s for s in read_data_set(context.study.cohort).subjects}
    scan = subjects[f"{person}_11"].scans["FLAIR"]
    lay_scan(scan, tmp_path / "scans" / "copy", change=0)
    lay_scan(scan, tmp_path / "scans" / "HOSP-17", change=1)
    lay_scan(scan, tmp_path / "scans" / "stranger", change=2)
    context = with_crosswalk(context, tmp_path, f"{person},HOSP-17")
    predict_new(context, tmp_path / "scans", tmp_path / "predictions.csv")
    index = tmp_path / "predictions_files" / "masks" / "masks.json"
    entries = json.loads(index.read_text())["subjects"]
    networks = {name: {*entry["networks"]} for name, entry in entries.items()}
    unaware = known.keys() - by[person]
    assert networks == {"copy": unaware, "HOSP-17": unaware, "stranger": {*known}}


def test_a_table_is_rewritten_and_nothing_else_is_overwritten(tmp_path: Path) -> None:
    table = tmp_path / "predictions.csv"
    check_overwrite(table)
    table.write_text(",".join(PATIENT_COLUMNS) + "\nP1,random,Struct,.5\n")
    check_overwrite(table)
    table.write_text("subject,label\nP1,0\n")
    with pytest.raises(MgmtError, match="not overwritten"):
        check_overwrite(table)


@pytest.mark.parametrize(
    ("name", "message"),
    [("README.md", "ends with .csv"), ("nobody/predictions.csv", "there is no folder")],
)
def test_a_path_that_cannot_be_meant_is_an_error(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(MgmtError, match=message):
        check_overwrite(tmp_path / name)
