"""Which of a study's networks take slices: some of what is said of others is wrong for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mgmt_ray.report.gather import StudyResults


def slice_networks(results: StudyResults) -> dict[str, Mapping[str, Any]]:
    """The networks of kind slices with their configurations, by name; empty if there are none."""
    networks: Mapping[str, Any] = results.config.get("networks") or {}
    return {
        name: network
        for name, network in networks.items()
        if network and network.get("kind") == "slices"
    }


def has_slices_alone(results: StudyResults) -> bool:
    """Whether every network of the study takes slices."""
    found = slice_networks(results)
    return bool(found) and len(found) == len(results.config.get("networks") or {})
