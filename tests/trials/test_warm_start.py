from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from mgmt_ray.base import MgmtError, file_checksum
from mgmt_ray.cohort.cohort import Cohort
from mgmt_ray.study.folder import write_trial_file
from mgmt_ray.study.trial import Trial
from mgmt_ray.trials.context import StudyContext, TrialInputs
from mgmt_ray.trials.run_trial import input_checksums, run_trial
from mgmt_ray.trials.warm_start import check_external_leakage, find_initial_weights, matching_paths
from tests.run_stages import prepared

SMALL = {"depth": 10, "width": 4, "agent_width": 2}
TRAINING = {"epochs": 1, "batch_size": 12, "learning_rate": 0.005, "validation_draws": 2}
STILL = TRAINING | {"learning_rate": 1e-30, "agent_learning_rate": 1e-30}
"""A training that leaves every parameter as it was."""


@pytest.fixture
def plan(make_job: Callable[..., StudyContext]) -> Callable[..., tuple[TrialInputs, list[Trial]]]:
    """A study of one network, planned in the folder that all of a test's studies share."""

    def plan(
        network: dict[str, Any], training: dict[str, Any] = TRAINING, name: str = "net"
    ) -> tuple[TrialInputs, list[Trial]]:
        context = make_job(networks={name: SMALL | network}, inputs=[["FLAIR"]], training=training)
        inputs, trials = prepared(context)
        return inputs, trials

    return plan


@pytest.fixture
def begin(plan: Callable[..., Any]) -> Callable[..., tuple[TrialInputs, list[Trial]]]:
    """The same, with its trials trained."""

    def begin(network: dict[str, Any]) -> tuple[TrialInputs, list[Trial]]:
        inputs, trials = plan(network, name="first")
        for trial in trials:
            run_trial(trial, inputs, "cpu")
        return inputs, trials

    return begin


def read_weights(inputs: TrialInputs, trial: Trial) -> dict[str, torch.Tensor]:
    return load_file(inputs.folder.trial(trial.id) / "weights.safetensors")


@pytest.mark.parametrize("kind", ["spottune", "random", "transfer"])
def test_a_trial_starts_from_the_trial_of_its_own_fold(
    kind: str, plan: Callable[..., Any], begin: Callable[..., Any]
) -> None:
    inputs, first = begin({"kind": kind})
    pattern = f"{inputs.folder.trials}/first_{{modality}}_fold{{fold}}_seed{{repeat}}_*"
    _, second = plan({"kind": kind, "start_from": pattern}, STILL, "second")
    for before, after in zip(first, second, strict=True):
        run_trial(after, inputs, "cpu")
        learnt, begun = read_weights(inputs, after), read_weights(inputs, before)
        for name, value in begun.items():
            if "running" not in name and "num_batches" not in name:
                # Adam moves a parameter by at most its rate, 1e-30, which float32 cannot show
                # unless the parameter is 0
                torch.testing.assert_close(learnt[name], value, rtol=0, atol=1e-25, msg=name)
        metadata = inputs.folder.read_trial(after.id)
        assert metadata["start_checksum"] == inputs.folder.read_trial(before.id)["weights_sha256"]
        assert metadata["persons"] == inputs.folder.read_trial(before.id)["persons"]


def test_transfer_goes_on_to_train_more_blocks_and_not_fewer(
    plan: Callable[..., Any], begin: Callable[..., Any]
) -> None:
    inputs, (first, *_) = begin({"kind": "transfer", "trainable_blocks": 1})
    settings = {"kind": "transfer", "start_from": str(inputs.folder.trial(first.id))}
    _, (more, *_) = plan(settings | {"trainable_blocks": 2}, STILL, "more")
    run_trial(more, inputs, "cpu")
    learnt, begun = read_weights(inputs, more), read_weights(inputs, first)
    assert begun.keys() < learnt.keys()
    for name in ("resnet.fc.weight", "resnet.layer4.0.conv2.weight"):
        torch.testing.assert_close(learnt[name], begun[name], rtol=0, atol=1e-25)
    _, (fewer, *_) = plan(settings | {"trainable_blocks": 0}, TRAINING, "fewer")
    with pytest.raises(MgmtError, match="trainable_blocks differ"):
        input_checksums(fewer, inputs)


