from __future__ import annotations

import json
import os
import time
from pathlib import Path

import numpy as np
import pytest

from mgmt_ray.base import MgmtError, stream
from mgmt_ray.preprocess.artefact_store import (
    Artefact,
    ArtefactPart,
    artefact_path,
    index_path,
    list_artefacts,
    load_artefact,
    part_checksum,
    read_description,
    read_index,
    write_artefact,
    write_index,
)

KEY = "0123456789abcdef"


def artefact(name: str) -> Artefact:
    random = stream(0, "test artefact", name)
    arrays = {
        "original": random.random((3, 4, 5)).astype(np.float16),
        "mask": random.random((3, 4, 5)) > 0.5,
        "outline": np.zeros(0, np.uint8),
        "depths": np.arange(3),
    }
    return Artefact(arrays, {"depths": [1, 2], "why": "größer", "angle": 0.1})


@pytest.fixture
def part(tmp_path: Path) -> ArtefactPart:
    entries = {}
    for name in ("S1", "S2", "S3"):
        path = artefact_path(tmp_path, "T1", name, KEY)
        write_artefact(path, artefact(name))
        entries[name] = {**artefact(name).description, "file": path.name}
    write_index(tmp_path, "T1", {"recipe": {"shrink": 2}}, entries)
    return ArtefactPart(tmp_path, "T1")


def test_what_is_written_is_read_back(part: ArtefactPart) -> None:
    read, written = part.load("S2"), artefact("S2")
    assert read.description == written.description
    assert list(read.arrays) == list(written.arrays)
    for name, array in written.arrays.items():
        assert read.arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(read.arrays[name], array)
    assert list(part.load("S2", ["mask"]).arrays) == ["mask"]
    assert part.index["recipe"] == {"shrink": 2}
    part.verify()


def test_equal_artefacts_are_equal_files(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_artefact(tmp_path / name, artefact("S1"))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_no_changed_byte_goes_unnoticed(part: ArtefactPart, tmp_path: Path) -> None:
    path = artefact_path(tmp_path, "T1", "S2", KEY)
    whole = path.read_bytes()
    draws = stream(0, "test damage")
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << int(draws.integers(8))
        path.write_bytes(damaged)
        with pytest.raises(MgmtError, match=f"{path.name}: the data of S2 are not what was writt"):
            part.load("S2")
    path.write_bytes(whole[:-1])
    with pytest.raises(MgmtError, match="Delete the file and run `mgmt-ray prepare"):
        part.verify()
    assert read_description(path) is None
    part.load("S1")


def test_only_arrays_that_are_asked_for_are_compared(part: ArtefactPart, tmp_path: Path) -> None:
    path = artefact_path(tmp_path, "T1", "S2", KEY)
    content = path.read_bytes()
    voxels = artefact("S2").arrays["original"].tobytes()
    path.write_bytes(content.replace(voxels, voxels[::-1]))
    part.load("S2", ["mask"])
    with pytest.raises(MgmtError, match="S2"):
        part.load("S2", ["original"])
    with pytest.raises(MgmtError, match="S2"):
        load_artefact(path, "S2")


def test_a_subjects_file_in_the_place_of_anothers_is_noticed(
    part: ArtefactPart, tmp_path: Path
) -> None:
    path = artefact_path(tmp_path, "T1", "S2", KEY)
    other = artefact("S1")
    write_artefact(path, Artefact(other.arrays, {**other.description, "angle": 0.2}))
    with pytest.raises(MgmtError, match="S2"):
        part.load("S2")
    path.unlink()
    with pytest.raises(MgmtError, match="S2"):
        part.load("S2")


def test_missing_subjects_are_named(part: ArtefactPart) -> None:
    with pytest.raises(MgmtError, match=r"no subject S9 among its 3 \(S1, S2, S3\). Run `mgmt-ray"):
        part.load("S9")


def test_an_incomplete_part_cannot_be_read(tmp_path: Path) -> None:
    write_artefact(artefact_path(tmp_path, "T1", "S1", KEY), artefact("S1"))
    with pytest.raises(MgmtError, match=r"T1.json: not prepared yet. Run `mgmt-ray prepare"):
        ArtefactPart(tmp_path, "T1")


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        '{"subjects": []}',
        '{"subjects": {"S1": {}}}',
        '{"subjects": {"S1": {"file": ""}}}',
    ],
)
def test_a_file_that_is_not_an_index_is_reported(
    content: str, part: ArtefactPart, tmp_path: Path
) -> None:
    part.path.write_text(content)
    with pytest.raises(MgmtError, match=r"T1.json: not an index of artefacts .* Delete it and run"):
        ArtefactPart(tmp_path, "T1")


def test_an_unchanged_index_is_parsed_once_and_a_changed_one_again(
    part: ArtefactPart, tmp_path: Path
) -> None:
    state = part.path.stat()
    text = part.path.read_text()
    # in place: the same file, size and time
    part.path.write_text(text.replace('"shrink": 2', '"shrink": 3'))
    os.utime(part.path, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert ArtefactPart(tmp_path, "T1").index["recipe"] == {"shrink": 2}
    write_index(tmp_path, "T1", {"recipe": {"shrink": 4}}, part.subjects)
    assert ArtefactPart(tmp_path, "T1").index["recipe"] == {"shrink": 4}
    assert read_index(tmp_path, "FLAIR") is None


def test_a_parts_checksum_is_made_once_for_an_index(part: ArtefactPart, tmp_path: Path) -> None:
    opened = []

    class Counted(ArtefactPart):
        @property
        def checksum(self) -> str:
            opened.append(self.path)
            return str(self.index["recipe"])

    assert {part_checksum(Counted, tmp_path, "T1") for _ in range(3)} == {str(part.index["recipe"])}
    assert len(opened) == 1
    write_index(tmp_path, "T1", {"recipe": {"shrink": 40}}, part.subjects)
    assert part_checksum(Counted, tmp_path, "T1") == "{'shrink': 40}"
    with pytest.raises(MgmtError, match="not prepared yet"):
        part_checksum(Counted, tmp_path, "T2")


def test_finding_a_subject_does_not_search_the_others(tmp_path: Path) -> None:
    entries = {f"S{number}": {"file": f"S{number}-{KEY}"} for number in range(25_000)}
    index_path(tmp_path, "T1").write_text(json.dumps({"subjects": entries}))
    part = ArtefactPart(tmp_path, "T1")
    started = time.process_time()
    part.check_present(entries)
    # milliseconds; a search of the others takes more than 20 s
    assert time.process_time() - started < 1


def test_files_are_listed_by_subject_and_other_files_are_not(tmp_path: Path) -> None:
    names = {
        "S1": ["S1-0123456789ab.safetensors", "S1-aaaaaaaaaaaa.safetensors"],
        "S1-2": [".S1-2-0123456789ab.nii.gz.0123abcd.aside"],
    }
    for name in (*names["S1"], *names["S1-2"], "notes.txt", "S1-0123456789ab", "S3-xyz.nii.gz"):
        (tmp_path / "T1").mkdir(exist_ok=True)
        (tmp_path / "T1" / name).touch()
    listed = list_artefacts(tmp_path, "T1")
    assert {subject: [path.name for path in paths] for subject, paths in listed.items()} == names
    assert list_artefacts(tmp_path, "FLAIR") == {}
