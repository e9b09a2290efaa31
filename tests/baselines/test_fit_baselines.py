from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import SimpleITK

from mgmt_ray.base import MgmtError
from mgmt_ray.baselines.baseline_inputs import (
    NO_BASELINES,
    Baselines,
    check_baselines,
    prepare_baselines,
)
from mgmt_ray.baselines.fit_baselines import fit_baselines
from mgmt_ray.cluster.resources import Resources
from mgmt_ray.cohort.cohort import Cohort, read_cohort
from mgmt_ray.pipeline.stages import ensemble, plan_study, prepare, select, train
from mgmt_ray.prediction.test_set import run_ensemble
from mgmt_ray.selection.best_on_validation import primary_ensembles
from mgmt_ray.splits.split import Split, read_splits
from mgmt_ray.study.baseline_config import FEATURE_SCANS
from mgmt_ray.study.folder import StudyFolder
from mgmt_ray.study.study_config import load_study
from mgmt_ray.synthetic.generate import SyntheticConfig, synthesize
from mgmt_ray.trials.context import StudyContext

NAMES = ("radiomics_forest", "age_sex", "tumour_volume", "prevalence")
HERE = Resources(backend="in-process")
SECTIONS = {
    "cohort": {"reader": "upenn", "modalities": [*FEATURE_SCANS]},
    "inputs": [["T1GD"]],
    "networks": {"random": {"kind": "random", "depth": 10, "width": 4}},
    "training": {"epochs": 1, "batch_size": 12},
    "baselines": [*NAMES],
    "forest": {"trees": 25, "min_leaf": 3},
}


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("structural")
    synthesize(SyntheticConfig(subjects=30, grid=(24, 28, 28), modalities=FEATURE_SCANS), root)
    return root


@pytest.fixture
def make(
    scans: Path, write_study: Callable[..., Path], tmp_path: Path
) -> Callable[..., StudyContext]:
    def make_job(backend: str = "in-process", **sections: object) -> StudyContext:
        study = load_study(write_study(**(SECTIONS | sections)), scans)
        return StudyContext(study, StudyFolder(tmp_path / backend), Resources(backend=backend))

    return make_job


def evaluated(context: StudyContext) -> None:
    """Run the study up to its result tables."""
    selected = select(context)
    inputs, trials = plan_study(context, selected)
    prepare(context, selected)
    train(trials, inputs)
    ensemble(trials, inputs, {})


def gathered(context: StudyContext) -> tuple[Baselines, Cohort, tuple[Split, ...]]:
    selected = select(context)
    inputs, _ = plan_study(context, selected)
    return (
        prepare_baselines(context, selected.cohort),
        selected.cohort,
        inputs.splits,
    )


def checksums(baselines: Baselines, cohort: Cohort, splits: tuple[Split, ...]) -> list[str]:
    fitted = fit_baselines(baselines, cohort, splits, HERE, lambda done, number: None)
    return [baseline.model.checksum for baseline in fitted]


