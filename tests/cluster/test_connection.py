from __future__ import annotations

import subprocess
import sys

import pytest

from mgmt_ray.cluster.connection import _socket_folder

WORKED = [("a", "a/c"), ("b", "b/c")]
CODE = """
import sys
from posixpath import join  # a function that Ray can import
from mgmt_ray.cluster.connection import connect_ray
from mgmt_ray.cluster import parallel_map as module
from mgmt_ray.cluster.parallel_map import parallel_map
from mgmt_ray.cluster.resources import Resources

with connect_ray("local", cpus=1):
    assert list(parallel_map(join, [], "b", Resources())) == []
    assert list(parallel_map(join, ["a", "b"], "c", Resources())) == [("a", "a/c"), ("b", "b/c")]
    print("ray" in sys.modules)
    module.START_SECONDS = -1.0
    done = list(parallel_map(join, ["a", "b"], "c", Resources()))
    print(done, sys.modules["ray"].is_initialized())
print(sys.modules["ray"].is_initialized())
"""


@pytest.mark.ray
def test_ray_starts_with_work_that_is_worth_it_and_ends_with_the_block() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-3:] == ["False", f"{WORKED} True", "False"]


def test_sockets_of_ray_get_a_short_folder_where_the_temporary_one_is_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    for folder, expected in (("/tmp/job", None), (f"/scratch/{'x' * 60}", "/tmp/ray")):
        monkeypatch.setenv("TMPDIR", folder)
        assert _socket_folder() == expected
