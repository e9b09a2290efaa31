from __future__ import annotations

import subprocess
import sys

import pytest

from mgmt_ray.cluster.connection import _socket_folder

CODE = """
import sys
from posixpath import join  # a function that Ray can import
from mgmt_ray.cluster.connection import connect_ray
from mgmt_ray.cluster.parallel_map import parallel_map
from mgmt_ray.cluster.resources import Resources

with connect_ray("local", cpus=1):
    assert list(parallel_map(join, [], "b", Resources())) == []
    print("ray" in sys.modules)
    print(list(parallel_map(join, ["a"], "b", Resources())), sys.modules["ray"].is_initialized())
print(sys.modules["ray"].is_initialized())
"""


@pytest.mark.ray
def test_ray_starts_with_the_first_item_of_work_and_ends_with_the_block() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-3:] == ["False", "[('a', 'a/b')] True", "False"]


def test_sockets_of_ray_get_a_short_folder_where_the_temporary_one_is_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    for folder, expected in (("/tmp/job", None), (f"/scratch/{'x' * 60}", "/tmp/ray")):
        monkeypatch.setenv("TMPDIR", folder)
        assert _socket_folder() == expected
