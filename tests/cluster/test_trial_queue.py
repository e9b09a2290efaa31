from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from mgmt_ray.cluster.resources import MAX_FAILURES
from mgmt_ray.cluster.trial_queue import WAIT, QueuedTrial, TrialQueue, divide_trials
from mgmt_ray.study.folder import StudyFolder
from mgmt_ray.study.outcome import Outcome


@pytest.fixture
def folder(tmp_path: Path) -> StudyFolder:
    return StudyFolder(tmp_path)


def finish(folder: StudyFolder, trial_id: str) -> None:
    folder.trial(trial_id).mkdir(parents=True)
    (folder.trial(trial_id) / "trial.json").write_text(json.dumps({"status": "finished"}))


def queued(*trials: str | tuple[str, Sequence[str]], seconds: float = 1.0) -> list[QueuedTrial]:
    pairs = [(trial, ()) if isinstance(trial, str) else trial for trial in trials]
    return [QueuedTrial(name, "kind", seconds, tuple(needs)) for name, needs in pairs]


def train_all(queue: TrialQueue, folder: StudyFolder, groups: Sequence[str]) -> list[str]:
    """Let groups ask in turn, and finish what each got when it asks again."""
    running: dict[str, str] = {}
    order: list[str] = []
    asking = [*groups]
    while asking:
        group = asking.pop(0)
        if group in running:
            finish(folder, running.pop(group))
        trial_id = queue.next(group)
        if trial_id is None:
            continue
        asking.append(group)
        if trial_id != WAIT:
            running[group] = trial_id
            order.append(trial_id)
    return order


@pytest.mark.parametrize("most", [1, 2, 3, 7, 50])
@pytest.mark.parametrize("seconds", [{"a": 1.0}, {"a": 1, "b": 5, "c": 2}, {"a": 1, "b": 900}])
def test_shares_hold_every_trial_once_the_longest_first(
    most: int, seconds: Mapping[str, float]
) -> None:
    trials = [QueuedTrial(f"{k}{i}", k, s) for i in range(11) for k, s in seconds.items()]
    shares = divide_trials(trials, most)
    assert len(shares) <= most
    assert sorted(t.id for share in shares for t in share) == sorted(t.id for t in trials)
    for share in shares:
        assert share == sorted(share, key=lambda trial: -trial.seconds)
    times = [sum(trial.seconds for trial in share) for share in shares]
    longest = max(seconds.values())
    assert max(times) <= sum(times) / most + longest
    kinds = [kind for share in shares for kind in dict.fromkeys(t.kind for t in share)]
    assert len(kinds) <= len(seconds) + most - 1, "a kind was cut more often than needed"


@pytest.mark.parametrize("num_groups", [1, 2, 3])
def test_every_trial_is_trained_once_after_those_it_needs(
    folder: StudyFolder, num_groups: int
) -> None:
    trials = queued(("c", ["a", "b"]), ("d", ["c"]), "a", "b", "e", ("f", ["e"]))
    groups = [f"group_{i}" for i in range(num_groups)]
    shares = {group: trials[i::num_groups] for i, group in enumerate(groups)}
    order = train_all(TrialQueue(shares, folder), folder, groups)
    assert sorted(order) == list("abcdef")
    for trial in trials:
        assert all(order.index(need) < order.index(trial.id) for need in trial.needs)


def test_a_group_without_a_share_takes_from_the_one_that_needs_longest(folder: StudyFolder) -> None:
    shares = {"short": queued("a", "b"), "long": queued("c", "d", seconds=9)}
    assert TrialQueue(shares, folder).next("new") == "c"


def test_a_group_waits_only_while_another_trains_what_it_needs(folder: StudyFolder) -> None:
    queue = TrialQueue({"one": queued("a"), "two": queued(("b", ["a"]))}, folder)
    assert queue.next("two") == "a", "no other group has begun it"
    assert queue.next("one") == WAIT
    assert not queue.needs_another(2)
    finish(folder, "a")
    assert queue.next("two") == "b"
    assert queue.next("one") is None


