"""Which trial a worker group trains next: its own share first, then what others have left."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mgmt_ray.base import write_json
from mgmt_ray.cluster.resources import MAX_FAILURES
from mgmt_ray.study.folder import StudyFolder
from mgmt_ray.study.outcome import Outcome

WAIT = "wait"
"""Answer in place of a trial's id: ask again, another group trains what the next trial needs."""


@dataclass(frozen=True, slots=True)
class QueuedTrial:
    """What the queue knows of a trial.

    Attributes:
        kind: shared by trials that use the same network and input, and take about as long.
        seconds: that it is expected to take; where nothing is known, small but in proportion.
        needs: ids of trials that must be finished before.
    """

    id: str
    kind: str
    seconds: float
    needs: tuple[str, ...] = ()


def divide_trials(trials: Sequence[QueuedTrial], most: int) -> list[list[QueuedTrial]]:
    """Divide trials into at most ``most`` shares of about equal time, the longest trials first.

    Trials of a kind stay together where that is possible.

    Examples:
        >>> trials = [QueuedTrial(k + i, k, s) for k, s in (("a", 1.0), ("b", 2.0)) for i in "01"]
        >>> [[trial.id for trial in share] for share in divide_trials(trials, 2)]
        [['b0'], ['b1', 'a0', 'a1']]
    """
    of_kind: dict[str, float] = {}
    for trial in trials:
        of_kind[trial.kind] = max(of_kind.get(trial.kind, 0.0), trial.seconds)
    ordered = sorted(trials, key=lambda trial: (-of_kind[trial.kind], trial.kind))
    total = sum(trial.seconds for trial in trials)
    shares: dict[int, list[QueuedTrial]] = {}
    before = 0.0
    for trial in ordered:
        middle = (before + trial.seconds / 2) / total
        shares.setdefault(min(int(most * middle), most - 1), []).append(trial)
        before += trial.seconds
    return list(shares.values())


