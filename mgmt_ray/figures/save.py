"""How a figure is saved: a PNG, an SVG beside it, equal bytes for equal figures."""

from __future__ import annotations

import io
from collections.abc import Collection
from pathlib import Path

from matplotlib import rc_context
from matplotlib.figure import Figure
from PIL import Image

from mgmt_ray.base import write_aside

DPI = 150


def save_figure(figure: Figure, path: Path) -> None:
    """Write a PNG of 150 dpi, and an SVG beside it; equal figures give equal bytes.

    Each is written completely or not at all.

    Args:
        figure: to be saved.
        path: of the PNG.
    """

    def write(aside: Path) -> None:
        figure.savefig(aside, format="png", dpi=DPI, metadata={"Software": None})

    write_aside(path, write)
    _save_svg(figure, path)


def save_compact_figure(figure: Figure, path: Path) -> None:
    """Like :func:`save_figure` in 64 colours: of scans or thin lines it is a quarter the size."""

    def write(aside: Path) -> None:
        whole = io.BytesIO()
        figure.savefig(whole, format="png", dpi=DPI)
        image = Image.open(whole).convert("RGB")
        # median cut, Pillow's default, would spend all colours on greys
        few = image.quantize(64, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
        few.save(aside, format="png", optimize=True, dpi=(DPI, DPI))

    write_aside(path, write)
    _save_svg(figure, path)


def _save_svg(figure: Figure, png: Path) -> None:
    def write(aside: Path) -> None:
        # places are those that the PNG was laid out with: finding them again takes seconds
        figure.set_layout_engine("none")
        # the ids in it are otherwise drawn at random, and the date would be of today
        with rc_context({"svg.hashsalt": "mgmt_ray"}):
            figure.savefig(aside, format="svg", metadata={"Date": None, "Creator": None})

    write_aside(png.with_suffix(".svg"), write)


def delete_other_figures(folder: Path, pattern: str, drawn: Collection[Path]) -> None:
    """Delete the figures of this pattern in a folder that were not drawn now, but earlier.

    Args:
        folder: of the figures.
        pattern: of the PNGs' names; the SVG beside each is deleted with it.
        drawn: PNGs that stay.
    """
    for path in folder.glob(pattern):
        if path not in drawn:
            path.unlink()
            path.with_suffix(".svg").unlink(missing_ok=True)
