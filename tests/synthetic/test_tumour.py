from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from mgmt_ray.base import stream
from mgmt_ray.synthetic.anatomy import PAPER_WINDOW, UPENN_GRID, Anatomy, phantom
from mgmt_ray.synthetic.tumour import EDEMA, ENHANCING, NECROSIS, grow_tumour


def labels_on_grid(anatomy: Anatomy, seed: int) -> np.ndarray:
    tumour = grow_tumour(anatomy, stream(seed, "tumour"))
    labels = np.zeros(anatomy.grid, np.uint8)
    labels[anatomy.box][tumour.box] = tumour.labels
    return labels


def brain_on_grid(anatomy: Anatomy) -> np.ndarray:
    brain = np.zeros(anatomy.grid, bool)
    brain[anatomy.box] = anatomy.brain
    return brain


@pytest.mark.parametrize("grid", [(16, 16, 16), (20, 24, 24), (44, 52, 52)])
def test_every_tumour_has_three_compartments_inside_the_brain(grid: tuple[int, int, int]) -> None:
    anatomy = phantom(grid, stream(0, "phantom"))
    brain = brain_on_grid(anatomy)
    inner = np.zeros(grid, bool)
    inner[2:-2, 2:-2, 2:-2] = True
    for seed in range(60):
        labels = labels_on_grid(anatomy, seed)
        assert set(np.unique(labels)) == {0, NECROSIS, EDEMA, ENHANCING}
        assert not (labels[~(brain & inner)]).any()


def test_necrosis_lies_in_the_enhancing_rim_and_edema_around_both() -> None:
    anatomy = phantom((44, 52, 52), stream(0, "phantom"))
    room = np.zeros(anatomy.grid, bool)
    room[anatomy.box] = anatomy.clearance_mm > 0
    for seed in range(20):
        labels = labels_on_grid(anatomy, seed)
        around_necrosis = ndimage.binary_dilation(labels == NECROSIS) & (labels != NECROSIS)
        assert (labels[around_necrosis] == ENHANCING).all()
        core = np.isin(labels, (NECROSIS, ENHANCING))
        around_core = ndimage.binary_dilation(core) & ~core & room
        assert (labels[around_core] == EDEMA).all()


def test_at_the_public_grid_tumours_fit_the_papers_window_and_vary_as_real_ones_do() -> None:
    anatomy = phantom(UPENN_GRID, stream(0, "phantom"))
    window = tuple(slice(*bounds) for bounds in PAPER_WINDOW)
    core_ml, whole_ml = [], []
    for seed in range(12):
        labels = labels_on_grid(anatomy, seed)
        assert np.count_nonzero(labels) == np.count_nonzero(labels[window])
        core_ml.append(np.isin(labels, (NECROSIS, ENHANCING)).sum() / 1000)
        whole_ml.append((labels > 0).sum() / 1000)
    # A ball of 8 mm has 2 ml and one of 25 mm 65 ml; shapes are irregular by a factor of 2.
    assert min(core_ml) > 1
    assert max(core_ml) < 130
    assert max(core_ml) > 4 * min(core_ml)
    assert 15 < np.median(whole_ml) < 200


def test_tumours_differ_in_place_and_repeat_by_seed() -> None:
    anatomy = phantom((44, 52, 52), stream(0, "phantom"))
    centres = [ndimage.center_of_mass(labels_on_grid(anatomy, seed) > 0) for seed in range(10)]
    assert np.ptp(np.array(centres), axis=0).min() > 4
    np.testing.assert_array_equal(labels_on_grid(anatomy, 3), labels_on_grid(anatomy, 3))