def test_a_start_that_saw_whom_the_trial_is_judged_by_is_refused(
    plan: Callable[..., Any], begin: Callable[..., Any]
) -> None:
    inputs, (first, _) = begin({"kind": "random"})
    start = str(inputs.folder.trial(first.id))
    _, (same, wrong) = plan({"kind": "random", "start_from": start}, TRAINING, "second")
    input_checksums(same, inputs)
    with pytest.raises(MgmtError, match=r"was trained on .*validation subjects .*\{fold\}"):
        input_checksums(wrong, inputs)
    (split,) = inputs.splits
    trained = split.folds[1 - first.fold][0]
    moved = replace(
        split,
        test=(*split.test, trained),
        folds=tuple(tuple(s for s in fold if s != trained) for fold in split.folds),
    )
    with pytest.raises(
        MgmtError, match=f"selected on {trained}, test subjects of second_FLAIR_fold0"
    ):
        input_checksums(same, replace(inputs, splits=(moved,)))
    chosen_by = split.folds[first.fold][0]
    folds = tuple(tuple(s for s in fold if s != chosen_by) for fold in split.folds)
    moved = replace(split, test=(*split.test, chosen_by), folds=folds)
    with pytest.raises(MgmtError, match=f"selected on {chosen_by}, test subjects"):
        input_checksums(same, replace(inputs, splits=(moved,)))


def test_a_start_is_taken_only_with_the_weights_that_it_left(
    plan: Callable[..., Any], begin: Callable[..., Any]
) -> None:
    inputs, (first, other) = begin({"kind": "random"})
    folder = inputs.folder.trial(first.id)
    _, (same, _) = plan({"kind": "random", "start_from": str(folder)}, TRAINING, "second")
    weights, metadata = folder / "weights.safetensors", folder / "trial.json"
    content, description = weights.read_bytes(), metadata.read_text()
    weights.write_bytes((inputs.folder.trial(other.id) / "weights.safetensors").read_bytes())
    with pytest.raises(MgmtError, match=r"may have been trained on other persons"):
        input_checksums(same, inputs)
    weights.write_bytes(content)
    metadata.write_text(description[:200])
    with pytest.raises(MgmtError, match=r"trial\.json: is damaged"):
        input_checksums(same, inputs)
    metadata.write_text(description)
    input_checksums(same, inputs)


def test_a_person_under_another_name_is_still_a_leak(
    plan: Callable[..., Any], begin: Callable[..., Any]
) -> None:
    inputs, (first, _) = begin({"kind": "random"})
    start = str(inputs.folder.trial(first.id))
    _, (same, _) = plan({"kind": "random", "start_from": start}, TRAINING, "second")
    (split,) = inputs.splits
    tested, trained = split.test[0], split.folds[1][0]
    person = {s.id: s.person for s in inputs.cohort.subjects}[trained]
    twins = tuple(
        replace(s, person=person) if s.id == tested else s for s in inputs.cohort.subjects
    )
    with pytest.raises(MgmtError, match=f"selected on {tested}, test subjects"):
        input_checksums(same, replace(inputs, cohort=Cohort(twins)))
    with pytest.raises(MgmtError, match=f"selected on {trained}.*external.other.exclude"):
        check_external_leakage("other", Cohort(tuple(s for s in twins if s.id == trained)), [same])


def test_persons_are_handed_on_from_start_to_start(
    plan: Callable[..., Any], begin: Callable[..., Any]
) -> None:
    inputs, (first, _) = begin({"kind": "random"})
    folder, metadata = inputs.folder.trial(first.id), inputs.folder.read_trial(first.id)
    metadata["persons"]["trained"].append("of-another-cohort")
    write_trial_file(folder, metadata)
    _, (second, _) = plan({"kind": "random", "start_from": str(folder)}, STILL, "second")
    run_trial(second, inputs, "cpu")
    assert "of-another-cohort" in inputs.folder.read_trial(second.id)["persons"]["trained"]


