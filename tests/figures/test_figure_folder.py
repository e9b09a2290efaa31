from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.image import imread

from mgmt_ray.figures import style
from mgmt_ray.figures.figure_folder import FigureFolder


def small_figure() -> Figure:
    figure, (axes,) = style.panels(1, columns=1, width=3.0, height=2.0)
    axes.plot([0, 1], label="one")
    style.legend(axes, "legend")
    return figure


def test_a_saved_figure_has_150_dots_per_inch_and_equal_bytes_each_time(tmp_path: Path) -> None:
    figures = FigureFolder(tmp_path / "figures")
    first, second = (figures.save(small_figure(), name) for name in "ab")
    assert imread(first).shape[:2] == (300, 450)
    assert first.read_bytes() == second.read_bytes()
    assert {*figures.path.iterdir()} == {first, second}


def test_an_svg_is_written_where_it_is_asked_for_with_equal_bytes_each_time(tmp_path: Path) -> None:
    for name in "ab":
        FigureFolder(tmp_path, svg=True).save(small_figure(), name)
    first, second = ((tmp_path / f"{name}.svg").read_text(encoding="utf-8") for name in "ab")
    assert first == second
    assert first.startswith("<?xml")
    assert "dc:date" not in first


def test_no_svg_of_an_earlier_figure_is_left_beside_a_new_png(tmp_path: Path) -> None:
    FigureFolder(tmp_path, svg=True).save(small_figure(), "a")
    FigureFolder(tmp_path).save(small_figure(), "a")
    assert {path.name for path in tmp_path.iterdir()} == {"a.png"}


def test_deleting_a_figure_deletes_its_svg(tmp_path: Path) -> None:
    figures = FigureFolder(tmp_path, svg=True)
    for name in ("f_kept", "f_old", "other"):
        figures.save(small_figure(), name)
    figures.delete_others("f_*.png", {tmp_path / "f_kept.png"})
    kept = ("f_kept", "other")
    assert {path.name for path in tmp_path.iterdir()} == {
        f"{name}{suffix}" for name in kept for suffix in (".png", ".svg")
    }


def test_a_compact_figure_keeps_its_colours_and_has_equal_bytes_each_time(tmp_path: Path) -> None:
    paths = []
    for name in ("a", "b", "whole"):
        figure, (axes,) = style.panels(1, columns=1, width=4.0, height=3.0)
        axes.imshow(np.linspace(0, 1, 40_000).reshape(200, 200), cmap="gray")
        for number, colour in enumerate(style.LABEL_COLOURS.values()):
            axes.axhspan(50 * number, 50 * number + 20, color=colour)
        paths.append(FigureFolder(tmp_path).save(figure, name, compact=name != "whole"))
    first, second, whole = paths
    assert first.read_bytes() == second.read_bytes()
    assert first.stat().st_size < whole.stat().st_size / 2
    few, many = imread(first)[..., :3], imread(whole)[..., :3]
    assert few.shape == many.shape
    assert len(np.unique(few.reshape(-1, 3), axis=0)) <= 64
    # measured: 14 of 255 levels at worst, where the octree has joined two steps of grey
    assert np.abs(few - many).max() < 1 / 16 + 1 / 255
