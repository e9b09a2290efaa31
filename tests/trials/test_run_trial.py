from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from mgmt_ray.base import MgmtError
from mgmt_ray.cohort.cohort import Cohort
from mgmt_ray.study.folder import StudyFolder
from mgmt_ray.study.plan import Unit, unit_trials
from mgmt_ray.study.trial import Trial
from mgmt_ray.training.checkpoint import load_state, save_state
from mgmt_ray.trials.context import StudyContext, TrialInputs
from mgmt_ray.trials.run_trial import run_trial
from tests.run_stages import prepared

NETWORKS = {"spottune": {"kind": "spottune", "depth": 10, "width": 4, "agent_width": 2}}
TRAINING = {"epochs": 4, "batch_size": 12, "learning_rate": 0.01, "validation_draws": 4}


class Stopped(Exception):
    """What a power cut would be."""


@pytest.fixture
def first_trial(make_job: Callable[..., StudyContext]) -> tuple[StudyContext, TrialInputs, Trial]:
    context = make_job(networks=NETWORKS, training=TRAINING)
    inputs, trials = prepared(context)
    return context, inputs, trials[0]


def interrupt(trial: Trial, inputs: TrialInputs, stop: int = 1) -> Path:
    """Run a trial until the end of an epoch, and return its saved state."""

    def cut(row: dict[str, float]) -> None:
        if row["epoch"] == stop:
            raise Stopped

    with pytest.raises(Stopped):
        run_trial(trial, replace(inputs, state_seconds=0.0), "cpu", report=cut)
    return inputs.folder.partial_trial(trial.id) / "state.pt"


def test_what_auto_became_is_recorded_and_nothing_else_is_taken_for_it(
    make_job: Callable[..., StudyContext],
) -> None:
    training = TRAINING | {"epochs": 1, "precision": "auto", "compile": "auto"}
    inputs, (trial, *_) = prepared(make_job(networks=NETWORKS, training=training))
    run_trial(trial, inputs, "cpu")
    recorded = inputs.folder.read_trial(trial.id)["training_config"]
    assert (recorded["precision"], recorded["compile"]) == ("fp32", False)
    run_trial(trial, inputs, "cpu")  # finished: auto keeps what there is
    half = trial.training_config.model_copy(update={"precision": "bf16"})
    with pytest.raises(MgmtError, match="precision: fp32, and the study asks for bf16"):
        run_trial(replace(trial, training_config=half), inputs, "cpu")


@pytest.mark.parametrize("stop", [1, 2, 3])
def test_a_trial_cut_off_after_any_epoch_ends_as_if_it_had_not_been(
    first_trial: tuple[StudyContext, TrialInputs, Trial], stop: int
) -> None:
    context, inputs, trial = first_trial
    run_trial(trial, inputs, "cpu")
    other = replace(inputs, folder=StudyFolder(context.folder.root / "other"))
    (context.folder.root / "other").mkdir()
    (context.folder.root / "other" / "volumes").symlink_to(context.folder.volumes)
    state = interrupt(trial, other, stop)
    assert not other.folder.is_finished(trial.id)
    saved = load_state(state)
    assert saved["training"]["epoch"] == stop
    assert saved["training"]["network"].keys() == saved["weights"].keys()  # nothing frozen
    epochs: list[float] = []
    run_trial(trial, other, "cpu", report=lambda row: epochs.append(row["epoch"]))
    assert epochs == list(range(stop + 1, 5))
    whole, continued = inputs.folder.trial(trial.id), other.folder.trial(trial.id)
    for name in ("weights.safetensors", "validation.csv"):
        assert (whole / name).read_bytes() == (continued / name).read_bytes()
    tables = [pd.read_csv(p / "epochs.csv").drop(columns="seconds") for p in (whole, continued)]
    pd.testing.assert_frame_equal(*tables, check_exact=True)
    metadata = [
        f.read_trial(trial.id) | {"seconds": 0, "tables_sha256": {}}
        for f in (inputs.folder, other.folder)
    ]
    assert metadata[0] == metadata[1]
    assert not other.folder.partial_trial(trial.id).exists()


