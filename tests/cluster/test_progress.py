from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from mgmt_ray.cluster.progress import show_progress

CODE = """
import sys
from mgmt_ray.cluster.progress import log, show_progress

for number in range(3):
    log(f"line {number}")
with show_progress("work") as progress:
    progress(1, 1)
print("finished", file=sys.stderr)
"""


def test_work_goes_on_where_nobody_reads_its_output() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-c", CODE], stdout=writer, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "finished\n")


def test_a_line_says_how_long_the_rest_takes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mgmt_ray.cluster.progress.LINE_SECONDS", 0.0)
    with show_progress("work") as progress:
        progress(2, 5)  # of an earlier run: how long these took is not known
        progress(3, 5)
        progress(5, 5)
    first, second, last = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"work: 2 of 5 \(\d+ s\)", first)
    assert re.fullmatch(r"work: 3 of 5 \(\d+ s, about \d+ s left\)", second)
    assert re.fullmatch(r"work: 5 of 5 \(\d+ s\)", last)
