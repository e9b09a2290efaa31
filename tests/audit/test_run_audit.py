from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import SimpleITK

from mgmt_ray.audit.altered_data import share_store, write_changed_volumes
from mgmt_ray.audit.audited_study import AuditContext, Check, open_audit, replace_labels
from mgmt_ray.audit.duplicate_check import check_duplicates
from mgmt_ray.audit.property_check import check_properties
from mgmt_ray.audit.result_checks import check_accesses, check_plausible_auc
from mgmt_ray.audit.run_audit import run_audit
from mgmt_ray.audit.shortcut_check import check_shortcuts
from mgmt_ray.audit.training_checks import (
    TEST_INDEPENDENT_TABLES,
    TEST_SET_VARIANTS,
    list_differences,
    run_sub_study,
)
from mgmt_ray.base import MgmtError
from mgmt_ray.cli import main
from mgmt_ray.cluster.resources import Resources
from mgmt_ray.cohort.cohort import Cohort, write_cohort
from mgmt_ray.cohort.subject import Subject
from mgmt_ray.preprocess.volume_store import VolumeStore
from mgmt_ray.study.folder import EXPLAIN, StudyFolder, read_trial_file
from mgmt_ray.study.plan import make_plan
from mgmt_ray.study.study_config import load_study
from mgmt_ray.study.trial import Trial
from mgmt_ray.synthetic.generate import SyntheticConfig, synthesize
from mgmt_ray.trials.context import StudyContext
from tests.run_stages import evaluated, planned

CHECKS = (
    "test-set accesses",
    "plausible AUC",
    "duplicate persons",
    "shortcuts",
    "plain properties",
    "permuted labels",
    "planted signal",
    "test-set isolation",
)


RANDOM = {"kind": "random", "depth": 10, "width": 4}
TRAINING = {"epochs": 5, "batch_size": 12, "learning_rate": 0.005}


@dataclass(frozen=True)
class Case:
    """A study with its file, and the cohort that it is of."""

    context: StudyContext
    file: Path
    data: Path

    @property
    def command(self) -> list[str]:
        out = str(self.context.folder.root)
        where = ["--data", str(self.data), "--out", out, "--backend", "in-process"]
        return ["audit", str(self.file), *where]


def case(root: Path, file: Path, out: str) -> Case:
    context = StudyContext(
        load_study(file, root), StudyFolder(file.parent / out), Resources("in-process")
    )
    return Case(context, file, root)


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory, write_small_study: Callable[..., Path]) -> Case:
    """A finished study of a cohort without any signal, and its audit."""
    folder = tmp_path_factory.mktemp("clean")
    config = SyntheticConfig(
        subjects=50,
        grid=(24, 28, 28),
        modalities=("PH", "FLAIR"),
        without_dti=0.0,
        without_dsc=0.1,
    )
    synthesize(config, folder / "cohort")
    networks = {"wide": RANDOM | {"width": 6}, "random": RANDOM}
    file = write_small_study(folder / "study.yaml", networks=networks, training=TRAINING)
    made = case(folder / "cohort", file, "out")
    evaluated(made.context)
    return made


@pytest.fixture(scope="module")
def audited_clean(clean: Case) -> tuple[Check, ...]:
    return run_audit(clean.context)


def contents(root: Path) -> dict[str, bytes]:
    """Return all files of a study's folder that an audit must not change."""
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and "audit" not in path.relative_to(root).parts[0]
    }


def test_a_sound_study_passes_and_is_left_as_it_was(clean: Case) -> None:
    root = clean.context.folder.root
    before = contents(root)
    checks = run_audit(clean.context)
    assert tuple(check.name for check in checks) == CHECKS
    failed = [str(check) for check in checks if check.outcome in ("failed", "not done")]
    assert not failed
    scope = checks[-1].found
    assert "2 trials of random in " in scope and " alone, outer split 0, " in scope
    assert "covariates not changed, baseline models not fitted" in scope
    assert contents(root) == before
    written = json.loads((root / "audit.json").read_text(encoding="utf-8"))
    assert [c["name"] for c in written["checks"]] == list(CHECKS)
    assert written["study"] == "small" and written["seed"] == 0
    assert all(
        set(c) == {"name", "outcome", "expected", "found", "remedy"} for c in written["checks"]
    )


