from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from mgmt_ray.report.html import render_page
from mgmt_ray.report.section import NARROW, Picture, Section


@pytest.mark.parametrize(("width", "is_narrow"), [(510, True), (NARROW, False), (1530, False)])
def test_a_single_panel_is_not_made_wider_than_its_pixels(
    tmp_path: Path, width: int, is_narrow: bool
) -> None:
    path = tmp_path / "roc.png"
    Image.new("RGB", (width, 600)).save(path)
    content = {"figures": [Picture(path, "ROC", "curves")], "best": {}, "of_paper": True}
    assert ('class="narrow"' in render_page("x", [Section("curves", "Curves", content)])) is (
        is_narrow
    )
