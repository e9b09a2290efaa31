import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mgmt_ray.base import (
    CannotWrite,
    Config,
    MgmtError,
    expand_path,
    fingerprint,
    first_line,
    local_path,
    parse,
    stream,
    stream_seed,
    write_text,
)


def test_streams_of_different_names_differ() -> None:
    seeds = {stream_seed(0, "a", 1), stream_seed(0, "a1"), stream_seed(1, "a", 1), stream_seed(0)}
    assert len(seeds) == 4
    assert all(0 <= seed < 2**63 for seed in seeds)
    draws = [stream(0, "noise", "x").random(4) for _ in range(2)]
    assert np.array_equal(*draws)


def test_streams_do_not_depend_on_the_process() -> None:
    code = "from mgmt_ray.base import stream_seed; print(stream_seed(7, 'trial', 3))"
    printed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert int(printed) == stream_seed(7, "trial", 3)


def test_a_list_that_is_too_short_is_reported_by_its_position() -> None:
    class Box(Config):
        window: tuple[tuple[int, int], tuple[int, int]]

    with pytest.raises(MgmtError, match=r"study\.yaml: window\.1: Field required"):
        parse(Box, {"window": [[1, 2]]}, "study.yaml")


def test_fingerprints_follow_values_and_not_the_order_of_keys() -> None:
    assert fingerprint({"a": 1, "b": [1, 2]}) == fingerprint({"b": [1, 2], "a": 1})
    assert fingerprint({"a": 1}) != fingerprint({"a": 1.5})


def test_an_interrupted_write_leaves_the_earlier_file(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    write_text(path, "first")
    code = (
        "import resource, sys, pathlib, signal\n"
        "from mgmt_ray.base import write_text, MgmtError\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try:\n    write_text(pathlib.Path(sys.argv[1]), 'x' * 5000)\n"
        "except MgmtError as error:\n    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True
    )
    assert "cannot be written" in done.stdout and "Free some space" in done.stdout
    assert path.read_text(encoding="utf-8") == "first"
    assert [p.name for p in tmp_path.iterdir()] == ["table.csv"]


def test_a_folder_that_cannot_be_written_raises_a_one_line_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CannotWrite, match=r"table.csv: cannot be written"):
        write_text(tmp_path / "file" / "table.csv", "text")


def error_classes(error: type[MgmtError]) -> list[type[MgmtError]]:
    return [error, *(cls for below in error.__subclasses__() for cls in error_classes(below))]


def test_every_error_comes_back_whole_from_another_process() -> None:
    from mgmt_ray.cohort.problem import BadScan

    errors = [BadScan(Path("scan.nii.gz"), "empty_file", "the file is empty", "Copy it again")]
    errors += [cls.__new__(cls) for cls in error_classes(MgmtError)]
    for error in errors:
        error.args = error.args or ("message",)
        again = pickle.loads(pickle.dumps(error))
        assert type(again) is type(error)
        assert str(again) == str(error)


def test_an_error_without_a_message_is_named_by_its_class() -> None:
    assert first_line(EOFError()) == "EOFError"
    assert first_line(ValueError("one\ntwo")) == "one"


def test_paths_are_read_as_people_write_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/anna")
    monkeypatch.setenv("STUDIES", "/mnt/studies")
    for text, path in {
        "data/f.nii": tmp_path / "data" / "f.nii",
        r"data\P1\f.nii": tmp_path / "data" / "P1" / "f.nii",
        "data ": tmp_path / "data",
        "~/data": Path("/home/anna/data"),
        r"~\data": Path("/home/anna/data"),
        "$STUDIES/a": Path("/mnt/studies/a"),
        "${HOME}/a": Path("/home/anna/a"),
        "$NOT_SET/a": tmp_path / "$NOT_SET" / "a",
        "~nobody-of-this-name/a": tmp_path / "~nobody-of-this-name" / "a",
    }.items():
        assert expand_path(text, tmp_path) == path, text
    (tmp_path / r"a\b ").touch()
    assert expand_path(r"a\b ", tmp_path) == tmp_path / r"a\b "


def test_an_address_is_no_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/someone")
    for text, path in (("~/a", "/home/someone/a"), ("a%b?c#d", tmp_path / "a%b?c#d")):
        assert local_path(Path(text), "--out") == Path(path)
    assert local_path(Path("a:b/c"), "--out") == tmp_path / "a:b" / "c"
    for text in ("s3://bucket/study", "file:///data", "gs://b", "hdfs:/data"):
        with pytest.raises(MgmtError, match=r"^--out \w+:/.*: is an address, not a folder"):
            local_path(Path(text), "--out")