def test_the_cheapest_network_is_audited_and_nothing_is_trained_twice(
    clean: Case, audited_clean: tuple[Check, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    work = open_audit(clean.context, 0).work_folder
    trained = {p: p.stat().st_mtime_ns for p in work.rglob("trial.json")}
    assert {p.parent.name.split("_")[0] for p in trained} == {"random"}
    assert len(trained) == 2 * 2 + 3 * 2 + 2 + 2
    main(clean.command)  # leaves without an exit code, which is 0
    assert {p: p.stat().st_mtime_ns for p in work.rglob("trial.json")} == trained
    printed = capsys.readouterr().out
    assert all(f"  {name}: " in printed for name in CHECKS)


@pytest.mark.usefixtures("audited_clean")
def test_no_real_label_of_a_test_subject_is_used_where_training_is_judged(clean: Case) -> None:
    audit = open_audit(clean.context, 0)
    test = set(audit.splits[0].test)
    real = {s.id: s.label for s in audit.cohort.subjects}
    labels = [labels_in(audit.work_folder / name) for name in TEST_SET_VARIANTS]
    assert all(labels[0][s] == 1 - labels[1][s] for s in test)
    assert all(labels[0][s] == real[s] == labels[1][s] for s in real.keys() - test)
    assert any(labels[0][s] != real[s] for s in test)
    for name in ("permuted", "planted-easy"):
        permuted = labels_in(audit.work_folder / name)
        assert permuted != real and sorted(permuted.values()) == sorted(real.values())


def labels_in(folder: Path) -> dict[str, int]:
    table = pd.read_csv(folder / "cohort.csv", dtype={"subject": str})
    return dict(zip(table["subject"], table["label"], strict=True))


@pytest.mark.usefixtures("audited_clean")
def test_what_differs_with_the_test_subjects_is_named(clean: Case, tmp_path: Path) -> None:
    first, second = copied_variants(clean, tmp_path)
    trials = plan_of(clean)
    assert list_differences(first, second, trials) == []
    path = second.trial(trials[0].id) / "trial.json"
    metadata = read_trial_file(path.parent)
    metadata["selection"]["epoch"] += 1
    path.write_text(json.dumps(metadata), encoding="utf-8")
    (second.ensembles / "members.csv").write_text("changed", encoding="utf-8")
    assert list_differences(first, second, trials) == [f"trial {trials[0].id}", "members.csv"]


@pytest.mark.usefixtures("audited_clean")
@pytest.mark.parametrize("name", TEST_INDEPENDENT_TABLES)
def test_a_table_that_is_in_neither_study_is_not_called_equal(
    clean: Case, tmp_path: Path, name: str
) -> None:
    first, second = copied_variants(clean, tmp_path)
    for folder in (first, second):
        assert (folder.ensembles / name).is_file()
        (folder.ensembles / name).unlink()
    with pytest.raises(
        MgmtError, match=f"{name}: does not exist, so it cannot be compared. Delete"
    ):
        list_differences(first, second, plan_of(clean))


@pytest.mark.usefixtures("audited_clean")
def test_a_column_that_is_in_neither_study_is_not_called_equal(clean: Case, tmp_path: Path) -> None:
    first, second = copied_variants(clean, tmp_path)
    for folder in (first, second):
        path = folder.ensembles / "calibration.csv"
        pd.read_csv(path).drop(columns="temperature").to_csv(path, index=False)
    with pytest.raises(MgmtError, match=r"calibration.csv: no column temperature"):
        list_differences(first, second, plan_of(clean))


@pytest.mark.usefixtures("audited_clean")
def test_baseline_models_and_thresholds_that_differ_are_named(clean: Case, tmp_path: Path) -> None:
    first, second = copied_variants(clean, tmp_path)
    models = pd.read_csv(second.ensembles / "baselines.csv", dtype=str)
    models.loc[0, "baseline"] = "age_sex"
    models.to_csv(second.ensembles / "baselines.csv", index=False)
    points = pd.read_csv(second.ensembles / "operating_points.csv")
    points["sen"] = 0.123  # of test subjects: may differ
    points.to_csv(second.ensembles / "operating_points.csv", index=False)
    assert list_differences(first, second, plan_of(clean)) == ["baselines.csv"]
    points["threshold"] += 0.1
    points.to_csv(second.ensembles / "operating_points.csv", index=False)
    differences = list_differences(first, second, plan_of(clean))
    assert differences == ["operating_points.csv", "baselines.csv"]


def copied_variants(case: Case, folder: Path) -> tuple[StudyFolder, StudyFolder]:
    work = open_audit(case.context, 0).work_folder
    for name in TEST_SET_VARIANTS:
        for part in ("trials", "ensembles"):
            shutil.copytree(work / name / part, folder / name / part)
    return StudyFolder(folder / TEST_SET_VARIANTS[0]), StudyFolder(folder / TEST_SET_VARIANTS[1])


def plan_of(case: Case) -> list[Trial]:
    audit = open_audit(case.context, 0)
    return make_plan(audit.reduced_study((audit.smallest_modality,)), audit.splits[:1])


@pytest.mark.usefixtures("audited_clean")
def test_a_training_subject_that_changes_changes_what_is_fitted(clean: Case) -> None:
    audit = open_audit(clean.context, 0)
    split, modality = audit.splits[0], audit.smallest_modality
    share_store(audit, "third")
    changed = next(s for s in audit.subjects_with(modality) if s in split.training)
    label = {s.id: s.label for s in audit.cohort.subjects}[changed]
    cohort = replace_labels(audit.cohort, {changed: (1 - label, None)})
    study = audit.reduced_study((modality,))
    third, trials = run_sub_study(audit, "third", study, cohort, (split,))
    differences = list_differences(
        StudyFolder(audit.work_folder / TEST_SET_VARIANTS[0]), third, trials
    )
    assert {f"trial {trial.id}" for trial in trials} <= set(differences)


def test_a_study_that_was_not_prepared_is_sent_back(clean: Case, tmp_path: Path) -> None:
    context = StudyContext(clean.context.study, StudyFolder(tmp_path), clean.context.resources)
    with pytest.raises(MgmtError, match="mgmt-ray"):
        run_audit(context)
    assert not list(tmp_path.iterdir())


def test_each_access_is_listed_and_a_second_one_is_a_warning(clean: Case, tmp_path: Path) -> None:
    audit = elsewhere(clean, tmp_path)
    check = check_accesses(audit)
    assert check.outcome == "passed" and "8 members" in check.found
    assert check.found.startswith("1 for results: ")
    log = audit.context.folder.test_openings
    entry = log.read_text(encoding="utf-8")
    pictures = 2 * (json.dumps({**json.loads(entry), "purpose": EXPLAIN}) + "\n")
    log.write_text(entry + pictures, encoding="utf-8")
    check = check_accesses(audit)
    assert check.outcome == "passed"
    assert check.found.startswith("1 for results: ") and "2 to explain predictions" in check.found
    log.write_text(entry, encoding="utf-8")
    log.write_text(2 * log.read_text(encoding="utf-8") + "half a li\n", encoding="utf-8")
    check = check_accesses(audit)
    assert check.outcome == "warning" and check.found.count("8 members") == 2
    assert "cannot be read" in check.found
    log.unlink()
    (audit.context.folder.ensembles / "metrics.csv").write_text("", encoding="utf-8")
    check = check_accesses(audit)
    assert check.outcome == "failed" and "without an entry in the access log" in check.found
    (audit.context.folder.ensembles / "metrics.csv").unlink()
    assert check_accesses(audit).found == "none"


@pytest.mark.parametrize(
    ("auc", "low", "outcome"),
    [
        (0.74, 0.6, "passed"),
        (0.76, 0.6, "warning"),
        (0.95, 0.7, "warning"),
        (0.95, 0.8, "failed"),
    ],
)
def test_an_implausible_auc_is_reported(
    clean: Case, tmp_path: Path, auc: float, low: float, outcome: str
) -> None:
    audit = elsewhere(clean, tmp_path)
    path = audit.context.folder.ensembles / "metrics.csv"
    metrics = pd.read_csv(path)
    metrics["auc"], metrics["auc_low"], metrics["auc_high"] = 0.5, 0.4, 0.6
    metrics.loc[1, ["auc", "auc_low", "auc_high"]] = auc, low, 0.99
    metrics.to_csv(path, index=False)
    check = check_plausible_auc(audit)
    assert check.outcome == outcome
    assert f"{auc:.3f} [{low:.3f}, 0.990]" in check.found
    planted = audit.context.folder.root / "planted.json"
    planted.write_text('{"signal": {"PH": 2.0}}', encoding="utf-8")
    assert check_plausible_auc(elsewhere(clean, tmp_path, copy=False)).outcome == "not done"


def test_an_implausible_auc_on_an_external_cohort_is_reported(clean: Case, tmp_path: Path) -> None:
    audit = with_clinic(elsewhere(clean, tmp_path))
    own = audit.context.folder.ensembles / "metrics.csv"
    metrics = pd.read_csv(own)
    metrics["auc"], metrics["auc_low"], metrics["auc_high"] = 0.5, 0.4, 0.6
    metrics.to_csv(own, index=False)
    assert check_plausible_auc(audit).outcome == "passed"
    metrics.loc[0, ["auc", "auc_low", "auc_high"]] = 0.95, 0.8, 0.99
    clinic = audit.context.folder.external("clinic").ensembles / "metrics.csv"
    clinic.parent.mkdir(parents=True)
    metrics.to_csv(clinic, index=False)
    check = check_plausible_auc(audit)
    assert check.outcome == "failed"
    assert " on clinic 0.950 [0.800, 0.990]" in check.found
    metrics.drop(columns="auc").to_csv(clinic, index=False)
    with pytest.raises(MgmtError, match=r"clinic/ensembles/metrics.csv: no column auc,"):
        check_plausible_auc(audit)


def with_clinic(audit: AuditContext) -> AuditContext:
    """The study with an external cohort, which is not read again."""
    study = audit.study.model_copy(update={"external": {"clinic": audit.study.cohort}})
    return replace(audit, context=replace(audit.context, study=study))


def test_one_person_in_two_folds_is_a_warning(clean: Case, tmp_path: Path) -> None:
    audit = elsewhere(clean, tmp_path)
    first, second = (fold[0] for fold in audit.splits[0].folds[:2])
    for modality in audit.study.modalities:
        store = VolumeStore(clean.context.folder.volumes, modality)
        twin = store.load([first], store.versions)[0] if first in store.ids else None

        def copy(subject: str, own: np.ndarray, twin: np.ndarray | None = twin) -> np.ndarray:
            return own if subject != second or twin is None else twin

        write_changed_volumes(clean.context.folder.volumes, modality, tmp_path / "volumes", copy)
    check = check_duplicates(audit)
    assert check.outcome == "warning"
    assert check.found.startswith(f"1: {first} (fold 0) and {second} (fold 1) in ")
    assert "correlation 1.00 in " in check.found


def test_an_external_subject_who_is_a_training_subject_is_found(
    clean: Case, tmp_path: Path
) -> None:
    audit = with_clinic(elsewhere(clean, tmp_path))

    def keep(subject: str, own: np.ndarray) -> np.ndarray:
        return own

    clinic = audit.context.folder.external("clinic")
    for modality in audit.study.modalities:
        for volumes in (audit.context.folder.volumes, clinic.volumes):
            write_changed_volumes(clean.context.folder.volumes, modality, volumes, keep)
    split = audit.splits[0]
    by_id = {s.id: s for s in audit.cohort.subjects}
    named = split.training[0], split.test[0]
    others = tuple(replace(by_id[s], person=f"clinic {s}") for s in named)
    write_cohort(Cohort(others), clinic.root)
    check = check_duplicates(audit)
    assert check.outcome == "failed"
    assert check.found.startswith(f"1: {named[0]} (external clinic) and {named[0]} (training) in ")


@pytest.mark.parametrize("kind", ["column age", "number of scans of DSC"])
def test_a_property_that_tells_the_label_fails_the_check(clean: Case, kind: str) -> None:
    audit = open_audit(clean.context, 0)

    def changed(subject: Subject) -> Subject:
        if kind == "column age":
            age = "70" if subject.label else "40.5"
            return replace(subject, covariates={**subject.covariates, "age": age})
        scans = {m: p for m, p in subject.scans.items() if m != "PH" or subject.label}
        return replace(subject, scans=scans)

    cohort = Cohort(tuple(map(changed, audit.cohort.subjects)))
    check = check_properties(replace(audit, cohort=cohort))
    assert check.outcome == "failed" and kind in check.found
    assert check_properties(audit).outcome == "passed"


def elsewhere(case: Case, folder: Path, copy: bool = True) -> AuditContext:
    """A copy of the study's tables that a test may change."""
    audit = open_audit(case.context, 0)
    if copy:
        shutil.copytree(case.context.folder.ensembles, folder / "ensembles")
    context = StudyContext(case.context.study, StudyFolder(folder), case.context.resources)
    return AuditContext(context, audit.cohort, audit.splits, 0)


@dataclass(frozen=True)
class Leaky:
    """A study in which leaks were planted in the image files."""

    case: Case
    pairs: tuple[tuple[str, str], ...]


@pytest.fixture(scope="module")
def leaky(
    clean: Case,
    tmp_path_factory: pytest.TempPathFactory,
    write_small_study: Callable[..., Path],
) -> Leaky:
    """Two training subjects are in the test set under other names; one voxel shows the label."""
    folder = tmp_path_factory.mktemp("leaky")
    shutil.copytree(clean.data, folder / "cohort")
    (folder / "cohort" / "planted.json").unlink()
    file = write_small_study(
        folder / "study.yaml",
        cohort={"reader": "upenn", "modalities": ["FLAIR"]},
        networks={"random": RANDOM},
        training=TRAINING,
    )
    made = case(folder / "cohort", file, "out")
    inputs, _ = planned(made.context)
    (split,) = inputs.splits
    by_id = {s.id: s for s in inputs.cohort.subjects}
    for subject in inputs.cohort.subjects:
        colour(subject)
    pairs = tuple(zip(split.test[:2], split.training[:2], strict=True))
    for (tested, trained), mirrored in zip(pairs, (False, True), strict=True):
        copy_subject(by_id[trained], by_id[tested], mirrored)
    evaluated(made.context)
    return Leaky(made, pairs)


def colour(subject: Subject) -> None:
    """Put eight voxels, one after shrinking, into the mask, and the label into them on FLAIR."""
    block = (slice(12, 14), slice(14, 16), slice(14, 16))
    mask = SimpleITK.ReadImage(str(subject.mask))
    voxels = SimpleITK.GetArrayFromImage(mask)
    voxels[block] = 2
    tumour = voxels > 0
    write_like(voxels, mask, subject.mask)
    scan = SimpleITK.ReadImage(str(subject.scans["FLAIR"]))
    values = SimpleITK.GetArrayFromImage(scan)
    low, high = np.percentile(values[tumour], [2, 98])
    values[block] = high if subject.label else low
    write_like(values, scan, subject.scans["FLAIR"])


def copy_subject(source: Subject, target: Subject, mirrored: bool) -> None:
    """Another subject's files, noised by 1 % of their range so that no two voxels are equal."""
    random = np.random.default_rng(0)
    for name, path in (("mask", source.mask), *source.scans.items()):
        image = SimpleITK.ReadImage(str(path))
        values = SimpleITK.GetArrayFromImage(image)
        if name == "mask":
            values[tuple(np.argwhere(values == 2)[0])] = 0  # not visible by eye
        else:
            noise = random.normal(0, 0.01 * float(values.max()), values.shape)
            values = np.where(values > 0, values + noise, values).astype(values.dtype)
        if mirrored:
            values = values[:, :, ::-1].copy()
        write_like(values, image, target.mask if name == "mask" else target.scans[name])


def write_like(values: np.ndarray, image: SimpleITK.Image, path: Path) -> None:
    made = SimpleITK.GetImageFromArray(values)
    made.CopyInformation(image)
    SimpleITK.WriteImage(made, str(path))


def test_a_training_subject_in_the_test_set_is_found_also_when_mirrored(
    leaky: Leaky,
) -> None:
    check = check_duplicates(open_audit(leaky.case.context, 0))
    assert check.outcome == "failed"
    assert check.found.startswith("2: ")
    for tested, trained in leaky.pairs:
        assert f"{tested} (test) and {trained} (training)" in check.found
    assert "in place" in check.found and "mirrored" in check.found
    assert "cohort.exclude" in check.remedy


def test_a_voxel_in_the_labels_colour_is_found_where_it_is(leaky: Leaky) -> None:
    check = check_shortcuts(open_audit(leaky.case.context, 0))
    assert check.outcome == "failed"
    # the block begins at 12, 14, 14 of the scan, the window at 2, and two voxels become one
    assert "FLAIR voxel (5, 6, 6): AUC 1.00 (p = 0.005)" in check.found


def test_a_study_with_leaks_fails_as_a_whole(
    leaky: Leaky, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_info:
        main(leaky.case.command)
    assert exit_info.value.code == 1
    printed = capsys.readouterr().out
    for name in ("duplicate persons", "shortcuts"):
        assert f"failed    {name}: " in printed
    # these permute the labels: a duplicate and a coloured voxel then predict nothing
    for name in ("permuted labels", "planted signal", "test-set isolation"):
        assert f"passed    {name}: " in printed