@pytest.mark.parametrize(
    ("network", "message"),
    [
        ({"kind": "transfer"}, r"kind.*checkpoint differ"),
        ({"kind": "random", "width": 8}, r"\(width differ"),
        ({"kind": "random", "covariates": ["age"]}, r"\(covariates differ"),
    ],
)
def test_a_start_of_another_network_is_refused(
    network: dict[str, Any], message: str, plan: Callable[..., Any], begin: Callable[..., Any]
) -> None:
    inputs, (first, _) = begin({"kind": "random"})
    start = str(inputs.folder.trial(first.id))
    _, (second, _) = plan(network | {"start_from": start}, TRAINING, "second")
    with pytest.raises(MgmtError, match=message):
        input_checksums(second, inputs)


def test_no_start_several_starts_and_old_ones_are_refused(
    plan: Callable[..., Any], begin: Callable[..., Any], tmp_path: Path
) -> None:
    inputs, (first, _) = begin({"kind": "random"})
    for pattern, number in (("absent", 0), ("first_*", 2)):
        text = str(inputs.folder.trials / pattern)
        _, (second, _) = plan({"kind": "random", "start_from": text}, TRAINING, "second")
        with pytest.raises(MgmtError, match=f"matches {number} trials with weights"):
            find_initial_weights(second)
    metadata = inputs.folder.read_trial(first.id)
    del metadata["persons"]
    write_trial_file(inputs.folder.trial(first.id), metadata)
    text = str(inputs.folder.trial(first.id))
    _, (second, _) = plan({"kind": "random", "start_from": text}, TRAINING, "second")
    with pytest.raises(MgmtError, match="does not record the persons"):
        find_initial_weights(second)


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("study/trials/net_fold1_*", ["study/trials/net_fold1_a[1]"]),
        ("study/trials/net_fold1_a[1]", ["study/trials/net_fold1_a[1]"]),
        ("s*y/trials/*_fold1*a*", ["study/trials/net_fold10_a", "study/trials/net_fold1_a[1]"]),
        ("**/net_fold10_*", ["study/trials/net_fold10_a"]),
        ("study/trials/net_fold1_?[1]*", []),  # only * has a meaning
        ("study/file/*", []),
        ("absent/*", []),
    ],
)
def test_a_star_stands_for_anything(pattern: str, found: list[str], tmp_path: Path) -> None:
    for name in ("net_fold1_a[1]", "net_fold10_a", "other_fold1"):
        (tmp_path / "study" / "trials" / name).mkdir(parents=True)
    (tmp_path / "study" / "file").touch()
    for _ in range(2):  # the second time from a list that was kept
        paths = [path for path in matching_paths(tmp_path / pattern) if path.is_dir()]
        assert paths == [tmp_path / name for name in found]
        for folder in (tmp_path / "study" / "trials", tmp_path / "study", tmp_path):
            os.utime(folder, (0, 0))
    (tmp_path / "study" / "trials" / "net_fold1_new").mkdir()
    assert (tmp_path / "study/trials/net_fold1_new") in matching_paths(
        tmp_path / "study/trials/net_fold1_*"
    )


def test_a_trial_is_of_its_start_and_not_of_where_that_stands(
    plan: Callable[..., Any], tmp_path: Path
) -> None:
    ids = []
    for start in (None, str(tmp_path / "a" / "x"), str(tmp_path / "b" / "x"), str(tmp_path / "y")):
        _, (trial, _) = plan({"kind": "random", "start_from": start})
        ids.append(trial.id)
    assert ids[1] == ids[2]
    assert len(set(ids)) == 3


def test_a_trial_whose_start_was_trained_anew_is_not_kept(
    plan: Callable[..., Any], begin: Callable[..., Any], make_job: Callable[..., StudyContext]
) -> None:
    inputs, (first, _) = begin({"kind": "random"})
    folder = inputs.folder.trial(first.id)
    _, (second, _) = plan({"kind": "random", "start_from": str(folder)}, TRAINING, "second")
    run_trial(second, inputs, "cpu")
    assert input_checksums(second, inputs)["start_checksum"]
    path = folder / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:-4] + b"\x00\x00\x80\x3f")
    metadata = inputs.folder.read_trial(first.id) | {"weights_sha256": file_checksum(path)}
    write_trial_file(folder, metadata)
    with pytest.raises(MgmtError, match=r"trained from other files \(start_checksum differ"):
        input_checksums(second, inputs)
