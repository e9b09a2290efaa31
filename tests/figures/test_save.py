from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.image import imread

from mgmt_ray.figures import style
from mgmt_ray.figures.save import delete_other_figures, save_compact_figure, save_figure


def test_a_saved_figure_has_150_dots_per_inch_and_equal_bytes_each_time(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        figure, _ = style.panels(2, columns=2, width=2.0, height=1.0)
        save_figure(figure, tmp_path / "figures" / name)
    first, second = (tmp_path / "figures" / name for name in ("a.png", "b.png"))
    assert imread(first).shape[:2] == (150, 600)
    assert first.read_bytes() == second.read_bytes()


def test_an_svg_lies_beside_each_png_with_equal_bytes_each_time(tmp_path: Path) -> None:
    for name in "ab":
        figure, (axes,) = style.panels(1, columns=1, width=3.0, height=2.0)
        axes.plot([0, 1], label="one")
        style.legend(axes, "legend")
        save_figure(figure, tmp_path / f"{name}.png")
    first, second = ((tmp_path / f"{name}.svg").read_text(encoding="utf-8") for name in "ab")
    assert first == second
    assert first.startswith("<?xml")
    assert "dc:date" not in first


def test_deleting_a_figure_deletes_its_svg(tmp_path: Path) -> None:
    for name in ("kept", "old"):
        figure, _ = style.panels(1, columns=1, width=1.0, height=1.0)
        save_compact_figure(figure, tmp_path / f"f_{name}.png")
    delete_other_figures(tmp_path, "f_*.png", {tmp_path / "f_kept.png"})
    assert {path.name for path in tmp_path.iterdir()} == {"f_kept.png", "f_kept.svg"}


def test_a_compact_figure_keeps_its_colours_and_has_equal_bytes_each_time(tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "whole.png"):
        figure, (axes,) = style.panels(1, columns=1, width=4.0, height=3.0)
        axes.imshow(np.linspace(0, 1, 40_000).reshape(200, 200), cmap="gray")
        for number, colour in enumerate(style.LABEL_COLOURS.values()):
            axes.axhspan(50 * number, 50 * number + 20, color=colour)
        save = save_figure if name == "whole.png" else save_compact_figure
        save(figure, tmp_path / name)
    first, second, whole = (tmp_path / name for name in ("a.png", "b.png", "whole.png"))
    assert first.read_bytes() == second.read_bytes()
    assert first.stat().st_size < whole.stat().st_size / 2
    few, many = imread(first)[..., :3], imread(whole)[..., :3]
    assert few.shape == many.shape
    assert len(np.unique(few.reshape(-1, 3), axis=0)) <= 64
    # measured: 14 of 255 levels at worst, where the octree has joined two steps of grey
    assert np.abs(few - many).max() < 1 / 16 + 1 / 255
