from __future__ import annotations

import pytest
import yaml

from mgmt_ray.base import MgmtError, parse
from mgmt_ray.cohort.upenn import UpennConfig
from mgmt_ray.data.prepare_stores import describe_torn_tumours
from mgmt_ray.data.scanned_cohort import check_parts_marked, smallest_recipe
from mgmt_ray.preprocess.recipe import RecipeConfig
from mgmt_ray.preprocess.scan_inspection import Inspection
from mgmt_ray.preprocess.spatial import Window


def inspected(
    name: str, box: Window | None, shape: tuple[int, int, int], *labels: int
) -> Inspection:
    return Inspection(name, (), {}, (), "", labels, shape if box else None, box)


def test_the_smallest_recipe_holds_all_tumours_and_can_be_pasted() -> None:
    inspections = [
        inspected("P1", ((10, 25), (30, 61), (40, 50)), (155, 240, 240)),
        inspected("P2", ((140, 155), (20, 22), (41, 60)), (155, 238, 240)),
        inspected("P3", None, (1, 1, 1)),
    ]
    pasted = yaml.safe_load(smallest_recipe(inspections, 2))["recipe"]
    recipe = parse(RecipeConfig, pasted, "test")
    # 145 voxels of depth, and 41 of height, are made even
    assert recipe.window == ((9, 155), (20, 62), (40, 60))
    assert recipe.shape == (73, 21, 10)
    assert smallest_recipe(inspections[2:], 2) == ""
    assert smallest_recipe([inspected("P1", ((0, 5), (0, 4), (0, 4)), (5, 4, 4))], 2) == ""


def test_a_part_that_no_mask_has_is_refused() -> None:
    box: Window = ((1, 2), (1, 2), (1, 2))
    masks = {"P1": inspected("P1", box, (4, 4, 4), 1, 2), "P2": inspected("P2", box, (4, 4, 4), 1)}
    config = UpennConfig(reader="upenn", root=".", modalities=("T1",))
    with pytest.raises(MgmtError, match=r"4 is enhancing, but no mask has it \(they have 1, 2\)"):
        check_parts_marked(masks, config)
    check_parts_marked(masks | {"P3": inspected("P3", box, (4, 4, 4), 4)}, config)


def test_augmentations_that_tear_tumours_are_reported_by_kind() -> None:
    def entry(**voxels: int) -> dict[str, object]:
        return {"versions": {k: ["key", {"tumour_voxels": n}] for k, n in voxels.items()}}

    entries = {
        ("T1", "P1"): entry(original=100, flip=100, rotate=49, deform=51),
        ("T2", "P1"): entry(original=100, flip=100, rotate=49, deform=51),
        ("T1", "P2"): entry(original=100, rotate=100, deform=151),
    }
    rotate, deform = describe_torn_tumours(entries).splitlines()
    assert "rotate changes the tumour of 1 of 2 subjects" in rotate
    assert "P1: 100 voxels became 49" in rotate and "recipe.shape as high as wide" in rotate
    assert "deform changes the tumour of 1 of 2 subjects" in deform
    assert "P2: 100 voxels became 151" in deform and "recipe.deform_sigma_voxels" in deform
    del entries["T1", "P2"]
    assert "deform" not in describe_torn_tumours(entries)
