import ast
import locale
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

# One thread per process, before torch is imported: results do not depend on the cores.
os.environ["OMP_NUM_THREADS"] = "1"

import mgmt_ray.cluster  # noqa: F401  sets Ray's token before a test imports Ray

# small studies, shared by the rooms that run trials or use what these leave
pytest_plugins = ["tests.made_once", "tests.small_cohort", "tests.studies"]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--medicalnet",
        metavar="DIR",
        help="a checkout of the public MedicalNet repository, to compare the networks with",
    )


class _ByFile(LoadScopeScheduling):
    """A file's tests run in one process, and all that share the session's Ray in one."""

    def __init__(self, config: pytest.Config, log: Any = None) -> None:
        super().__init__(config, log)
        config.option.loadscopereorder = False  # the order of collection, which is ours, counts

    def _split_scope(self, nodeid: str) -> str:
        file, _, test = nodeid.partition("::")
        shared = _tests_with_shared_ray(self.config.rootpath / file)
        return "ray" if test.partition("[")[0] in shared else file


@cache
def _tests_with_shared_ray(file: Path) -> frozenset[str]:
    """Names of a file's tests that use the fixture ``local_ray``."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return frozenset(
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef)
        and any("local_ray" in ast.unparse(decorator) for decorator in node.decorator_list)
    )


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    """In parallel neither Ray nor a file's fixtures are started in several processes.

    (xdist's own groups, `--dist loadgroup`, do nothing with pytest 9.2.)
    """
    return _ByFile(config, log)


LONG_ROOMS = ("golden", "pipeline", "audit", "prediction", "masks", "trials", "baselines")
"""Folders of tests that run whole studies."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """No process waits for another at the end: what takes long begins first."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return

    def rank(item: pytest.Item) -> int:
        if "ray" in item.keywords:
            return 0
        return 1 if item.path.parent.name in LONG_ROOMS else 2

    items.sort(key=rank)


@pytest.fixture(autouse=True)
def own_locale() -> Iterator[None]:
    """ITK's DICOM writer, which tests call directly, sets the process's locale to C."""
    before = locale.setlocale(locale.LC_ALL)
    yield
    locale.setlocale(locale.LC_ALL, before)
