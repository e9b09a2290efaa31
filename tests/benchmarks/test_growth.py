from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.growth import Axis, exponent, measure
from benchmarks.made_study import TRAININGS_PER_SEED, finished_study
from mgmt_ray.pipeline.stages import train


@pytest.mark.parametrize(
    ("seconds", "power"),
    [
        (lambda n: 3 * n, 1.0),
        (lambda n: 3 * n**2, 2.0),
        (lambda n: 1e4 + n**2, 1.9),  # of the last two sizes: what is constant hides little there
        (lambda n: 5.0, 0.0),
    ],
)
def test_the_exponent_is_the_power_of_growth(seconds: Callable[[int], float], power: float) -> None:
    sizes = [20, 200, 2000]
    assert exponent(sizes, [seconds(n) for n in sizes]) == pytest.approx(power, abs=0.03)


def test_each_size_is_made_in_a_folder_of_its_own_and_timed() -> None:
    made: list[tuple[Path, int]] = []

    def make(folder: Path, size: int) -> dict[str, Callable[[], object]]:
        assert not list(folder.iterdir())
        made.append((folder, size))
        return {"sum": lambda: sum(range(3000 * size))}

    found = measure(Axis(10, make), quick=True)["sum"]
    assert [size for _, size in made] == found["sizes"] == [10, 30, 100]
    assert len({folder for folder, _ in made}) == 3
    assert not any(folder.exists() for folder, _ in made)
    assert float(str(found["exponent"])) == pytest.approx(1, abs=0.5)


def test_a_made_study_has_trainings_that_the_package_takes_for_finished(tmp_path: Path) -> None:
    made = finished_study(tmp_path, 1, 60, 1)
    assert len(made.trials) == TRAININGS_PER_SEED
    train(made.trials, made.inputs)  # raises if one is unfinished or does not fit its files
