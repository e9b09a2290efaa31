"""Contact sheets: one slice of each subject's scan of a modality, with the tumour's outline."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import fill

import numpy as np
from jaxtyping import Bool, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import ndimage

from mgmt_ray.figures import style
from mgmt_ray.figures.style import DPI
from mgmt_ray.preprocess.scan_preview import PICTURE, View

WIDTH = 1150
"""Pixels; the width of the report's column, so that a sheet is not rescaled there."""

MAX_COLUMNS = 15
GAP = 4
NAME_HEIGHT = 16
MARGIN = 12
LINE_HEIGHT = 20
NAME_POINTS = 6.5
NAME_PIXELS = 9.0
"""Maximum width of a character of a name."""

MAX_NAME_LENGTH = 24
BRIGHT, DARK = (255, 225, 0), (0, 0, 0)
"""A bright and a dark line together are visible on any grey, also in print."""

MISSING = (228, 228, 228)
MARKS: dict[style.Label, str] = {1: "M", 0: "U", "fitted": "S", "hidden": "", None: "–"}


@dataclass(frozen=True, slots=True, eq=False)
class ScanPreview:
    """The preview of one subject's scan of a modality.

    Attributes:
        subject: its id.
        label: see :data:`mgmt_ray.figures.style.Label`.
        view: None where the scan is missing or faulty.
        fault: why there is no view, in a word or two; empty where there is one.
    """

    subject: str
    label: style.Label
    view: View | None
    fault: str = ""


@dataclass(frozen=True, slots=True)
class _Layout:
    """Positions of the pictures on a sheet, in pixels."""

    width: int
    top: int
    columns: int
    pitch: int

    def corner(self, number: int) -> tuple[int, int]:
        """Return the left and upper edge of a picture, below its name."""
        row, column = divmod(number, self.columns)
        y = self.top + row * (PICTURE + NAME_HEIGHT + GAP) + NAME_HEIGHT
        return MARGIN + column * self.pitch, y

    def height(self, num_pictures: int) -> int:
        """Return the height of a sheet."""
        return self.corner(num_pictures - 1)[1] + PICTURE + GAP + MARGIN


def contact_sheet(modality: str, scans: Sequence[ScanPreview]) -> Figure:
    """Draw the axial slice with the most tumour of each subject, sorted by id.

    One array holds all pictures, since one axes per picture would take minutes. The outline lies
    just outside the tumour. A scan without a view is a grey square with its fault.

    Args:
        modality: of all scans.
        scans: at least one, with unique ids.
    """
    scans = sorted(scans, key=lambda scan: scan.subject)
    prefix, names = short_names([scan.subject for scan in scans])
    pitch = max(PICTURE + GAP, round(NAME_PIXELS * (max(map(len, names)) + 2)))
    columns = min(MAX_COLUMNS, (WIDTH - 2 * MARGIN) // pitch, len(scans))
    width = max(columns * pitch + 2 * MARGIN, WIDTH // 2)
    heading = _heading(modality, scans, prefix, width)
    top = MARGIN + LINE_HEIGHT * (heading.count("\n") + 1) + GAP
    layout = _Layout(width, top, columns, pitch)
    height = layout.height(len(scans))
    mosaic = np.full((height, width, 3), 255, np.uint8)
    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI)
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set_axis_off()
    text = axes.text(MARGIN, MARGIN, heading, va="top", linespacing=1.1, color=style.INK)
    text.set_fontsize(style.SMALL_FONT_SIZE)
    for number, (scan, name) in enumerate(zip(scans, names, strict=True)):
        x, y = layout.corner(number)
        tile = mosaic[y : y + PICTURE, x : x + PICTURE]
        view = scan.view
        tile[:] = MISSING if view is None else draw_outline(view.picture, view.tumour)
        _draw_label(axes, scan, name, x, y)
    axes.imshow(mosaic, extent=(0, width, height, 0), interpolation="nearest", aspect="auto")
    return figure


def _draw_label(axes: Axes, scan: ScanPreview, name: str, x: int, y: int) -> None:
    """Write the name above a picture, and the fault in place of a missing picture."""
    mark, colour = MARKS[scan.label], style.LABEL_COLOURS[scan.label]
    text = f"{name} {mark}".rstrip()
    axes.text(x, y - 3, text, fontsize=NAME_POINTS, color=colour, va="bottom")
    if scan.view is None:
        axes.text(
            x + PICTURE / 2,
            y + PICTURE / 2,
            fill(scan.fault, 11),
            fontsize=NAME_POINTS,
            color=style.INK,
            ha="center",
            va="center",
        )


def draw_outline(
    picture: UInt8[np.ndarray, "height width"], tumour: Bool[np.ndarray, "height width"]
) -> UInt8[np.ndarray, "height width 3"]:
    """Draw a bright line just outside the tumour and a dark one around it, on a grey picture."""
    coloured = np.repeat(picture[:, :, None], 3, axis=2)
    if tumour.any():
        near = ndimage.binary_dilation(tumour)
        far = ndimage.binary_dilation(near)
        coloured[near & ~tumour] = BRIGHT
        coloured[far & ~near] = DARK
    return coloured


def short_names(ids: Sequence[str]) -> tuple[str, list[str]]:
    """Split ids into their common prefix, up to a ``-``, ``_`` or ``.``, and the rest of each.

    Example:
        >>> short_names(["UPENN-GBM-00012", "UPENN-GBM-00345"])
        ('UPENN-GBM-', ['00012', '00345'])
    """
    first, last = min(ids), max(ids)
    num_shared = 0
    while (
        first != last
        and first[num_shared : num_shared + 1] == last[num_shared : num_shared + 1] != ""
    ):
        num_shared += 1
    match = re.match(r".*[-_.]", first[:num_shared])
    prefix = match.group() if match else ""
    return prefix, [_shorten_name(name.removeprefix(prefix)) for name in ids]


def _shorten_name(name: str) -> str:
    if len(name) <= MAX_NAME_LENGTH:
        return name
    half = (MAX_NAME_LENGTH - 1) // 2
    return f"{name[:half]}…{name[-half:]}"


def _heading(modality: str, scans: Sequence[ScanPreview], prefix: str, width: int) -> str:
    num_missing = sum(scan.view is None for scan in scans)
    labels = [scan.label for scan in scans]
    text = f"{modality}: the axial slice with the most tumour of {len(scans)} subjects"
    text += f", {num_missing} of them without a picture for the given reason" if num_missing else ""
    marks = [
        f"{mark}\u00a0{style.LABEL_NAMES[label]} ({labels.count(label)})"
        for label, mark in MARKS.items()
        if label in labels and mark
    ]
    text += f". {', '.join(marks)}" if marks else ""
    text += f". {style.LABELS_HIDDEN.capitalize()}" if "hidden" in labels else ""
    text += f". All ids begin with “{_shorten_name(prefix)}”" if prefix else ""
    # the font's characters are on average 0.55 of its size wide
    characters = int((width - 2 * MARGIN) / (0.55 * style.SMALL_FONT_SIZE * DPI / 72))
    return fill(text + ".", characters)
