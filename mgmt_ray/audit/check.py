"""One check of an audit, and its words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Outcome: TypeAlias = Literal["passed", "failed", "warning", "not done"]

NO_VOLUMES = "it looks at prepared volumes, and no network of this study takes any"


@dataclass(frozen=True, slots=True)
class Check:
    """What was looked at, and what it showed.

    Attributes:
        name: of the check.
        outcome: "warning" is something to look at, "not done" something that could not be.
        expected: of a sound study.
        found: in this one.
        remedy: what to do next; empty where nothing is to be done.
    """

    name: str
    outcome: Outcome
    expected: str
    found: str
    remedy: str = ""

    def __str__(self) -> str:
        line = f"{self.outcome:<8}  {self.name}: {self.found}."
        if self.outcome in ("failed", "warning"):
            line += f" Expected: {self.expected}."
        return f"{line} {self.remedy}".rstrip()
