from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mgmt_ray.base import MgmtError, file_checksum, write_json
from mgmt_ray.report.study_results import is_before, read_study_results, read_time


@pytest.fixture(scope="module")
def tiny(make_study: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("tiny") / "out"
    return make_study(out, modalities=("T1", "PH"), networks=("spottune",), num_epochs=3)


def test_a_finished_study_is_read_whole(tiny: Path) -> None:
    results = read_study_results(tiny)
    assert (results.name, results.seed) == ("fake-study", 42)
    assert results.inputs == ("PH", "T1")
    assert results.networks == ("spottune",)
    assert results.groups == {"DSC": ("PH",), "Struct": ("T1",), "DSC+Struct": ("PH", "T1")}
    assert len(results.trials) == len(results.members) == 10
    assert len(results.epochs) == 30
    assert results.planted is None
    assert results.provenance == {}
    assert len(results.openings) == 1


@pytest.mark.parametrize(
    ("lost", "command"),
    [
        ("study.yaml", "mgmt-ray cohort"),
        ("cohort.csv", "mgmt-ray cohort"),
        ("splits.json", "mgmt-ray plan"),
        ("ensembles/members.csv", "mgmt-ray ensemble"),
        ("ensembles/metrics.csv", "mgmt-ray ensemble"),
        ("trials", "mgmt-ray run"),
    ],
)
def test_a_missing_stage_names_its_file_and_its_command(
    tiny: Path, tmp_path: Path, lost: str, command: str
) -> None:
    out = tmp_path / "out"
    shutil.copytree(tiny, out)
    target = out / lost
    shutil.rmtree(target) if target.is_dir() else target.unlink()
    with pytest.raises(MgmtError) as error:
        read_study_results(out)
    assert str(target) in str(error.value)
    assert f"Run `{command} STUDY --out {out}` first" in str(error.value)


def test_tables_that_were_changed_are_not_reported(tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(tiny, out)
    tables = {p.name: file_checksum(p) for p in (out / "ensembles").glob("*.csv")}
    write_json(out / "ensembles" / "evaluated.json", {"tables": tables})
    read_study_results(out)
    for name in ("predictions.csv", "variance.csv"):
        path = out / "ensembles" / name
        whole = path.read_text()
        path.write_text("".join(whole.splitlines(keepends=True)[:-5]))
        with pytest.raises(MgmtError, match=f"{name}: is missing or was changed"):
            read_study_results(out)
        path.write_text(whole)


def test_a_trial_of_another_split_is_refused(tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(tiny, out)
    path = next((out / "trials").glob("*/trial.json"))
    path.write_text(
        json.dumps(json.loads(path.read_text(encoding="utf-8")) | {"split_hash": "0" * 64})
    )
    with pytest.raises(MgmtError, match="trained with another split"):
        read_study_results(out)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("study.yaml", "name: [", "is not YAML"),
        ("study.yaml", "just words", "is not a study"),
        ("planted.json", "{", "is not JSON"),
    ],
)
def test_a_broken_file_is_named(
    tiny: Path, tmp_path: Path, name: str, text: str, message: str
) -> None:
    out = tmp_path / "out"
    shutil.copytree(tiny, out)
    (out / name).write_text(text)
    with pytest.raises(MgmtError, match=message):
        read_study_results(out)


def test_an_external_cohort_that_was_not_predicted_names_the_command(
    nested_study: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(nested_study, out)
    results = read_study_results(out)
    assert [split.outer_fold for split in results.splits] == [0, 1]
    assert set(results.external["elsewhere"].predictions["ensemble"]) == {"Struct", "T1", "T1GD"}
    lost = out / "external" / "elsewhere" / "ensembles" / "metrics.csv"
    lost.unlink()
    with pytest.raises(MgmtError, match=r"external.*not there yet\. Run `mgmt-ray ensemble STUDY"):
        read_study_results(out)


NINE = datetime(2024, 11, 21, 9, tzinfo=UTC)


@pytest.mark.parametrize(
    ("time", "read"),
    [
        ("2024-11-21T09:00:00+00:00", NINE),
        ("2024-11-21T10:00:00+01:00", NINE),
        ("2024-11-21T09:00:00", NINE),
        ("then", None),
        (None, None),
    ],
)
def test_a_time_is_read_or_not_known(time: str | None, read: datetime | None) -> None:
    assert read_time({"time": time}) == read


def test_what_is_not_known_is_before_nothing() -> None:
    assert is_before(NINE, NINE.replace(hour=10))
    assert not is_before(NINE, NINE)
    assert not is_before(None, NINE) and not is_before(NINE, None)
