"""Predictions of a two-stage study for whole scans, and for patients without masks."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.torch import load_file

from mgmt_ray.base import MgmtError, file_checksum
from mgmt_ray.cohort.cohort import Cohort
from mgmt_ray.data.prepare_stores import prepare_slices
from mgmt_ray.pipeline.stages import ensemble
from mgmt_ray.prediction.external_cohorts import predict_external
from mgmt_ray.preprocess.slice_store import SliceStore
from mgmt_ray.preprocess.tumour_slices import slices_through_prediction, slices_through_tumour
from mgmt_ray.statistics.slice_overlap import SEGMENTATION_COLUMNS
from mgmt_ray.study.folder import read_trial_file
from mgmt_ray.study.trial import Trial
from mgmt_ray.training.checkpoint import save_weights
from mgmt_ray.training.mask_overlap import dice
from mgmt_ray.trials.context import StudyContext
from mgmt_ray.trials.segmenter import load_segmenter, segment_scan, select_tumour_slices
from tests.run_stages import planned


def whole_segmentations(trials: list[Trial]) -> list[Trial]:
    return [t for t in trials if not t.is_classifier and t.inner_fold is None]


def test_every_scan_of_a_fold_and_the_test_set_is_segmented_whole(finished: StudyContext) -> None:
    inputs, trials = planned(finished)
    folder, (split,) = finished.folder, inputs.splits
    tested = pd.read_csv(folder.ensembles / "segmentations.csv")
    store = SliceStore(folder.slices, "FLAIR")
    for trial in whole_segmentations(trials):
        own = pd.read_csv(folder.trial(trial.id) / "segmentations.csv")
        of_test = tested[tested["trial"] == trial.id]
        train, validation = split.fold(trial.fold, {*split.training})
        for table, part, ids in (
            (own, "train", train),
            (own, "validation", validation),
            (of_test, "test", split.test),
        ):
            assert tuple(table.columns) == SEGMENTATION_COLUMNS
            rows = table[table["split"] == part]
            assert sorted(rows["subject"]) == sorted(ids)
        assert len(own) == len(train) + len(validation)
        segmenter = load_segmenter(trial, folder, "cpu")
        for row in pd.concat([own[-2:], of_test]).itertuples():
            (slices,) = store.load((str(row.subject),))
            assert slices.scan_mask is not None
            found = segment_scan([segmenter], slices)
            assert row.dice_volume == pytest.approx(dice(found, slices.scan_mask), abs=1e-12)
            assert row.predicted_voxels == found.sum()
            assert row.segmented_slices == len(slices.depths) > row.num_slices
            assert row.num_slices == len(slices_through_tumour(slices.masks, store.recipe)) == 2
            assert 0 < row.seconds < 60 and len(str(row.device)) > 3


def test_examples_are_the_slices_with_the_most_tumour_and_the_mean_of_the_folds(
    finished: StudyContext,
) -> None:
    inputs, trials = planned(finished)
    with np.load(finished.folder.ensembles / "segmentation_examples.npz") as file:
        examples = dict(file)
    assert sorted(examples["subject"]) == sorted(inputs.splits[0].test)
    segmenters = [
        load_segmenter(trial, finished.folder, "cpu") for trial in whole_segmentations(trials)
    ]
    store = SliceStore(finished.folder.slices, "FLAIR")
    for row, subject in enumerate(examples["subject"]):
        (slices,) = store.load((str(subject),))
        at = int(slices.masks.sum(axis=(1, 2)).argmax())
        assert examples["depth"][row] == slices.depths[at]
        np.testing.assert_array_equal(examples["given"][row], slices.masks[at])
        images = [segmenter.normalise(slices) for segmenter in segmenters]
        found = [s.predict(i)[at] for s, i in zip(segmenters, images, strict=True)]
        # float16 has 11 bits
        np.testing.assert_allclose(examples["probability"][row], np.mean(found, axis=0), atol=5e-4)
        image = np.mean([i[at] for i in images], axis=0)
        np.testing.assert_allclose(examples["image"][row], image, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("fault", ["gone", "changed"])
def test_examples_that_are_not_what_was_written_are_made_again(
    fault: str, copied: StudyContext, capsys: pytest.CaptureFixture[str]
) -> None:
    inputs, trials = planned(copied)
    path = copied.folder.ensembles / "segmentation_examples.npz"
    whole = path.read_bytes()
    ensemble(trials, inputs, {})
    assert "ensemble: up to date" in capsys.readouterr().out
    if fault == "gone":
        path.unlink()
    else:
        path.write_bytes(whole[:-1])
    ensemble(trials, inputs, {})
    assert "up to date" not in capsys.readouterr().out
    assert path.read_bytes() == whole
    assert len(copied.folder.test_openings.read_text(encoding="utf-8").splitlines()) == 2


Evaluate = Callable[[Cohort], Path]


@pytest.fixture
def evaluate(copied: StudyContext) -> Evaluate:
    """Predict a cohort as an external one; where its tables are."""

    def predict(cohort: Cohort) -> Path:
        inputs, trials = planned(copied)
        study, folder = copied.study, copied.folder.external("elsewhere")
        prepare_slices(
            "prepare",
            cohort,
            (("FLAIR",),),
            study.slices,
            folder,
            copied.resources,
            verify=True,
        )
        predict_external("elsewhere", cohort, trials, inputs, lambda done, total: None)
        return folder.root

    return predict


def elsewhere(context: StudyContext, unannotated: Callable[[int], bool]) -> Cohort:
    """The same scans under other names; those of some numbers without their masks."""
    subjects = planned(context)[0].cohort.subjects[:8]
    return Cohort(
        tuple(
            replace(
                s,
                id=f"X-{s.id}",
                person=f"X-{s.person}",
                label=number % 2,
                score=None,
                mask=None if unannotated(number) else s.mask,
            )
            for number, s in enumerate(subjects)
        )
    )


def test_an_annotated_external_cohort_is_classified_by_its_masks(
    copied: StudyContext, evaluate: Evaluate
) -> None:
    root = evaluate(elsewhere(copied, lambda number: False))
    store = SliceStore(root / "slices", "FLAIR")
    tables = {
        name: pd.read_csv(root / "ensembles" / f"{name}.csv")
        for name in ("slice_predictions", "segmentations", "member_predictions", "metrics")
    }
    for name in ("slice_predictions", "segmentations", "member_predictions"):
        assert {*tables[name]["split"]} == {"external"}
        assert {*tables[name]["subject"]} == {*store.ids}
        assert not tables[name].isna().any(axis=None)
    for (_, subject), rows in tables["slice_predictions"].groupby(["trial", "subject"]):
        (slices,) = store.load((subject,))
        chosen = slices_through_tumour(slices.masks, store.recipe)
        assert rows["depth"].tolist() == slices.depths[chosen].tolist()


def test_patients_without_masks_are_classified_by_their_folds_predicted_tumour(
    copied: StudyContext, evaluate: Evaluate, capsys: pytest.CaptureFixture[str]
) -> None:
    cohort = elsewhere(copied, lambda number: number % 4 > 1)
    bare = {s.id for s in cohort.subjects if s.mask is None}
    assert 0 < len(bare) < len(cohort.subjects)
    root = evaluate(cohort)
    store = SliceStore(root / "slices", "FLAIR")
    _, trials = planned(copied)
    segmenters = {t.id: load_segmenter(t.needs[0], copied.folder, "cpu") for t in trials if t.needs}
    slice_predictions = pd.read_csv(root / "ensembles" / "slice_predictions.csv")
    assert {*slice_predictions["subject"]} == {s.id for s in cohort.subjects}
    for (trial, subject), rows in slice_predictions.groupby(["trial", "subject"]):
        (slices,) = store.load((subject,))
        segmenter = segmenters[trial]
        probability = segmenter.predict(segmenter.normalise(slices))
        chosen = slices_through_tumour(slices.masks, store.recipe)
        if subject in bare:
            chosen = slices_through_prediction(probability, store.recipe)
        assert rows["depth"].tolist() == slices.depths[chosen].tolist()
        known = rows[["shared_pixels", "tumour_pixels", "dice"]].notna()
        assert known.all(axis=None) if subject not in bare else not known.any(axis=None)
        assert rows["predicted_pixels"].tolist() == [
            int((probability[row] >= 0.5).sum()) for row in chosen
        ]
    scans = pd.read_csv(root / "ensembles" / "segmentations.csv")
    assert {*scans.loc[scans["dice_volume"].isna(), "subject"]} == bare
    with np.load(root / "ensembles" / "segmentation_examples.npz") as file:
        assert {*file["subject"].tolist()} == {s.id for s in cohort.subjects} - bare
    printed = capsys.readouterr().out
    assert f"no tumour mask of {sorted(bare)[0]}" in printed


def test_deleting_a_mask_changes_nothing_but_which_slices_are_taken(
    copied: StudyContext, evaluate: Evaluate
) -> None:
    """A network that sees no difference cannot be misled by one."""
    evaluate(elsewhere(copied, lambda number: number % 2 == 0))
    own = SliceStore(copied.folder.slices, "FLAIR")
    other = SliceStore(copied.folder.external("elsewhere").slices, "FLAIR")
    assert {row.annotated for row in other.rows.values()} == {True, False}
    _, trials = planned(copied)
    segmenter = load_segmenter(whole_segmentations(trials)[0], copied.folder, "cpu")
    for subject in other.ids:
        (here,), (there,) = own.load((subject[2:],)), other.load((subject,))
        normal = [segmenter.normalise(slices)[slices.of_brain] for slices in (here, there)]
        np.testing.assert_array_equal(*normal)
        np.testing.assert_array_equal(here.depths[here.of_brain], there.depths[there.of_brain])
        assert there.annotated or there.of_brain.all()
        selected = select_tumour_slices(there, segmenter, segmenter, other.recipe)
        assert len(selected.depths) >= 1


def test_an_external_cohort_with_other_voxel_sizes_is_an_error_in_one_line(
    copied: StudyContext, evaluate: Evaluate
) -> None:
    _, trials = planned(copied)
    for trial in whole_segmentations(trials):
        path = copied.folder.trial(trial.id) / "trial.json"
        metadata = read_trial_file(path.parent)
        path.write_text(json.dumps(metadata | {"in_plane_mm": [0.3, 0.7]}))
    cohort = elsewhere(copied, lambda number: number == 0)
    with pytest.raises(MgmtError, match=r"external\.elsewhere: X-.* and 3 more: ") as error:
        evaluate(cohort)
    assert "FLAIR: its voxels are 1×1 mm in plane" in str(error.value)
    assert "Resample it to 0.3 to 0.7 mm, or exclude" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_patient_in_whom_no_tumour_is_found_is_still_classified_and_named(
    copied: StudyContext, evaluate: Evaluate, capsys: pytest.CaptureFixture[str]
) -> None:
    """Weights that find nothing: one slice each stays."""
    _, trials = planned(copied)
    silence(copied, trials)
    cohort = elsewhere(copied, lambda number: True)
    root = evaluate(cohort)
    table = pd.read_csv(root / "ensembles" / "slice_predictions.csv")
    assert (table.groupby(["trial", "subject"]).size() == 1).all()
    assert {*table["subject"]} == {s.id for s in cohort.subjects}
    assert (table["predicted_pixels"] == 0).all()
    assert not (root / "ensembles" / "segmentation_examples.npz").exists()
    printed = capsys.readouterr().out
    assert "no slice with 8 voxels of predicted tumour" in printed and "(2 models)" in printed


def silence(context: StudyContext, trials: list[Trial]) -> None:
    """Change the segmentations so that they find no tumour, with matching checksums everywhere."""
    checksums = {}
    for trial in whole_segmentations(trials):
        path = context.folder.weights(trial.id)
        weights = load_file(path)
        biases = [n for n in weights if n.startswith("decoder") and n.endswith("bias")]
        (last,) = (name for name in biases if weights[name].numel() == 1)
        weights[last] -= 1e4
        save_weights(weights, path)
        checksums[trial.id] = file_checksum(path)
    for trial in trials:
        path = context.folder.trial(trial.id) / "trial.json"
        metadata = read_trial_file(path.parent)
        metadata["weights_sha256"] = checksums.get(trial.id, metadata["weights_sha256"])
        known = metadata.get("segmentations", {})
        metadata["segmentations"] = known | {n: c for n, c in checksums.items() if n in known}
        path.write_text(json.dumps(metadata))
