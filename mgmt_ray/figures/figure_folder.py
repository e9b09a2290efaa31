"""Saving figures in a folder: always as PNG, as SVG where that is asked for."""

from __future__ import annotations

import io
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from matplotlib import rc_context
from matplotlib.figure import Figure
from PIL import Image

from mgmt_ray.base import write_atomically
from mgmt_ray.figures.style import DPI


@dataclass(frozen=True, slots=True)
class FigureFolder:
    """A folder of figures; equal figures give equal bytes, and each file is written atomically.

    Attributes:
        path: created with the first figure.
        svg: whether to write each figure as SVG too.
    """

    path: Path
    svg: bool = False

    def save(self, figure: Figure, name: str, *, compact: bool = False) -> Path:
        """Write ``NAME.png`` of 150 dpi, and ``NAME.svg`` if asked for; else delete an older SVG.

        Args:
            figure: to be saved; with an SVG its layout is fixed.
            name: without suffix.
            compact: whether to reduce the PNG to 64 colours, a quarter of the size for scans and
                lines.

        Returns:
            The path of the PNG.
        """
        png = self.path / f"{name}.png"
        png.with_suffix(".svg").unlink(missing_ok=True)
        write_atomically(png, lambda path: (_write_compact if compact else _write)(figure, path))
        if self.svg:
            write_atomically(png.with_suffix(".svg"), lambda path: _write_svg(figure, path))
        return png

    def delete_others(self, pattern: str, kept: Collection[Path]) -> None:
        """Delete figures of an earlier run that were not drawn again.

        Args:
            pattern: glob of the PNGs' names; the SVG of each is deleted too.
            kept: PNGs to keep.
        """
        for path in self.path.glob(pattern):
            if path not in kept:
                path.unlink()
                path.with_suffix(".svg").unlink(missing_ok=True)


def _write(figure: Figure, path: Path) -> None:
    figure.savefig(path, format="png", dpi=DPI, metadata={"Software": None})


def _write_compact(figure: Figure, path: Path) -> None:
    full_colour = io.BytesIO()
    figure.savefig(full_colour, format="png", dpi=DPI)
    image = Image.open(full_colour).convert("RGB")
    # median cut, Pillow's default, would use all colours for greys
    reduced = image.quantize(64, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    reduced.save(path, format="png", optimize=True, dpi=(DPI, DPI))


def _write_svg(figure: Figure, path: Path) -> None:
    # keep the PNG's layout: computing it again takes seconds
    figure.set_layout_engine("none")
    # without a salt the ids are random, and without metadata the date is today's
    with rc_context({"svg.hashsalt": "mgmt_ray"}):
        figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})