def test_a_training_that_pauses_and_finishes_a_shorter_one_equals_both_alone(
    first_trial: tuple[StudyContext, TrialInputs, Trial],
) -> None:
    context, inputs, trial = first_trial
    unit = Unit(trial.network, (), 0)
    short, whole = (
        unit_trials(context.study, inputs.splits, unit, {"epochs": epochs}, [0])[0]
        for epochs in (2, 4)
    )
    for alone in (short, whole):
        run_trial(alone, inputs, "cpu")
    (context.folder.root / "other").mkdir()
    (context.folder.root / "other" / "volumes").symlink_to(context.folder.volumes)
    other = replace(inputs, folder=StudyFolder(context.folder.root / "other"))
    shared = replace(other, pause_at={whole.id: 3}, shorter={whole.id: (short,)})
    for _ in range(2):  # it pauses, and does not go on while it must not
        run_trial(whole, shared, "cpu")
        assert other.folder.is_finished(short.id)
        assert other.folder.paused_at(whole.id) == 3
        assert not other.folder.is_finished(whole.id)
    epochs: list[float] = []
    run_trial(whole, other, "cpu", report=lambda row: epochs.append(row["epoch"]))
    assert epochs == [4]
    for made in (short, whole):
        folders = [f.trial(made.id) for f in (inputs.folder, other.folder)]
        assert [{p.name for p in folder.iterdir()} for folder in folders] == [
            {"trial.json", "epochs.csv", "weights.safetensors", "validation.csv"}
        ] * 2
        for name in ("weights.safetensors", "validation.csv"):
            assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes()
        tables = [pd.read_csv(f / "epochs.csv").drop(columns="seconds") for f in folders]
        pd.testing.assert_frame_equal(*tables, check_exact=True)
        metadata = [
            f.read_trial(made.id) | {"seconds": 0, "tables_sha256": {}}
            for f in (inputs.folder, other.folder)
        ]
        assert metadata[0] == metadata[1]


def test_a_state_that_lacks_a_part_is_not_continued(
    first_trial: tuple[StudyContext, TrialInputs, Trial],
) -> None:
    _, inputs, trial = first_trial
    path = interrupt(trial, inputs)
    state = load_state(path)
    del state["training"]["accuracies"]
    save_state(state, path)
    epochs: list[float] = []
    run_trial(trial, inputs, "cpu", report=lambda row: epochs.append(row["epoch"]))
    assert epochs == [1, 2, 3, 4]


def test_a_damaged_state_is_set_aside_and_the_trial_starts_over(
    first_trial: tuple[StudyContext, TrialInputs, Trial], capsys: pytest.CaptureFixture[str]
) -> None:
    _, inputs, trial = first_trial
    state = interrupt(trial, inputs)
    damaged = state.read_bytes()[:-5000]
    state.write_bytes(damaged)
    epochs: list[float] = []
    run_trial(trial, inputs, "cpu", report=lambda row: epochs.append(row["epoch"]))
    assert epochs == [1, 2, 3, 4]
    partial = inputs.folder.partial_trial(trial.id)
    assert partial.with_name(f"{trial.id}.damaged.pt").read_bytes() == damaged
    assert "so this training starts over" in capsys.readouterr().out
    (inputs.folder.trial(trial.id) / "validation.csv").write_text("subject\n")
    with pytest.raises(MgmtError, match=r"validation.csv: its checksum is not the one"):
        run_trial(trial, inputs, "cpu")


def test_a_finished_trial_is_not_run_again(
    first_trial: tuple[StudyContext, TrialInputs, Trial],
) -> None:
    _, inputs, trial = first_trial
    run_trial(trial, inputs, "cpu")
    before = (inputs.folder.trial(trial.id) / "trial.json").stat().st_mtime_ns

    def refuse(row: dict[str, float]) -> None:
        raise AssertionError(row)

    run_trial(trial, inputs, "cpu", report=refuse)
    assert (inputs.folder.trial(trial.id) / "trial.json").stat().st_mtime_ns == before


def test_the_kept_weights_are_those_of_the_chosen_epoch(
    first_trial: tuple[StudyContext, TrialInputs, Trial],
) -> None:
    """A training that ends at the chosen epoch has the same weights, by either rule."""
    _, inputs, trial = first_trial
    run_trial(trial, inputs, "cpu")
    chosen = inputs.folder.read_trial(trial.id)["selection"]["epoch"]
    config = trial.training_config.model_copy(update={"epochs": chosen})
    shorter = replace(trial, training_config=config, hash="0" * 64)
    run_trial(shorter, inputs, "cpu")
    last = inputs.folder.read_trial(shorter.id)
    assert last["selection"]["epoch"] == chosen
    assert last["weights_sha256"] == inputs.folder.read_trial(trial.id)["weights_sha256"]


