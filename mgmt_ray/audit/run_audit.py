"""Run all leakage and sanity checks of a study, and write audit.json."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from mgmt_ray.audit.audited_study import AuditContext, Check, NoTrainableNetwork, open_audit
from mgmt_ray.audit.duplicate_check import check_duplicates
from mgmt_ray.audit.property_check import check_properties
from mgmt_ray.audit.result_checks import check_accesses, check_plausible_auc
from mgmt_ray.audit.shortcut_check import check_shortcuts
from mgmt_ray.audit.training_checks import (
    check_permuted_labels,
    check_planted_signal,
    check_test_set_isolation,
)
from mgmt_ray.base import file_checksum, write_json
from mgmt_ray.cluster.progress import log
from mgmt_ray.trials.context import StudyContext

FILE_CHECKS: tuple[Callable[[AuditContext], Check], ...] = (
    check_accesses,
    check_plausible_auc,
    check_duplicates,
    check_shortcuts,
    check_properties,
)
TRAINING_CHECKS: dict[str, Callable[[AuditContext], Check]] = {
    "permuted labels": check_permuted_labels,
    "planted signal": check_planted_signal,
    "test-set isolation": check_test_set_isolation,
}


def run_audit(context: StudyContext, seed: int = 0) -> tuple[Check, ...]:
    """Run every check, print a line each, and write ``audit.json`` in the study's folder.

    The study's own files are not changed. The audit's trainings are in ``audit/``, which may be
    deleted; an interrupted audit continues there.

    Raises:
        MgmtError: the study is not prepared, or a training ended without a result.
    """
    audit = open_audit(context, seed)
    _delete_outdated_work(audit.work_folder)
    checks = []
    for check in FILE_CHECKS:
        checks.append(check(audit))
        log(str(checks[-1]))
    for name, check in TRAINING_CHECKS.items():
        try:
            checks.append(check(audit))
        except NoTrainableNetwork as error:
            checks.append(Check(name, "not done", "a training", str(error)))
        log(str(checks[-1]))
    _write(context, seed, checks)
    return tuple(checks)


def _write(context: StudyContext, seed: int, checks: list[Check]) -> None:
    evaluated = context.folder.evaluated  # audit.json belongs to these results only
    content = {
        "study": context.study.name,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "seed": seed,
        "evaluated": file_checksum(evaluated) if evaluated.is_file() else None,
        "checks": [asdict(check) for check in checks],
    }
    write_json(context.folder.root / "audit.json", content)


def _delete_outdated_work(work: Path) -> None:
    """Delete trainings of another seed, or of a study that has changed since."""
    for folder in work.parent.glob("seed*") if work.parent.is_dir() else ():
        if folder != work:
            shutil.rmtree(folder)