class TrialQueue:
    """Hands the trials that are ready to worker groups, each trial to one of them.

    A trial is ready when those that it needs are finished. A group that asks again without having
    ended its trial was restarted, and gets the same one; after too many deaths the trial is
    recorded as lost. What was handed out is kept in a file: a queue that died and is started again
    gives no trial to a second group.

    Args:
        shares: trials by name of the worker group that should train them, in their order.
        folder: of the study; tells which trials have ended.
        file: of what was handed out; None keeps it in memory alone.
        pause_at: by trial's id, the epoch at which it ends for now.
        group_seconds: of training that are worth the start of a worker group.
    """

    def __init__(
        self,
        shares: Mapping[str, Sequence[QueuedTrial]],
        folder: StudyFolder,
        file: Path | None = None,
        pause_at: Mapping[str, int] | None = None,
        group_seconds: float = 0.0,
    ) -> None:
        self._folder, self._file, self._pause_at = folder, file, dict(pause_at or {})
        self._claims: dict[str, str] = {}
        self._attempts: Counter[str] = Counter()
        self._group_seconds = group_seconds
        self._taken, self._expected = 0.0, 0.0
        if file is not None and file.is_file():
            content = json.loads(file.read_text(encoding="utf-8"))
            self._claims, self._attempts = content["claims"], Counter(content["attempts"])
        self._since = dict.fromkeys(self._claims, time.monotonic())
        self._waiting = {
            group: [t for t in share if t.id not in {*self._claims.values()}]
            for group, share in shares.items()
        }
        if self._attempts:  # a later start
            for group, share in self._waiting.items():
                self._waiting[group] = [t for t in share if not self._has_ended(t.id)]
        self._trials = {trial.id: trial for share in shares.values() for trial in share}
        self._open = {t.id for share in self._waiting.values() for t in share}
        self._open |= {*self._claims.values()}

    def next(self, group: str) -> str | None:
        """Return the id of the trial that a group trains next, :data:`WAIT`, or None at the end."""
        claimed = self._claims.get(group)
        if claimed is not None and not self._close_if_ended(group, "its worker ended"):
            return self._hand_out(claimed, group)
        trial = self._take(group)
        if trial is not None:
            return self._hand_out(trial.id, group)
        return WAIT if any(self._waiting.values()) else None

    def give_back(self, group: str, error: str) -> bool:
        """Take back the trial of a group whose workers died; return whether it had one.

        The group may go on, with this trial or the next; the last line of the error is recorded if
        the trial had its workers die too often.
        """
        trial_id = self._claims.get(group)
        if trial_id is None:
            return False
        if not self._close_if_ended(group, last_line(error)):
            del self._claims[group]
            self._waiting.setdefault(group, []).insert(0, self._trials[trial_id])
            self._write()
        return True

    def needs_another(self, num_groups: int) -> bool:
        """Return whether trials wait for more than so many worker groups, for long enough.

        Each group, with another one, must have as many seconds of work left as a start is worth.
        """
        waiting = [t for share in self._waiting.values() for t in share]
        idle = num_groups - len(self._claims)
        if sum(self._is_ready(trial) for trial in waiting) <= idle:
            return False
        seconds = self._pace() * sum(trial.seconds for trial in waiting)
        return num_groups == 0 or seconds >= self._group_seconds * (num_groups + 1)

    def _pace(self) -> float:
        """Return how many seconds an expected one takes: of trials that ended, or of running ones.

        A running trial is taken to be half through, as it may end at any time.
        """
        now = time.monotonic()
        paces = [self._taken / self._expected if self._expected else 1.0]
        for group, trial_id in self._claims.items():
            paces.append(2 * (now - self._since[group]) / self._trials[trial_id].seconds)
        return max(paces)

    def close(self, error: str) -> None:
        """Record all trials that have not ended as lost, as no worker group is left for them."""
        for trial_id in sorted(self._open):
            if not self._has_ended(trial_id):
                self._record_lost(trial_id, last_line(error))

    def _close_if_ended(self, group: str, reason: str) -> bool:
        """Return whether a group's trial has ended, or must not be tried again."""
        trial_id = self._claims[group]
        if not self._has_ended(trial_id):
            if self._attempts[trial_id] <= MAX_FAILURES:
                return False
            self._record_lost(trial_id, reason)
        self._taken += time.monotonic() - self._since[group]
        self._expected += self._trials[trial_id].seconds
        del self._claims[group]
        self._open.discard(trial_id)
        return True

    def _take(self, group: str) -> QueuedTrial | None:
        """Remove and return a ready trial: of the group's own, or of the one that needs longest."""
        self._drop_blocked()
        others = [name for name in self._waiting if name != group]
        others.sort(key=lambda name: -sum(trial.seconds for trial in self._waiting[name]))
        for name in (group, *others):
            share = self._waiting.get(name, [])
            for index, trial in enumerate(share):
                if self._is_ready(trial):
                    return share.pop(index)
        return None

    def _is_ready(self, trial: QueuedTrial) -> bool:
        return self._open.isdisjoint(trial.needs)

    def _drop_blocked(self) -> None:
        """Record the trials whose needs ended without a result as failed, and what needs those."""
        for share in self._waiting.values():
            for trial in [t for t in share if t.needs and self._is_ready(t)]:
                missing = [n for n in trial.needs if not self._folder.is_finished(n)]
                if missing:
                    message = f"it needs {', '.join(missing)}, not finished. Rerun the study."
                    self._folder.record_failure(trial.id, Outcome("failed", message))
                    self._open.discard(trial.id)
                    share.remove(trial)
                    self._drop_blocked()
                    return

    def _hand_out(self, trial_id: str, group: str) -> str:
        self._claims[group] = trial_id
        self._since[group] = time.monotonic()
        self._attempts[trial_id] += 1
        self._write()
        return trial_id

    def _write(self) -> None:
        if self._file is not None:
            write_json(self._file, {"claims": self._claims, "attempts": self._attempts})

    def _has_ended(self, trial_id: str) -> bool:
        pause = self._pause_at.get(trial_id)
        if pause is not None and self._folder.paused_at(trial_id) >= pause:
            return True
        outcome = self._folder.outcome(trial_id)
        return outcome.is_final or outcome.failed

    def _record_lost(self, trial_id: str, reason: str) -> None:
        message = f"its workers died ({reason}). Rerun the study, which continues the trial."
        self._folder.record_failure(trial_id, Outcome("lost", message))


def last_line(error: str) -> str:
    """Return the last line of a Ray error, which says what happened."""
    return error.strip().splitlines()[-1] if error.strip() else "no message"
