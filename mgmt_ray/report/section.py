"""A section of the report and a picture in it, and the search for tables and pictures."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

NARROW = 704
"""Pixels: 44 rem, the least width at which the page shows any wider picture."""


@dataclass(frozen=True, slots=True)
class Section:
    """One section.

    Attributes:
        anchor: id in the page; the template is ``sections/ANCHOR.html.j2``.
        title: heading, which folds the section; an empty one is not shown and nothing is folded.
        content: the template's variables.
        missing: if there is nothing to show, the line that says why, or which command makes it; it
            stands in place of the template.
        is_open: whether readers see the section unfolded at first.

    >>> Section("audit", "Audit").template
    'sections/audit.html.j2'
    """

    anchor: str
    title: str
    content: Mapping[str, Any] = field(default_factory=dict)
    missing: str = ""
    is_open: bool = False

    @property
    def template(self) -> str:
        """Path of the template below ``mgmt_ray/report``."""
        return f"sections/{self.anchor}.html.j2"


def missing_section(anchor: str, title: str, file: str, command: str = "ensemble") -> Section:
    """Return a section that says which command makes its missing file.

    Args:
        anchor: see :class:`Section`.
        title: see :class:`Section`.
        file: path below the study's folder.
        command: of ``mgmt-ray``.

    >>> missing_section("variance", "Variance", "ensembles/variance.csv").missing
    'No ensembles/variance.csv yet: `mgmt-ray ensemble STUDY` makes it.'
    """
    return Section(anchor, title, missing=f"No {file} yet: `mgmt-ray {command} STUDY` makes it.")


def find_all(kind: type[T], content: object) -> Iterator[T]:
    """Yield all objects of a class in nested mappings, sequences and dataclasses, in order.

    >>> list(find_all(float, {"auc": 0.6, "others": [0.5, "text"]}))
    [0.6, 0.5]
    """
    if isinstance(content, kind):
        yield content
    elif isinstance(content, Mapping):
        for value in content.values():
            yield from find_all(kind, value)
    elif isinstance(content, Sequence) and not isinstance(content, str | bytes):
        for value in content:
            yield from find_all(kind, value)
    elif is_dataclass(content):
        for part in fields(content):
            yield from find_all(kind, getattr(content, part.name))


@dataclass(frozen=True, slots=True)
class Picture:
    """A saved figure with its caption and alternative text.

    Attributes:
        path: of the PNG.
        alt: what the figure shows, for readers who cannot see it.
        is_contact_sheet: whether it holds many small pictures: it is not shown below its size in
            pixels, and may be cut over pages in print.
    """

    path: Path
    caption: str
    alt: str
    is_contact_sheet: bool = False

    @property
    def data(self) -> str:
        """The PNG in base64."""
        return base64.b64encode(self.path.read_bytes()).decode()

    @property
    def is_narrow(self) -> bool:
        """Whether to keep its width in pixels: a single panel would fill the page's width."""
        with self.path.open("rb") as png:
            header = png.read(24)  # signature, length and name of the first chunk, width, height
        return int.from_bytes(header[16:20], "big") < NARROW
