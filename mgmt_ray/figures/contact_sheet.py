"""Contact sheets: every subject's scan of a modality at a glance, with its tumour's outline."""

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
"""Pixels; as wide as the report's column, so that a sheet is shown there pixel by pixel."""

MAX_COLUMNS = 15
GAP = 4
NAME_HEIGHT = 16
MARGIN = 12
LINE_HEIGHT = 20
NAME_POINTS = 6.5
NAME_PIXELS = 9.0
"""Width of a character of a name, at most."""

MAX_NAME_LENGTH = 24
BRIGHT, DARK = (255, 225, 0), (0, 0, 0)
"""A line of both, side by side, is seen on any grey, in colour or not."""

MISSING = (228, 228, 228)
MARKS: dict[style.Label, str] = {1: "M", 0: "U", "fitted": "S", "hidden": "", None: "–"}


@dataclass(frozen=True, slots=True, eq=False)
class ScanPreview:
    """What was seen of one subject's scan of a modality.

    Attributes:
        subject: its id.
        label: see :data:`mgmt_ray.figures.style.Label`.
        view: of a sound scan.
        fault: in a word or two why there is no view; empty where there is one.
    """

    subject: str
    label: style.Label
    view: View | None
    fault: str = ""


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where the pictures of a sheet are, in pixels."""

    width: int
    top: int
    columns: int
    pitch: int

    def corner(self, number: int) -> tuple[int, int]:
        """Left and upper edge of a picture, below its name."""
        row, column = divmod(number, self.columns)
        y = self.top + row * (PICTURE + NAME_HEIGHT + GAP) + NAME_HEIGHT
        return MARGIN + column * self.pitch, y

    def height(self, number: int) -> int:
        """Of a sheet of so many pictures."""
        return self.corner(number - 1)[1] + PICTURE + GAP + MARGIN


def contact_sheet(modality: str, scans: Sequence[ScanPreview]) -> Figure:
    """The axial slice with the most tumour of every subject, from its id's first to its last.

    One array holds all pictures, since an axes for each would take minutes. The outline lies just
    outside the tumour. A scan without a view is a grey field with its fault.

    Args:
        modality: of all scans.
        scans: at least one, with ids all different.
    """
    scans = sorted(scans, key=lambda seen: seen.subject)
    prefix, names = short_names([seen.subject for seen in scans])
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
    for number, (seen, name) in enumerate(zip(scans, names, strict=True)):
        x, y = layout.corner(number)
        ax = mosaic[y : y + PICTURE, x : x + PICTURE]
        ax[:] = MISSING if seen.view is None else draw_outline(seen.view.picture, seen.view.tumour)
        _draw_label(axes, seen, name, x, y)
    axes.imshow(mosaic, extent=(0, width, height, 0), interpolation="nearest", aspect="auto")
    return figure


def _draw_label(axes: Axes, seen: ScanPreview, name: str, x: int, y: int) -> None:
    """The name above a picture, and the fault in its place where there is none."""
    mark, colour = MARKS[seen.label], style.LABEL_COLOURS[seen.label]
    text = f"{name} {mark}".rstrip()
    axes.text(x, y - 3, text, fontsize=NAME_POINTS, color=colour, va="bottom")
    if seen.view is None:
        axes.text(
            x + PICTURE / 2,
            y + PICTURE / 2,
            fill(seen.fault, 11),
            fontsize=NAME_POINTS,
            color=style.INK,
            ha="center",
            va="center",
        )


def draw_outline(
    picture: UInt8[np.ndarray, "height width"], tumour: Bool[np.ndarray, "height width"]
) -> UInt8[np.ndarray, "height width 3"]:
    """A grey picture with a bright line just outside its tumour and a dark one around that."""
    coloured = np.repeat(picture[:, :, None], 3, axis=2)
    if tumour.any():
        near = ndimage.binary_dilation(tumour)
        far = ndimage.binary_dilation(near)
        coloured[near & ~tumour] = BRIGHT
        coloured[far & ~near] = DARK
    return coloured


def short_names(ids: Sequence[str]) -> tuple[str, list[str]]:
    """What all ids begin with, up to a ``-``, ``_`` or ``.``, and what tells them apart."""
    first, last = min(ids), max(ids)
    shared = 0
    while first != last and first[shared : shared + 1] == last[shared : shared + 1] != "":
        shared += 1
    match = re.match(r".*[-_.]", first[:shared])
    prefix = match.group() if match else ""
    return prefix, [_shorten_name(name.removeprefix(prefix)) for name in ids]


def _shorten_name(name: str) -> str:
    if len(name) <= MAX_NAME_LENGTH:
        return name
    half = (MAX_NAME_LENGTH - 1) // 2
    return f"{name[:half]}…{name[-half:]}"


def _heading(modality: str, scans: Sequence[ScanPreview], prefix: str, width: int) -> str:
    num_missing = sum(seen.view is None for seen in scans)
    labels = [seen.label for seen in scans]
    text = f"{modality}: the axial slice with the most tumour of {len(scans)} subjects"
    text += f", {num_missing} of them without a picture for the reason given" if num_missing else ""
    marks = [
        f"{mark}\u00a0{style.LABEL_NAMES[label]} ({labels.count(label)})"
        for label, mark in MARKS.items()
        if label in labels and mark
    ]
    text += f". {', '.join(marks)}" if marks else ""
    text += f". {style.LABELS_HIDDEN.capitalize()}" if "hidden" in labels else ""
    text += f". Each id begins with “{_shorten_name(prefix)}”" if prefix else ""
    # of the font's characters the average is 0.55 of its size
    characters = int((width - 2 * MARGIN) / (0.55 * style.SMALL_FONT_SIZE * DPI / 72))
    return fill(text + ".", characters)
