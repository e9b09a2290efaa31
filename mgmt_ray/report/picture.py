"""A figure in the report."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path

NARROW = 704
"""Pixels: 44 rem, which the page gives every wider picture at least."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A figure that was saved, with words for it.

    Attributes:
        path: of the PNG.
        caption: printed below it.
        alt: what it shows, for readers who do not see it.
        is_sheet: with many small pictures: not to be made smaller than its pixels, and to be cut
            over pages in print.
    """

    path: Path
    caption: str
    alt: str
    is_sheet: bool = False

    @property
    def data(self) -> str:
        """The PNG, base64."""
        return base64.b64encode(self.path.read_bytes()).decode()

    @property
    def is_narrow(self) -> bool:
        """Whether it is not to be made wider than its pixels: a single panel would fill a page."""
        with self.path.open("rb") as png:
            header = png.read(24)  # signature, length and name of the first chunk, width, height
        return int.from_bytes(header[16:20], "big") < NARROW
