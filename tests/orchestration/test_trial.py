from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pandas as pd
import pytest

from mgmt_ray.base import MgmtError
from mgmt_ray.cohort.cohort import Cohort
from mgmt_ray.orchestration.stages import Job, plan_study, prepare, select
from mgmt_ray.orchestration.trial import TrialInputs, run_trial
from mgmt_ray.study.folder import StudyFolder
from mgmt_ray.study.plan import Trial
from mgmt_ray.training.checkpoint import load_state

NETWORKS = {"spottune": {"kind": "spottune", "depth": 10, "width": 4, "agent_width": 2}}
TRAINING = {"epochs": 4, "batch_size": 12, "learning_rate": 0.01, "validation_draws": 4}


class Stopped(Exception):
    """What a power cut would be."""


@pytest.fixture
def prepared(make_job: Callable[..., Job]) -> tuple[Job, TrialInputs, Trial]:
    job = make_job(networks=NETWORKS, training=TRAINING)
    selected = select(job)
    splits, trials = plan_study(job, selected)
    prepare(job, selected)
    return job, job.inputs(selected.cohort, splits), trials[0]


@pytest.mark.parametrize("stop", [1, 3])
def test_a_trial_cut_off_after_any_epoch_ends_as_if_it_had_not_been(
    prepared: tuple[Job, TrialInputs, Trial], stop: int
) -> None:
    job, inputs, trial = prepared
    run_trial(trial, inputs, "cpu")
    other = replace(inputs, folder=StudyFolder(job.folder.root / "other"), state_seconds=0.0)
    (job.folder.root / "other").mkdir()
    (job.folder.root / "other" / "volumes").symlink_to(job.folder.volumes)

    def cut(row: dict[str, float]) -> None:
        if row["epoch"] == stop:
            raise Stopped

    with pytest.raises(Stopped):
        run_trial(trial, other, "cpu", report=cut)
    assert not other.folder.is_finished(trial.id)
    assert (
        load_state(other.folder.partial_trial(trial.id) / "state.pt")["training"]["epoch"] == stop
    )
    seen: list[float] = []
    run_trial(trial, other, "cpu", report=lambda row: seen.append(row["epoch"]))
    assert seen == list(range(stop + 1, 5))
    whole, continued = inputs.folder.trial(trial.id), other.folder.trial(trial.id)
    for name in ("weights.safetensors", "validation.csv"):
        assert (whole / name).read_bytes() == (continued / name).read_bytes()
    assert not other.folder.partial_trial(trial.id).exists()


def test_a_finished_trial_is_not_run_again(prepared: tuple[Job, TrialInputs, Trial]) -> None:
    _, inputs, trial = prepared
    run_trial(trial, inputs, "cpu")
    before = (inputs.folder.trial(trial.id) / "trial.json").stat().st_mtime_ns

    def refuse(row: dict[str, float]) -> None:
        raise AssertionError(row)

    run_trial(trial, inputs, "cpu", report=refuse)
    assert (inputs.folder.trial(trial.id) / "trial.json").stat().st_mtime_ns == before


def test_the_kept_weights_are_those_of_the_chosen_epoch(
    prepared: tuple[Job, TrialInputs, Trial],
) -> None:
    """A training that ends at the chosen epoch has the same weights, by either rule."""
    _, inputs, trial = prepared
    run_trial(trial, inputs, "cpu")
    chosen = inputs.folder.read_trial(trial.id)["selection"]["epoch"]
    config = trial.training_config.model_copy(update={"epochs": chosen})
    shorter = replace(trial, training_config=config, hash="0" * 64)
    run_trial(shorter, inputs, "cpu")
    last = inputs.folder.read_trial(shorter.id)
    assert last["selection"]["epoch"] == chosen
    assert last["weights"] == inputs.folder.read_trial(trial.id)["weights"]


def test_a_person_on_two_sides_is_never_trained_on(
    prepared: tuple[Job, TrialInputs, Trial],
) -> None:
    _, inputs, trial = prepared
    tested, trained = inputs.splits[0].test[0], inputs.splits[0].training[0]
    subjects = tuple(
        replace(s, person="P-1") if s.id in (tested, trained) else s for s in inputs.cohort.subjects
    )
    with pytest.raises(MgmtError, match="person P-1 would be on two sides"):
        run_trial(trial, replace(inputs, cohort=Cohort(subjects)), "cpu")
    assert not inputs.folder.is_finished(trial.id)


def test_a_trial_learns_the_labels_of_its_own_split(
    prepared: tuple[Job, TrialInputs, Trial],
) -> None:
    _, inputs, trial = prepared
    # scores that turn every label round: above the cut-off are those who were unmethylated
    subjects = tuple(
        replace(s, score=0.1 if s.label else 0.9, label=1) for s in inputs.cohort.subjects
    )
    label = {s.id: s.label for s in inputs.cohort.subjects}
    split = replace(inputs.splits[0], cutoff=0.5)
    run_trial(trial, replace(inputs, cohort=Cohort(subjects), splits=(split,)), "cpu")
    validation = pd.read_csv(inputs.folder.trial(trial.id) / "validation.csv")
    assert set(validation["label"]) == {0, 1}
    for row in validation.to_dict("records"):
        assert row["label"] == 1 - label[row["subject"]]
