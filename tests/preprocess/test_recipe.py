from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from mgmt_ray.preprocess.recipe import RecipeConfig, version_key, versions


def changed_keys(**change: Any) -> set[str]:
    """The versions of T1 that are made again when one field of the paper's recipe changes."""
    old, new = RecipeConfig(), RecipeConfig(**change)
    return {
        version
        for version in versions(old)
        if version_key(old, version, "T1") != version_key(new, version, "T1")
    }


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"noise_std": 0.2}, {"noise"}),
        ({"deform_sigma_voxels": 2.0}, {"deform"}),
        ({"deform_points": 4}, {"deform"}),
        ({"seed": 1}, {"rotate", "noise", "deform"}),
        ({"rounds": 2}, set()),
        ({"allow_clipping": True}, set()),
        ({"window": ((0, 140), (38, 210), (44, 208))}, set(versions(RecipeConfig()))),
        ({"shape": (72, 86, 86)}, set(versions(RecipeConfig()))),
        ({"shrink": 4}, set(versions(RecipeConfig()))),
    ],
)
def test_a_changed_field_concerns_only_the_versions_that_depend_on_it(
    change: dict[str, Any], expected: set[str]
) -> None:
    assert changed_keys(**change) == expected


def test_only_noise_depends_on_the_modality() -> None:
    recipe = RecipeConfig()
    assert {
        version
        for version in versions(recipe)
        if version_key(recipe, version, "T1") != version_key(recipe, version, "T2")
    } == {"noise"}


def test_rounds_add_four_versions_each_with_draws_of_their_own() -> None:
    assert versions(RecipeConfig(rounds=0)) == ("original",)
    assert versions(RecipeConfig()) == ("original", "flip", "rotate", "noise", "deform")
    recipe = RecipeConfig(rounds=3)
    names = versions(recipe)
    assert len(names) == len(set(names)) == 13
    assert names[5:9] == ("flip-2", "rotate-2", "noise-2", "deform-2")
    assert version_key(recipe, "rotate", "T1") != version_key(recipe, "rotate-2", "T1")
    assert version_key(recipe, "flip", "T1") == version_key(recipe, "flip-2", "T1")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"window": ((0, 140), (39, 210), (44, 208))}, "171 voxels along height"),
        ({"window": ((0, 140), (39, 211), (208, 44))}, "along width is 208:44"),
        ({"window": ((-2, 138), (39, 211), (44, 208))}, "along depth is -2:138"),
        ({"shape": (70, 80, 86)}, "along height keeps 86 voxels"),
        ({"windows": ()}, "windows"),
    ],
)
def test_inconsistent_recipes_are_refused_with_the_reason(
    change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        RecipeConfig(**change)


@pytest.mark.parametrize(
    ("shape", "sigma"),
    [((70, 86, 86), 5.0), ((140, 172, 172), 10.0), ((18, 22, 22), 5 * 22 / 86), ((7, 86, 86), 0.5)],
)
def test_the_papers_deformation_is_scaled_with_the_volume_unless_it_is_given(
    shape: tuple[int, int, int], sigma: float
) -> None:
    window = tuple((0, 2 * side) for side in shape)
    recipe = RecipeConfig.model_validate({"window": window, "shape": shape})
    assert recipe.deform_sigma_voxels == pytest.approx(sigma)
    assert RecipeConfig.model_validate(recipe.model_dump(mode="json")) == recipe
    given = {"window": window, "shape": shape, "deform_sigma_voxels": 2}
    assert RecipeConfig.model_validate(given).deform_sigma_voxels == 2