def test_a_diverged_trial_leaves_its_good_epochs_and_no_weights_and_is_not_run_again(
    first_trial: tuple[StudyContext, TrialInputs, Trial],
) -> None:
    _, inputs, trial = first_trial
    cut_after_two = replace(inputs, state_seconds=0.0)

    def cut(row: dict[str, float]) -> None:
        if row["epoch"] == 2:
            raise Stopped

    with pytest.raises(Stopped):
        run_trial(trial, cut_after_two, "cpu", report=cut)
    path = inputs.folder.partial_trial(trial.id) / "state.pt"
    state = load_state(path)
    state["training"]["network"]["fc.weight"][0, 0] = float("inf")
    save_state(state, path)
    run_trial(trial, inputs, "cpu")
    folder = inputs.folder.trial(trial.id)
    assert {p.name for p in folder.iterdir()} == {"trial.json", "epochs.csv"}
    metadata = inputs.folder.read_trial(trial.id)
    assert (metadata["status"], metadata["last_good_epoch"], metadata["weights_sha256"]) == (
        "diverged",
        2,
        None,
    )
    assert "the training loss is nan in epoch 3" in metadata["message"]
    assert metadata["volumes_checksum"].keys() == {"PH"}
    epochs = pd.read_csv(folder / "epochs.csv")
    assert epochs["epoch"].tolist() == [1, 2]
    assert epochs["train_loss"].notna().all()
    assert inputs.folder.outcome(trial.id).diverged
    before = (folder / "trial.json").stat().st_mtime_ns
    run_trial(trial, inputs, "cpu")
    assert (folder / "trial.json").stat().st_mtime_ns == before


IN_LITTLE_MEMORY = """
import pickle, resource, sys
from pathlib import Path
from mgmt_ray.base import MgmtError
from mgmt_ray.trials.run_trial import run_trial
from tests.run_stages import prepared

inputs, trial = pickle.loads(Path(sys.argv[1]).read_bytes())
pages = int(Path("/proc/self/statm").read_text().split()[0])
limit = pages * resource.getpagesize() + 2**30
resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
try:
    run_trial(trial, inputs, "cpu")
except MgmtError as error:
    print(type(error).__name__, error)
"""


def test_a_trial_that_wants_too_much_memory_says_what_to_make_smaller(
    first_trial: tuple[StudyContext, TrialInputs, Trial], tmp_path: Path
) -> None:
    _, inputs, trial = first_trial
    wide = trial.network_config.model_copy(update={"kind": "random", "width": 1024})
    content = pickle.dumps((inputs, replace(trial, network_config=wide)))
    (tmp_path / "trial.pickle").write_bytes(content)
    # its last block alone has 7 GiB of weights; the process may take one more than it begins with
    command = [sys.executable, "-c", IN_LITTLE_MEMORY, str(tmp_path / "trial.pickle")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("OutOfMemory out of memory (")
    for part in (
        f"trial {trial.id} trains spottune (ResNet-10 in 3-D, trained from random weights, width "
        "1024) on cpu",
        "in batches of 12 volumes of 1 × 10 × 12 × 12",
        "a smaller training.batch_size",
        "--workers",
    ):
        assert part in done.stdout
    assert not inputs.folder.is_finished(trial.id)


def test_a_person_on_two_sides_is_never_trained_on(
    first_trial: tuple[StudyContext, TrialInputs, Trial],
) -> None:
    _, inputs, trial = first_trial
    tested, trained = inputs.splits[0].test[0], inputs.splits[0].training[0]
    subjects = tuple(
        replace(s, person="P-1") if s.id in (tested, trained) else s for s in inputs.cohort.subjects
    )
    with pytest.raises(MgmtError, match="person P-1 would have two roles"):
        run_trial(trial, replace(inputs, cohort=Cohort(subjects)), "cpu")
    assert not inputs.folder.is_finished(trial.id)


def test_a_trial_learns_the_labels_of_its_own_split(
    first_trial: tuple[StudyContext, TrialInputs, Trial],
) -> None:
    _, inputs, trial = first_trial
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


def test_a_trial_tells_the_prior_that_it_was_trained_with(
    make_job: Callable[..., StudyContext],
) -> None:
    context = make_job(networks=NETWORKS, training=TRAINING | {"epochs": 1, "balance": "none"})
    inputs, trials = prepared(context)
    run_trial(trials[0], inputs, "cpu")
    label = {s.id: s.label for s in inputs.cohort.subjects}
    trained, _ = inputs.splits[0].fold(trials[0].fold, set(label))
    share = sum(label[s] for s in trained) / len(trained)
    assert context.folder.read_trial(trials[0].id)["prior"] == pytest.approx(share)
    validation = pd.read_csv(context.folder.trial(trials[0].id) / "validation.csv")
    assert validation["prior"].tolist() == pytest.approx([share] * len(validation))