@pytest.mark.parametrize(("seconds", "groups"), [(1.0, 1), (14.0, 2), (18.0, 3), (1e5, 4)])
def test_as_many_groups_are_needed_as_have_enough_to_do(
    folder: StudyFolder, seconds: float, groups: int
) -> None:
    trials = queued("a", "b", "c", "d", seconds=seconds)
    queue = TrialQueue({"one": trials}, folder, group_seconds=20.0)
    needed = 0
    while queue.needs_another(needed):
        needed += 1
    assert needed == groups


def test_a_trial_that_takes_longer_than_expected_makes_more_groups_needed(
    folder: StudyFolder,
) -> None:
    queue = TrialQueue({"one": queued("a", "b", seconds=1e-9)}, folder, group_seconds=0.2)
    queue.next("one")
    assert not queue.needs_another(1)
    time.sleep(0.25)
    assert queue.needs_another(1)
    finish(folder, "a")
    assert (queue.next("one"), queue.needs_another(1)) == ("b", False), "no trial is left"


def test_an_idle_gpu_is_worth_a_group(folder: StudyFolder) -> None:
    queue = TrialQueue({"one": queued("a", "b", seconds=1e-9)}, folder, group_seconds=0.0)
    assert [queue.needs_another(groups) for groups in range(3)] == [True, True, False]


def test_what_needs_a_trial_without_a_result_fails_and_all_else_goes_on(
    folder: StudyFolder,
) -> None:
    queue = TrialQueue({"one": queued("a", ("b", ["a"]), ("c", ["b"]), "d")}, folder)
    assert queue.next("one") == "a"
    folder.record_failure("a", Outcome("failed", "no mask"))
    assert queue.next("one") == "d"
    finish(folder, "d")
    assert queue.next("one") is None
    assert folder.outcome("b").message == "it needs a, not finished. Rerun the study."
    assert folder.outcome("c").message == "it needs b, not finished. Rerun the study."


def test_a_restarted_group_gets_its_trial_again_until_it_is_lost(folder: StudyFolder) -> None:
    queue = TrialQueue({"one": queued("a", "b")}, folder)
    assert [queue.next("one") for _ in range(MAX_FAILURES + 2)] == ["a"] * (MAX_FAILURES + 1) + [
        "b"
    ]
    assert folder.outcome("a").status == "lost"
    assert folder.outcome("b").status == "to do"


def test_a_lost_group_gives_its_trial_back_to_others(folder: StudyFolder) -> None:
    queue = TrialQueue({"one": queued("a"), "two": queued("b")}, folder)
    assert (queue.next("one"), queue.next("two")) == ("a", "b")
    assert queue.give_back("one", "Traceback\nActorDiedError: gone\n")
    assert not queue.give_back("one", "it has nothing")
    assert queue.needs_another(1)
    finish(folder, "b")
    assert queue.next("two") == "a"
    queue.close("no node")
    assert folder.outcome("a").message.startswith("its workers died (no node). Rerun")
    assert folder.outcome("b").status == "finished"


def test_a_queue_started_again_gives_no_trial_to_a_second_group(folder: StudyFolder) -> None:
    shares = {"one": queued("a", "b"), "two": queued("c", "d")}
    file = folder.root / "queue.json"
    before = TrialQueue(shares, folder, file)
    assert (before.next("one"), before.next("two")) == ("a", "c")
    finish(folder, "a")
    assert before.next("one") == "b"
    after = TrialQueue(shares, folder, file)
    finish(folder, "b")
    assert after.next("one") == "d"
    finish(folder, "c")
    assert after.next("two") is None
    assert after.next("one") == "d", "its worker died"


def test_a_trial_that_paused_where_it_should_is_not_handed_out_again(folder: StudyFolder) -> None:
    queue = TrialQueue({"one": queued("a", "b")}, folder, pause_at={"a": 3})
    assert queue.next("one") == "a"
    folder.record_pause("a", 3)
    assert queue.next("one") == "b"
    finish(folder, "b")
    assert queue.next("one") is None
    queue.close("the end")
    assert folder.outcome("a").status == "stopped"
