"""The audit of a study in which no network takes volumes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from mgmt_ray.audit import training_checks
from mgmt_ray.audit.altered_data import DARK_FACTORS, plant_signal, replace_by_noise, share_store
from mgmt_ray.audit.audited_study import AuditContext, open_audit
from mgmt_ray.audit.run_audit import run_audit
from mgmt_ray.audit.training_checks import permuted_studies
from mgmt_ray.base import MgmtError
from mgmt_ray.cluster.resources import Resources
from mgmt_ray.cohort.cohort import Cohort
from mgmt_ray.pipeline.printing import show_plan
from mgmt_ray.pipeline.stages import plot_cohort, prepare, select
from mgmt_ray.prediction.explain import explain_subjects
from mgmt_ray.preprocess.slice_store import SliceStore
from mgmt_ray.study.folder import StudyFolder
from mgmt_ray.study.study_config import load_study, write_study
from mgmt_ray.synthetic.generate import SyntheticConfig
from mgmt_ray.trials.context import StudyContext
from tests.layouts.cohorts import write_cohort
from tests.run_stages import planned

STUDY = {
    "name": "slices",
    "cohort": {"reader": "tcga", "rule": "stp27", "modalities": ["FLAIR"]},
    "slices": {
        "shape": [32, 32],
        "least_tumour_voxels": 8,
        "least_brain_voxels": 40,
        "most_slices": 1,
    },
    "split": {"test_fraction": 0.3, "folds": 2},
    "networks": {
        "wide": {"kind": "slices", "width": 16},
        "chen": {
            "kind": "slices",
            "width": 8,
            "cross_fitted": False,
            "segmentation": {"epochs": 1, "learning_rate": 0.001},
            "classification": {"epochs": 4, "learning_rate": 0.005, "stable_epochs": None},
        },
    },
}


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> StudyContext:
    """A prepared study, nothing of which is trained."""
    folder = tmp_path_factory.mktemp("audited")
    config = SyntheticConfig(
        subjects=20, grid=(24, 64, 64), modalities=("T2", "FLAIR", "T1", "T1GD")
    )
    write_cohort("tcga", config, folder / "data")
    (folder / "study.yaml").write_text(yaml.safe_dump(STUDY))
    study = load_study(folder / "study.yaml", folder / "data")
    made = StudyContext(study, StudyFolder(folder / "out"), Resources("in-process"))
    prepare(made, select(made))
    return made


def test_the_checks_that_train_do_so_on_slices_and_the_others_say_why_not(
    context: StudyContext, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # the other strengths are trained on volumes, which takes a fraction of the time
    monkeypatch.setattr(training_checks, "DARK_FACTORS", {"easy": DARK_FACTORS["easy"]})
    checks = {check.name: check for check in run_audit(context)}
    for name in ("duplicate persons", "shortcuts"):
        assert checks[name].outcome == "not done"
        assert "no network of this study takes any" in checks[name].found
    assert checks["permuted labels"].outcome == "passed"
    assert checks["planted signal"].outcome == "passed"
    same = checks["test-set isolation"]
    assert same.outcome == "passed", same.found
    assert same.found.startswith("4 trials of chen in FLAIR")
    assert "audit: planted-easy, 4 trials of chen" in capsys.readouterr().out


@pytest.mark.parametrize("networks", [{}, {"random": {"kind": "random", "depth": 10, "width": 4}}])
def test_what_is_written_beside_the_audits_trainings_loads_again(
    networks: dict[str, object], context: StudyContext, tmp_path: Path
) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(STUDY | {"networks": STUDY["networks"] | networks}))
    study = load_study(path, context.study.cohort.root)
    audit = AuditContext(replace(context, study=study), Cohort((), ()), (), 0)
    reduced = audit.reduced_study(("FLAIR",))
    write_study(reduced, tmp_path / "reduced.yaml")
    assert [*load_study(tmp_path / "reduced.yaml").networks] == [*(networks or ["chen"])]


def test_each_kind_of_network_meets_permuted_labels_once(
    context: StudyContext, tmp_path: Path
) -> None:
    small = {"kind": "random", "depth": 10, "width": 4}
    networks = {"large": small | {"width": 8}, "small": small}
    networks["transfer"] = {"kind": "transfer", "depth": 10, "width": 4}
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(STUDY | {"networks": STUDY["networks"] | networks}))
    study = load_study(path, context.study.cohort.root)
    audit = AuditContext(replace(context, study=study), Cohort((), ()), (), 0)
    assert audit.cheapest_by_kind == {"random": "small"}  # transfer has no weights
    assert [*permuted_studies(audit)] == ["permuted"]
    audit.__dict__["cheapest_by_kind"] = {"random": "small", "transfer": "transfer"}  # with weights
    studies = permuted_studies(audit)
    assert {folder: [*study.networks] for folder, study in studies.items()} == {
        "permuted": ["small"],
        "permuted-transfer": ["transfer"],
    }
    assert studies["permuted-transfer"].split.folds == 2


def test_copies_differ_in_whom_they_are_to_differ(context: StudyContext) -> None:
    audit = replace(open_audit(context, 1))
    ids = audit.subjects_with("FLAIR")
    one, other = ids[0], ids[1]
    plant_signal(audit, "a", "FLAIR", {one})
    replace_by_noise(audit, "b", "FLAIR", {one})
    share_store(audit, "c")
    own, planted, noisy, shared = (
        SliceStore(folder.slices, "FLAIR")
        for folder in (context.folder, *(StudyFolder(audit.work_folder / name) for name in "abc"))
    )
    assert shared.checksum == own.checksum
    assert len({own.checksum, planted.checksum, noisy.checksum}) == 3
    (before, kept), (dark, kept_dark), (noise, kept_noise) = (
        store.load((one, other)) for store in (own, planted, noisy)
    )
    for unchanged in (kept_dark, kept_noise):
        np.testing.assert_array_equal(unchanged.images, kept.images)
    tumour = before.masks > 0
    np.testing.assert_allclose(dark.images[tumour], before.images[tumour] / 4)
    np.testing.assert_array_equal(dark.images[~tumour], before.images[~tumour])
    np.testing.assert_array_equal(noise.images != 0, before.images != 0)
    assert noise.images.max() <= 1 < before.images.max()
    np.testing.assert_array_equal(noise.masks, before.masks[..., ::-1])
    assert noise.scan_mask is not None and before.scan_mask is not None
    np.testing.assert_array_equal(noise.scan_mask, before.scan_mask[..., ::-1])


def test_a_plan_is_listed_in_the_order_of_its_stages(
    context: StudyContext, capsys: pytest.CaptureFixture[str]
) -> None:
    inputs, trials = planned(context)
    capsys.readouterr()
    show_plan(inputs, trials)
    lines = capsys.readouterr().out.splitlines()
    first, second = (i for i, line in enumerate(lines) if line.startswith("stage "))
    (start,) = (i for i, line in enumerate(lines) if line.startswith("What the test set ("))
    expected = [line for line in lines[start + 1 : first] if "expected interval" in line]
    assert [line[:7] for line in expected] == ["  0.60:", "  0.65:", "  0.70:"]
    assert all("as the best of 2" in line for line in expected)
    # two networks, two folds: of one 1 segmentation, of the other 1 + 3 for cross-fitted masks
    assert lines[first] == "stage 1 of 2: 10 trials"
    assert lines[second].startswith("stage 2 of 2: 4 trials, after stage 1")
    assert all("-segmentation" in line for line in lines[first + 1 : second])
    assert not any("-segmentation" in line for line in lines[second + 1 :])


def test_figures_of_the_cohort_need_no_window_of_volumes(context: StudyContext) -> None:
    plot_cohort(context, select(context))
    drawn = {path.name for path in (context.folder.root / "figures").glob("cohort_*.png")}
    assert "cohort_intensities.png" in drawn


def test_explain_says_what_it_takes(context: StudyContext) -> None:
    inputs, trials = planned(context)

    def step(done: int, number: int) -> None:
        raise AssertionError("nothing is drawn")

    with pytest.raises(
        MgmtError, match=r"has none \(.*a slice classifier: the part of a slice .* report.html\)"
    ):
        explain_subjects((), (), "occlusion", trials, inputs, lambda done, all_: None)
    assert not Path(context.folder.test_openings).exists()
