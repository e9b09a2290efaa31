"""A figure in the report."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path


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
