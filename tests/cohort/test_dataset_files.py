from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mgmt_ray.base import MgmtError
from mgmt_ray.cohort.dataset_files import find_nifti, missing_reason, newest_table, paths_below

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
        with as_nobody(), pytest.raises(MgmtError, match=r"closed: cannot be read.*cohort\.root"):
            paths_below(root, "X", "images", NONE)
        (root / "closed").rename(root / "lost+found")
        with as_nobody():
            assert paths_below(root, "X", "images", NONE) == [root / "lost+found"]


def test_a_root_that_cannot_be_looked_at_is_an_error_of_its_reader(tmp_path: Path) -> None:
    with pytest.raises(MgmtError, match=r"cannot be read \(File name too long"):
        paths_below(tmp_path / ("x" * 300), "X", "images", NONE)


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
