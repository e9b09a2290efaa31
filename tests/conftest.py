import locale
import os
from collections.abc import Iterator

import pytest

# One thread per process, before torch is imported: results do not depend on the cores.
os.environ["OMP_NUM_THREADS"] = "1"

import mgmt_ray.orchestration  # noqa: F401  sets Ray's token before a test imports Ray


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--medicalnet",
        metavar="DIR",
        help="a checkout of the public MedicalNet repository, to compare the networks with",
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """With `-n 2 --dist loadgroup` a file stays in one process, and all that start Ray in one."""
    with_ray = {item.path for item in items if item.get_closest_marker("ray")}
    for item in items:
        group = "ray" if item.path in with_ray else str(item.path)
        item.add_marker(pytest.mark.xdist_group(group))


@pytest.fixture(autouse=True)
def own_locale() -> Iterator[None]:
    """ITK's DICOM writer, which tests call directly, sets the process's locale to C."""
    before = locale.setlocale(locale.LC_ALL)
    yield
    locale.setlocale(locale.LC_ALL, before)
