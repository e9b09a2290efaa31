from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import peers
from benchmarks.peer_tasks import TASKS
from benchmarks.peers import COMPARISONS, ENVIRONMENTS, Comparison, Options, compare, main


def test_a_comparison_takes_turns_and_tells_ratio_and_difference(tmp_path: Path) -> None:
    comparison = COMPARISONS["scipy_bootstrap"](Options(), tmp_path)
    comparison = replace(comparison, given={**comparison.given, "resamples": 20})
    found = compare(comparison, Path(sys.executable), tmp_path, rounds=1)
    assert float(str(found["ratio"])) > 0
    # an AUC's interval is some .3 wide, and 20 resamples tell its ends to a part of that
    assert 0 < float(str(found["difference"])) < 0.15


def test_what_cannot_be_installed_or_fails_is_skipped_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def failing(_options: Options, _folder: Path) -> Comparison:
        return Comparison("no_task", "there", {}, dict, None, 1)

    def missing(_options: Options, _folder: Path) -> Comparison:
        return Comparison("scipy_bootstrap", "absent", {}, dict, None, 1)

    monkeypatch.setattr(peers, "COMPARISONS", {"failing": failing, "missing": missing})
    monkeypatch.setattr(peers, "ENVIRONMENTS", {"absent": ()})
    (tmp_path / "there" / "bin").mkdir(parents=True)
    (tmp_path / "there" / "bin" / "python").symlink_to(sys.executable)
    (tmp_path / "there" / "installed").touch()
    (tmp_path / "absent").touch()  # a file where the environment would be
    main(Options(environments=tmp_path))
    skipped = json.loads(capsys.readouterr().out.splitlines()[-1])["skipped"]
    assert "absent cannot be installed (" in skipped["missing"]
    assert "no_task failed (" in skipped["failing"]


@pytest.mark.parametrize("name", ["sklearn_bootstrap", "scipy_bootstrap", "monai_overlap"])
def test_a_comparison_has_an_environment_and_a_task(name: str, tmp_path: Path) -> None:
    comparison = COMPARISONS[name](Options(grid=(12, 12, 12)), tmp_path)
    assert comparison.environment in ENVIRONMENTS
    assert comparison.task in TASKS
