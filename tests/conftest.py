import locale
import os
from collections.abc import Iterator
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

# One thread per process, before torch is imported: results do not depend on the cores.
os.environ["OMP_NUM_THREADS"] = "1"

import mgmt_ray.cluster  # noqa: F401  sets Ray's token before a test imports Ray

# small studies, shared by the rooms that run trials or use what these leave
pytest_plugins = ["tests.small_cohort", "tests.studies"]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--medicalnet",
        metavar="DIR",
        help="a checkout of the public MedicalNet repository, to compare the networks with",
    )


class _ByFile(LoadScopeScheduling):
    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.split("::")[0]
        starts_ray = "mark.ray" in (self.config.rootpath / file).read_text(encoding="utf-8")
        return "ray" if starts_ray else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    """With `-n 2` a file's tests run in one process, and those of all files that start Ray in one.

    (xdist's own groups, `--dist loadgroup`, do nothing with pytest 9.2.)
    """
    return _ByFile(config, log)


@pytest.fixture(autouse=True)
def own_locale() -> Iterator[None]:
    """ITK's DICOM writer, which tests call directly, sets the process's locale to C."""
    before = locale.setlocale(locale.LC_ALL)
    yield
    locale.setlocale(locale.LC_ALL, before)
