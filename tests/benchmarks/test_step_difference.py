"""The comparison of a step of ours with a plain one sees what is wrong with either."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.plain_step import PlainTraining, VolumeFiles
from benchmarks.step import Options, make_plain, resolve
from benchmarks.step_difference import step_differences
from benchmarks.volumes import random_volumes, resident


def other_dilation(plain: PlainTraining) -> None:
    plain.network.tuned[13].convolutions[1].dilation = (2, 2, 2)
    plain.network.tuned[13].convolutions[1].padding = (2, 2, 2)


def frozen_statistics(plain: PlainTraining) -> None:
    plain.network.tuned[8].eval()


def other_temperature(plain: PlainTraining) -> None:
    plain.temperature = 50.0


@pytest.mark.parametrize("change", [other_dilation, frozen_statistics, other_temperature])
def test_another_computation_shows_in_the_gradients(
    change: Callable[[PlainTraining], None], tmp_path: Path
) -> None:
    case = resolve(Options(device="cpu", width=4, shape=(20, 20, 20), batch=4, precision="fp32"))
    volumes, labels = random_volumes(4, case.shape)
    files = VolumeFiles(tmp_path, volumes, labels)

    def changed() -> PlainTraining:
        plain = make_plain(case, files)
        change(plain)
        return plain

    found = step_differences(case, changed, resident(volumes, labels, "cpu"))
    # the claim of tests/benchmarks/test_benchmarks.py is 1e-4
    assert found["fp32"]["gradient"] > 0.01


def test_another_learning_rate_shows_in_the_change(tmp_path: Path) -> None:
    case = resolve(Options(device="cpu", width=4, shape=(20, 20, 20), batch=4, precision="fp32"))
    volumes, labels = random_volumes(4, case.shape)

    def changed() -> PlainTraining:
        plain = make_plain(case, VolumeFiles(tmp_path, volumes, labels))
        plain.optimizers[1].param_groups[0]["lr"] *= 2
        return plain

    found = step_differences(case, changed, resident(volumes, labels, "cpu"))["fp32"]
    assert found["change_norm"] > 0.1 > 1e-4 > found["gradient"]
