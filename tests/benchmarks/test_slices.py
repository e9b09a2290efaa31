"""The comparison of slices with a plain implementation sees what is wrong with either."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.our_step import OurTraining
from benchmarks.plain_slices import PlainTraining, ScanFiles
from benchmarks.scans import make_scans, training_rows
from benchmarks.slices import Options, input_difference, make_network, step_difference
from mgmt_ray.training.training_config import SegmentationTraining

OPTIONS = Options(device="cpu", width=8, shape=(32, 32), slices=6, batch=4, rounds=1)


@pytest.fixture
def both(tmp_path: Path) -> tuple[OurTraining, PlainTraining]:
    scans, masks = make_scans(OPTIONS.slices, OPTIONS.shape)
    files = ScanFiles(tmp_path, scans, masks)
    config = SegmentationTraining(batch_size=OPTIONS.batch)
    ours = OurTraining(make_network(OPTIONS), config, training_rows(scans, masks, "cpu"))
    return ours, PlainTraining(make_network(OPTIONS), files, OPTIONS.batch, 1e-4, "cpu")


def test_a_step_and_what_it_sees_are_those_of_the_plain_loop(
    both: tuple[OurTraining, PlainTraining],
) -> None:
    ours, plain = both
    # float32 gradients through 40 layers, as one vector: 3e-7 is seen
    assert step_difference(OPTIONS, ours, plain) < 1e-5
    slices = plain.loader.dataset
    # half a step of float16 below 8, which no z-score of these scans reaches
    assert input_difference(slices, ours.data) <= 2**-9
    for row in range(len(slices)):
        np.testing.assert_array_equal(slices[row][1], ours.data.labels[row])


def test_another_computation_shows_in_the_gradients(
    both: tuple[OurTraining, PlainTraining],
) -> None:
    ours, plain = both
    plain.network.encoder.stages[1][0].norm2.eps = 1e-2
    assert step_difference(OPTIONS, ours, plain) > 1e-3


def test_another_rotation_shows_in_what_is_seen(both: tuple[OurTraining, PlainTraining]) -> None:
    ours, plain = both
    slices = plain.loader.dataset
    slices.items = [(number, -angle, depth) for number, angle, depth in slices.items]
    assert input_difference(slices, ours.data) > 0.1
