"""Something that a study knows of itself."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fact:
    """Something the study knows.

    Attributes:
        text: a sentence without its full stop.
        where: anchor of the report's section with more of it.
    """

    text: str
    where: str