def test_baseline_models_are_members_of_a_study(make: Callable[..., StudyContext]) -> None:
    names = (*NAMES, "first_order")
    context = make(split={"folds": 3, "outer_folds": 2}, baselines=[*names])
    evaluated(context)
    splits, cohort = read_splits(context.folder.splits), read_cohort(context.folder.root)
    label = {s.id: s.label for s in cohort.subjects}
    test = pd.read_csv(context.folder.ensembles / "member_predictions.csv")
    validation = pd.read_csv(context.folder.ensembles / "validation_members.csv")
    models = pd.read_csv(context.folder.ensembles / "baselines.csv")
    assert list(dict.fromkeys(test["network"])) == ["random", *names]
    assert list(dict.fromkeys(validation["network"])) == ["random", *names]
    assert set(models["trial"]) == {
        f"{n}-outer{o}-fold{f}"
        for n in (*NAMES, "first_order-T1GD")
        for o in (0, 1)
        for f in range(3)
    }
    for (name, outer, fold), rows in test.groupby(["network", "outer_fold", "fold"]):
        split = splits[outer]
        assert sorted(rows["subject"]) == list(split.test)
        held = validation.query("network == @name and outer_fold == @outer and fold == @fold")
        assert sorted(held["subject"]) == list(split.folds[fold])
        for table, what in ((rows, "test"), (held, "validation")):
            assert set(table["split"]) == {what}
            assert table["label"].tolist() == [label[s] for s in table["subject"]]
        if name == "random":
            continue
        assert set(rows["modality"]) == {"T1GD" if name == "first_order" else name}
        assert set(rows["probability_std"]) == {0}
        ids = [s for s in split.training if s not in split.folds[fold]]
        share = sum(label[s] for s in ids) / len(ids)
        model = models.query("trial == @rows.trial.iloc[0]").iloc[0]
        assert model["num_subjects"] == len(ids)
        assert set(rows["prior"]) == {model["prior"]}
        assert model["prior"] == pytest.approx(share, rel=1e-15)  # a sum of ones, divided once
        assert (
            set(rows["weights_sha256"]) == set(held["weights_sha256"]) == {model["weights_sha256"]}
        )
        assert (set(rows["probability"]) == {model["prior"]}) == (name == "prevalence")
    metrics = pd.read_csv(context.folder.ensembles / "metrics.csv")
    assert set(metrics["network"]) == {"random", *names}
    assert metrics.query("network == 'first_order'")["ensemble"].tolist() == ["first_order"]
    best = pd.read_csv(context.folder.ensembles / "best_ensembles.csv")
    declared = json.loads(context.folder.protocol.read_text(encoding="utf-8"))["primary"]
    assert "first_order" in set(best["network"]) and [*declared] == ["random"]
    assert primary_ensembles(best) == declared
    fitted = json.loads(models.query("baseline == 'age_sex'").iloc[0]["fitted"])
    assert fitted["columns"]["age"]["num_filled"] == 0


def test_a_study_of_slices_brings_scans_onto_masks_as_its_slices_are(
    make: Callable[..., StudyContext], tmp_path: Path
) -> None:
    chen = {"networks": {"chen": {"kind": "slices"}}, "training": {}, "inputs": []}
    chen |= {"recipe": {}, "evaluation": {}}
    first = select(make(**SECTIONS)).cohort.subjects[0]
    moved = tmp_path / "moved.nii.gz"
    SimpleITK.WriteImage(SimpleITK.ReadImage(str(first.scans["T1"]))[:, :, 1:], str(moved))
    cohort = Cohort((replace(first, scans=first.scans | {"T1": moved}),))
    context = make(**chen)
    with pytest.raises(MgmtError, match="is not on the grid of its mask"):
        prepare_baselines(context, cohort)
    context = make(**chen, slices={"resample": True})
    gathered = prepare_baselines(context, cohort)
    assert [*gathered.values["radiomics_forest", "radiomics_forest"]] == [first.id]


def test_nothing_is_made_twice_and_another_forest_causes_another_test_set_access(
    make: Callable[..., StudyContext],
) -> None:
    context = make()
    evaluated(context)
    first = {p.name: p.read_bytes() for p in context.folder.ensembles.glob("*.csv")}
    before = {p: p.stat().st_mtime_ns for p in context.folder.radiomics.rglob("*")}
    evaluated(context)
    assert len(context.folder.test_openings.read_text().splitlines()) == 1
    changed = make(forest={"trees": 26, "min_leaf": 3})
    evaluated(changed)
    assert len(context.folder.test_openings.read_text().splitlines()) == 2
    assert before == {p: p.stat().st_mtime_ns for p in context.folder.radiomics.rglob("*")}
    evaluated(make(baselines=[]))
    assert len(context.folder.test_openings.read_text().splitlines()) == 3
    assert "radiomics_forest" not in (context.folder.ensembles / "metrics.csv").read_text()
    evaluated(context)
    assert {p.name: p.read_bytes() for p in context.folder.ensembles.glob("*.csv")} == first


@pytest.mark.ray
@pytest.mark.usefixtures("local_ray")
def test_ray_fits_the_same_models(make: Callable[..., StudyContext]) -> None:
    baselines, cohort, splits = gathered(make())
    tables = []
    for resources in (HERE, Resources(cpus=2)):
        fitted = fit_baselines(baselines, cohort, splits, resources, lambda done, number: None)
        tables.append([(baseline.task.trial, baseline.model.checksum) for baseline in fitted])
    assert tables[0] == tables[1]
    assert len({checksum for _, checksum in tables[0]}) > len(NAMES)


