"""The published results of Chen et al. 2020, to print beside ours.

Source: X. Chen, M. Zeng, Y. Tong et al., BioMed Research International 2020, 9258649,
doi:10.1155/2020/9258649: tables 1 to 4, and section 3.2 for the AUCs of figures 5 and 6. All
values are as printed. Deviations are over the paper's 10 folds; it does not say by which formula,
nor whether table 4 and the curves count slices or patients.
"""

from __future__ import annotations

from dataclasses import dataclass

CHEN_CITATION = "Chen et al., BioMed Research International 2020, 9258649, doi:10.1155/2020/9258649"
CHEN_MODALITIES = ("FLAIR", "T1GD")
"""What the paper has; its CE-T1WI is our T1GD."""


CHEN_FOLDS = 10
"""Section 2.1: models of each modality."""


@dataclass(frozen=True, slots=True)
class Spread:
    """Mean and standard deviation over the folds."""

    mean: float
    deviation: float

    def __str__(self) -> str:
        return f"{self.mean:.3f} ± {self.deviation:.3f}"


@dataclass(frozen=True, slots=True)
class ChenCounts:
    """One phase of one modality in table 1: methylated and unmethylated."""

    patients: tuple[int, int]
    slices: tuple[int, int]


@dataclass(frozen=True, slots=True)
class ChenClassification:
    """One row of table 4."""

    accuracy: Spread
    recall: Spread
    precision: Spread
    f1: Spread


@dataclass(frozen=True, slots=True)
class ChenSeconds:
    """One row of table 3: seconds per slice."""

    by_hand: float
    by_network: float


CHEN_COUNTS: dict[str, dict[str, ChenCounts]] = {
    "FLAIR": {
        "train": ChenCounts((25, 26), (288, 388)),
        "test": ChenCounts((7, 8), (62, 105)),
    },
    "T1GD": {
        "train": ChenCounts((36, 34), (609, 599)),
        "test": ChenCounts((10, 7), (109, 111)),
    },
}
"""Table 1, by modality and phase; its training patients are those of all folds."""

CHEN_DICE: dict[str, dict[str, Spread]] = {
    "FLAIR": {
        "train": Spread(0.893, 0.004),
        "validation": Spread(0.892, 0.008),
        "test": Spread(0.897, 0.007),
    },
    "T1GD": {
        "train": Spread(0.832, 0.009),
        "validation": Spread(0.831, 0.012),
        "test": Spread(0.828, 0.108),
    },
}
"""Table 2, by modality and phase."""

CHEN_SECONDS: dict[str, ChenSeconds] = {
    "FLAIR": ChenSeconds(60.0, 0.07),
    "T1GD": ChenSeconds(50.0, 0.11),
}
"""Table 3, by modality."""

CHEN_DEVICE = "GeForce RTX 2080 Ti"
"""Section 2.5: the GPU of table 3."""

CHEN_CLASSIFICATION: dict[str, dict[str, ChenClassification]] = {
    "FLAIR": {
        "train": ChenClassification(
            Spread(0.941, 0.056), Spread(0.943, 0.104), Spread(0.947, 0.026), Spread(0.945, 0.081)
        ),
        "validation": ChenClassification(
            Spread(0.885, 0.090), Spread(0.941, 0.105), Spread(0.857, 0.028), Spread(0.889, 0.101)
        ),
        "test": ChenClassification(
            Spread(0.827, 0.056), Spread(0.852, 0.080), Spread(0.821, 0.022), Spread(0.836, 0.072)
        ),
    },
    "T1GD": {
        "train": ChenClassification(
            Spread(0.894, 0.012), Spread(0.906, 0.007), Spread(0.886, 0.018), Spread(0.896, 0.010)
        ),
        "validation": ChenClassification(
            Spread(0.839, 0.046), Spread(0.866, 0.044), Spread(0.823, 0.051), Spread(0.845, 0.045)
        ),
        "test": ChenClassification(
            Spread(0.804, 0.011), Spread(0.818, 0.033), Spread(0.798, 0.014), Spread(0.808, 0.015)
        ),
    },
}
"""Table 4, by modality and phase."""

CHEN_BEST_AUC: dict[str, dict[str, float]] = {
    "FLAIR": {"train": 0.985, "validation": 0.968, "test": 0.905},
    "T1GD": {"train": 0.973, "validation": 0.942, "test": 0.887},
}
"""Section 3.2, figures 5 and 6: of the best model, by modality and phase.

The paper does not say by what the best of the 10 models was chosen.
"""

CHEN_FIGURES: dict[str, int] = {"FLAIR": 5, "T1GD": 6}
"""The paper's figure of the ROC curves, by modality."""
