"""How a trial ended, or how far it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a trial ended, or how far it is; :meth:`StudyFolder.outcome` decides it.

    Attributes:
        status: "finished" has weights; "diverged" has none, as its loss became NaN or infinite;
            "failed" met an error that its user can fix; "lost" had its workers die too often;
            "stopped" was interrupted and continues from its saved state; "to do" did not start.
        message: what happened and what to do; empty where nothing is to be said.
    """

    status: Literal["finished", "diverged", "failed", "lost", "stopped", "to do"]
    message: str = ""

    @property
    def diverged(self) -> bool:
        """Whether the training is complete, but has no weights."""
        return self.status == "diverged"

    @property
    def is_final(self) -> bool:
        """Whether the training is complete, with or without weights."""
        return self.status in ("finished", "diverged")

    @property
    def failed(self) -> bool:
        """Whether the training ended without a result, and must be run again."""
        return self.status in ("failed", "lost")
