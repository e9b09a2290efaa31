"""The audit of a study: every check in turn, and its file."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from mgmt_ray.audit.audited_study import Audited, Check, NoNetwork, open_audited
from mgmt_ray.audit.duplicate_check import check_twins
from mgmt_ray.audit.result_checks import check_openings, check_plausible_auc
from mgmt_ray.audit.shortcut_check import check_shortcuts
from mgmt_ray.audit.training_checks import (
    check_permuted_labels,
    check_planted_signal,
    check_test_subjects_change_nothing,
)
from mgmt_ray.base import file_checksum, write_json
from mgmt_ray.cluster.progress import say
from mgmt_ray.trials.context import Job

OF_FILES: tuple[Callable[[Audited], Check], ...] = (
    check_openings,
    check_plausible_auc,
    check_twins,
    check_shortcuts,
)
OF_TRAINING: dict[str, Callable[[Audited], Check]] = {
    "permuted labels": check_permuted_labels,
    "planted signal": check_planted_signal,
    "test subjects change nothing": check_test_subjects_change_nothing,
}


def audit(job: Job, seed: int = 0) -> tuple[Check, ...]:
    """Run every check, print a line each, and write ``audit.json`` in the study's folder.

    The study's own files are not changed. The audit's trainings lie in ``audit/``, which may be
    deleted; an interrupted audit continues there. With launcher "ray", Ray must be connected.

    Args:
        job: a study that is at least prepared.
        seed: of the audit's own draws.

    Raises:
        MgmtError: the study is not prepared, or a training ended without a result.
    """
    audited = open_audited(job, seed)
    _forget_other_work(audited.work)
    checks = []
    for look in OF_FILES:
        checks.append(look(audited))
        say(str(checks[-1]))
    for name, train in OF_TRAINING.items():
        try:
            checks.append(train(audited))
        except NoNetwork as error:
            checks.append(Check(name, "not done", "a training", str(error)))
        say(str(checks[-1]))
    _write(job, seed, checks)
    return tuple(checks)


def _write(job: Job, seed: int, checks: list[Check]) -> None:
    evaluated = job.folder.evaluated  # of these results; others are to be audited again
    content = {
        "study": job.study.name,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "seed": seed,
        "evaluated": file_checksum(evaluated) if evaluated.is_file() else None,
        "checks": [asdict(check) for check in checks],
    }
    write_json(job.folder.root / "audit.json", content)


def _forget_other_work(work: Path) -> None:
    """Remove trainings of another seed, or of a study that has changed since."""
    for folder in work.parent.glob("seed*") if work.parent.is_dir() else ():
        if folder != work:
            shutil.rmtree(folder)
