from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mgmt_ray.base import MgmtError
from mgmt_ray.cohort.dataset_files import (
    find_nifti,
    list_folder,
    missing_reason,
    newest_table,
    paths_below,
)

NONE = re.compile(r"(?!)")
NOBODY = 65534


@contextmanager
def as_nobody() -> Iterator[None]:
    """Switch from root, who may read everything, to a user who may not."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(user)


def test_a_folder_that_cannot_be_read_is_named() -> None:
    # pytest's own folders are closed to others than their owner
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        root.chmod(0o755)
        (root / "closed").mkdir(mode=0o000)
        with as_nobody(), pytest.raises(MgmtError, match=r"closed: cannot be read.*permission"):
            paths_below(root, "X", "images", NONE)
        (root / "closed").rename(root / "lost+found")
        with as_nobody():
            assert paths_below(root, "X", "images", NONE) == []


def test_a_root_that_cannot_be_looked_at_is_an_error_of_its_reader(tmp_path: Path) -> None:
    with pytest.raises(MgmtError, match=r"cannot be read \(File name too long"):
        paths_below(tmp_path / ("x" * 300), "X", "images", NONE)


def test_a_folder_is_searched_once_whatever_links_lead_to_it(tmp_path: Path) -> None:
    root = tmp_path / "data"
    files = [root / "b" / "c" / "scan", tmp_path / "elsewhere" / "mask"]
    for path in files:
        path.parent.mkdir(parents=True)
        path.touch()
    for link, target in (
        *(("a", "b/c"), ("latest", "."), ("b/up", ".."), ("loop", "loop"), ("lost", "nowhere")),
        *(("out", "../elsewhere"), ("twice", "../elsewhere")),
    ):
        (root / link).symlink_to(target)
    found = [path.relative_to(root).as_posix() for path in paths_below(root, "X", "x", NONE)]
    assert found == ["b", "b/c", "b/c/scan", "loop", "lost", "out", "out/mask"]


@pytest.mark.parametrize("name", ["__MACOSX", "._P1", ".DS_Store", "@eaDir", "$RECYCLE.BIN"])
def test_leftovers_of_archives_and_systems_are_no_part_of_a_data_set(
    tmp_path: Path, name: str
) -> None:
    (tmp_path / name / "P1").mkdir(parents=True)
    (tmp_path / "P1").mkdir()
    assert paths_below(tmp_path, "X", "images", NONE) == [tmp_path / "P1"]
    assert list_folder(tmp_path) == [tmp_path / "P1"]


def test_a_table_is_found_in_any_case_and_once_if_linked(tmp_path: Path) -> None:
    table = tmp_path / "Info_V2.CSV"
    table.touch()
    (tmp_path / "link").mkdir()
    link = tmp_path / "link" / "info_v2.csv"
    link.symlink_to(table)
    assert newest_table(tmp_path, "INFO_*.csv", [table]) == table
    assert newest_table(tmp_path, "info_*.csv", [table, link]) in (table, link)


def test_the_newest_table_is_chosen_by_number_and_must_be_unique(tmp_path: Path) -> None:
    tables = [tmp_path / f"t_v{version}.csv" for version in ("2.9", "2.10", "1")]
    tables.append(tmp_path / "t_.csv")
    assert newest_table(tmp_path, "t_*.csv", tables) == tables[1]
    again = tmp_path / "again" / tables[1].name
    with pytest.raises(MgmtError, match="more than one table"):
        newest_table(tmp_path, "t_*.csv", [*tables, again])


def test_a_file_is_found_packed_or_unpacked_or_as_a_link(tmp_path: Path) -> None:
    packed, unpacked = tmp_path / "a.nii.gz", tmp_path / "a.nii"
    assert find_nifti(packed) is None
    unpacked.touch()
    assert find_nifti(packed) == unpacked
    packed.symlink_to("nowhere")
    assert find_nifti(packed) == packed


def test_absence_has_a_reason_and_a_remedy(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to("file")
    linked, nothing, strange = (
        missing_reason(p) for p in (link, tmp_path / "no", tmp_path / ("x" * 300))
    )
    assert linked and linked[0] == "the link is broken" and "git annex get" in linked[1]
    assert nothing and nothing[0] == "no such file"
    assert strange and "File name too long" in strange[0]
    (tmp_path / "file").touch()
    assert missing_reason(link) is None