def test_no_test_subject_changes_what_is_fitted(make: Callable[..., StudyContext]) -> None:
    baselines, cohort, splits = gathered(make())
    (split,) = splits

    def changed(ids: tuple[str, ...]) -> list[str]:
        values = {
            name: {s: tuple(n + 7 if s in ids else n for n in row) for s, row in rows.items()}
            for name, rows in baselines.values.items()
        }
        subjects = tuple(
            replace(s, label=1 - s.label) if s.id in ids else s for s in cohort.subjects
        )
        return checksums(replace(baselines, values=values), Cohort(subjects), splits)

    expected = checksums(baselines, cohort, splits)
    assert changed(split.test) == expected
    # a validation subject changes all models but those of its own fold
    changed_fold = changed(split.folds[0][:1])
    assert [a == b for a, b in zip(changed_fold, expected, strict=True)] == [True, False] * len(
        NAMES
    )


def test_models_are_fitted_before_test_set_access(
    make: Callable[..., StudyContext],
) -> None:
    context = make(baselines=["age_sex"])
    selected = select(context)
    inputs, trials = plan_study(context, selected)
    prepare(context, selected)
    train(trials, inputs)
    nothing = {s.id: (float("nan"), float("nan")) for s in selected.cohort.subjects}
    unfit = Baselines(values={("age_sex", "age_sex"): nothing})
    with pytest.raises(AssertionError, match="a column without any value"):
        run_ensemble(trials, inputs, lambda done, number: None, unfit)
    assert not context.folder.test_openings.exists()


def test_a_covariate_without_values_ends_the_study_before_any_work(
    make: Callable[..., StudyContext],
) -> None:
    context = make(baselines=["age_sex"])
    selected = select(context)
    ageless = Cohort(tuple(replace(s, covariates={"sex": "F"}) for s in selected.cohort.subjects))
    with pytest.raises(MgmtError, match="age_sex: no training subject has a value for age"):
        plan_study(context, replace(selected, cohort=ageless))
    first, *others = selected.cohort.subjects
    broken = Cohort((replace(first, covariates={"age": "old"}), *others))
    with pytest.raises(MgmtError, match=f"subject {first.id}: age is 'old'"):
        plan_study(context, replace(selected, cohort=broken))


def test_the_forest_leaves_out_subjects_without_a_scan(make: Callable[..., StudyContext]) -> None:
    context = make(baselines=["radiomics_forest", "prevalence"])
    selected = select(context)
    inputs, _ = plan_study(context, selected)
    (split,) = inputs.splits
    incomplete = split.folds[0][0]
    part = Cohort(
        tuple(
            replace(s, scans={"T1": s.scans["T1"]}) if s.id == incomplete else s
            for s in selected.cohort.subjects
        )
    )
    baselines = prepare_baselines(context, part)
    every, measured = (
        set(baselines.values[name, name]) for name in ("prevalence", "radiomics_forest")
    )
    assert every - measured == {incomplete}
    fitted = fit_baselines(baselines, part, (split,), HERE, lambda done, number: None)
    sizes = {baseline.task.trial: len(baseline.task.labels) for baseline in fitted}
    assert sizes["radiomics_forest-outer0-fold1"] + 1 == sizes["prevalence-outer0-fold1"]
    of_one_class = Cohort(
        tuple(replace(s, scans={"T1": s.scans["T1"]}) if s.label else s for s in part.subjects)
    )
    with pytest.raises(MgmtError, match=r"of fold 0 with T1, FLAIR, T1GD, T2 do not include both"):
        check_baselines(["radiomics_forest"], of_one_class, (split,))


def test_a_study_without_baseline_models_has_none(make: Callable[..., StudyContext]) -> None:
    context = make(baselines=[])
    baselines, cohort, splits = gathered(context)
    assert checksums(baselines, cohort, splits) == checksums(NO_BASELINES, cohort, splits) == []
    assert not context.folder.radiomics.exists()
