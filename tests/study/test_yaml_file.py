from __future__ import annotations

from pathlib import Path

import pytest

from mgmt_ray.base import MgmtError
from mgmt_ray.study.yaml_file import read_yaml


def write(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    path = folder / "study.yaml"
    path.write_bytes(text.encode(encoding))
    return path


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_file_is_read_in_the_encodings_of_editors(tmp_path: Path, encoding: str) -> None:
    assert read_yaml(write(tmp_path, "a: ü\r\nb: [1]\r\n", encoding)) == {"a": "ü", "b": [1]}


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("a: 1\nb: 2\na: 3\n", "a: is there twice, in lines 1 and 3; keep one."),
        ("a:\n  b:\n    c: 1\n    c: 1\n", "a.b.c: is there twice, in lines 3 and 4"),
        ("a:\n- b: 1\n- c: 1\n  c: 2\n", "a.1.c: is there twice, in lines 3 and 4"),
        ('a: {b: 1, "b": 2}\n', "a.b: is there twice, in lines 1 and 1"),
        ("a: 1\na: 2\nb: {c: 1, c: 2}\n", "; b.c: is there twice"),
        ("x: &x {a: 1}\ny:\n  <<: *x\n  <<: *x\n", "y.<<: is there twice"),
        ("a: {b: 012}\n", "a.b: 012 in line 1 is no decimal number"),
        ("a: [1, -07]\n", "a.1: -07 in line 1 is no decimal number"),
        ("a: 1:30\n", "a: 1:30 in line 1 is no decimal number"),
        ("a: 1:30.5\n", "a: 1:30.5 in line 1 is no decimal number"),
        ("<!DOCTYPE html>\n<html>", "is no YAML but a web page"),
    ],
)
def test_what_would_be_read_otherwise_than_it_looks_is_an_error(
    tmp_path: Path, text: str, fault: str
) -> None:
    with pytest.raises(MgmtError) as caught:
        read_yaml(write(tmp_path, text))
    assert fault in str(caught.value)
    assert str(caught.value).startswith(str(tmp_path / "study.yaml: "))


def test_anchors_merged_keys_and_quoted_ids_are_fine(tmp_path: Path) -> None:
    text = "x: &x {a: 1, b: 2}\ny: {<<: *x, a: 3}\nz: *x\nid: ['012', 0, 10, 0.5, 089]\n"
    assert read_yaml(write(tmp_path, text)) == {
        "x": {"a": 1, "b": 2},
        "y": {"a": 3, "b": 2},
        "z": {"a": 1, "b": 2},
        "id": ["012", 0, 10, 0.5, "089"],
    }


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"a:\n\tb: 1\n", "line 2, column 1: a tab; is not YAML. Indent with spaces."),
        (b"a: [1\nb: 2\n", "line 2, column 2: is not YAML"),
        ("a: ü\n".encode("latin-1"), "is not YAML (unacceptable character #x00fc"),
        (b"a: 1\n---\nb: 2\n", "line 2, column 1: is not YAML"),
        (b"a: *b\n", "line 1, column 4: is not YAML (found undefined alias 'b')"),
    ],
)
def test_a_file_that_is_not_yaml_is_named_with_the_line(
    tmp_path: Path, content: bytes, fault: str
) -> None:
    (tmp_path / "study.yaml").write_bytes(content)
    with pytest.raises(MgmtError) as caught:
        read_yaml(tmp_path / "study.yaml")
    assert fault in str(caught.value) and "\n" not in str(caught.value)
