"""A section of the report: its place in the contents, its template and what that shows."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Section:
    """One section.

    Attributes:
        anchor: its id in the page; ``sections/ANCHOR.html.j2`` is its template.
        title: its heading, also in the contents.
        content: what the template shows, by the names it uses.
        missing: where there is nothing to show: one line that says which command makes it. The
            template is not used then.
    """

    anchor: str
    title: str
    content: Mapping[str, Any] = field(default_factory=dict)
    missing: str = ""

    @property
    def template(self) -> str:
        """Below the folder of the report's templates."""
        return f"sections/{self.anchor}.html.j2"


def missing_section(anchor: str, title: str, file: str, command: str = "ensemble") -> Section:
    """A section whose file is not there.

    Args:
        anchor: of the section.
        title: of the section.
        file: which is missing, below the study's folder.
        command: of ``mgmt-ray`` that writes it.
    """
    return Section(anchor, title, missing=f"No {file} yet: `mgmt-ray {command} STUDY` makes it.")


def find_all(kind: type[T], content: object) -> Iterator[T]:
    """Everything of a kind in nested mappings, sequences and records, in their order."""
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


NARROW = 704
"""Pixels: 44 rem, which the page gives every wider picture at least."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A figure that was saved, with words for it.

    Attributes:
        path: of the PNG.
        caption: printed below it.
        alt: what it shows, for readers who do not see it.
        is_contact_sheet: with many small pictures: not smaller than its pixels, and to be cut
            over pages in print.
    """

    path: Path
    caption: str
    alt: str
    is_contact_sheet: bool = False

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
