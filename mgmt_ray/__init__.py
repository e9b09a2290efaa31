"""How well MGMT promoter methylation can be told from MRI, by which network, and how surely."""

from __future__ import annotations

__version__ = "0.1.0"
