"""The names under which figures and tables show networks; imported without matplotlib."""

from __future__ import annotations

NETWORK_LABELS: dict[str, str] = {
    "spottune": "SpotTune",
    "random": "From scratch",
    "transfer": "Transfer",
    "transfer-2": "Transfer-2",
    "radiomics_forest": "Radiomics forest",
    "first_order": "First-order features",
    "age_sex": "Age and sex",
    "tumour_volume": "Tumour volume",
    "prevalence": "Prevalence",
}
"""Displayed names of networks and baseline models."""


def network_label(network: str) -> str:
    """Return a network's displayed name; the name itself if it has none.

    Example:
        >>> network_label("random"), network_label("resnet50")
        ('From scratch', 'resnet50')
    """
    return NETWORK_LABELS.get(network, network)
