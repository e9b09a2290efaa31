"""Published results of Schmitz et al. 2024 and Chen et al. 2020, to print next to ours.

``PAPER_…`` is from E. Schmitz, Y. Guo, J. Wang, Biomed. Phys. Eng. Express 10 (2024) 055018,
doi:10.1088/2057-1976/ad6573: tables 1 to 5, and sections 3 and 4 for numbers in the text.
``CHEN_…`` is from Chen et al., BioMed Research International 2020, 9258649,
doi:10.1155/2020/9258649: tables 1 to 4, and sections 2 and 3. All values are as printed, even the
inconsistent Nemenyi p-values of :data:`PAPER_BEST_OVERALL`.
"""

from __future__ import annotations

from dataclasses import dataclass

CITATION = (
    "Schmitz, Guo and Wang, Biomed. Phys. Eng. Express 10 (2024) 055018, "
    "doi:10.1088/2057-1976/ad6573"
)
NUM_TEST_SUBJECTS = 57
NUM_TEST_METHYLATED = 24


@dataclass(frozen=True, slots=True)
class PaperResult:
    """AUC, average precision, sensitivity and specificity on the paper's 57 test subjects."""

    auc: float
    ap: float
    sen: float
    spe: float


@dataclass(frozen=True, slots=True)
class PaperComparison:
    """Friedman's p-value of one row of table 5, and Nemenyi's of its three pairs."""

    friedman_p: float
    spottune_random: float
    random_transfer: float
    spottune_transfer: float

    def nemenyi_p(self, network_a: str, network_b: str) -> float | None:
        """Return the pair's p-value, in either order; None for a pair that table 5 does not have.

        >>> PAPER_COMPARISONS["DTI"].nemenyi_p("random", "spottune")
        0.121
        """
        names = (f"{network_a}_{network_b}", f"{network_b}_{network_a}")
        return next((getattr(self, name) for name in names if hasattr(self, name)), None)


NUM_SUBJECTS = 240
"""Section 2.1: training and test subjects together."""

PAPER_AGE_BANDS: dict[str, tuple[int, int]] = {
    "18–29": (18, 30),
    "30–49": (30, 50),
    "50–69": (50, 70),
    "70+": (70, 1000),
}
"""Table 1: years from (inclusive) and to (exclusive), by name."""

PAPER_CHARACTERISTICS: dict[str, tuple[int, int]] = {
    "male": (62, 88),
    "female": (40, 50),
    "18–29": (1, 5),
    "30–49": (6, 17),
    "50–69": (64, 82),
    "70+": (31, 34),
}
"""Table 1: methylated and unmethylated subjects by sex and by age band."""

PAPER_TABLES: dict[str, int] = {"spottune": 2, "random": 3, "transfer": 4}
"""Number of the paper's table by network."""

PAPER_RESULTS: dict[str, dict[str, PaperResult]] = {
    "spottune": {
        "DSC": PaperResult(0.6124, 0.5842, 0.5000, 0.6061),
        "DTI": PaperResult(0.6654, 0.6008, 0.7500, 0.6364),
        "Struct": PaperResult(0.5707, 0.5346, 0.5833, 0.4848),
        "DSC+DTI": PaperResult(0.6604, 0.6179, 0.6667, 0.6061),
        "DSC+Struct": PaperResult(0.6073, 0.5962, 0.5417, 0.5455),
        "DTI+Struct": PaperResult(0.6376, 0.5289, 0.5833, 0.6364),
        "DSC+DTI+Struct": PaperResult(0.6389, 0.5779, 0.6667, 0.5758),
    },
    "random": {
        "DSC": PaperResult(0.5051, 0.4872, 0.3750, 0.5758),
        "DTI": PaperResult(0.6023, 0.5159, 0.3750, 0.6364),
        "Struct": PaperResult(0.6061, 0.5334, 0.4167, 0.6061),
        "DSC+DTI": PaperResult(0.5707, 0.5127, 0.3333, 0.6364),
        "DSC+Struct": PaperResult(0.5669, 0.5271, 0.3750, 0.6667),
        "DTI+Struct": PaperResult(0.5997, 0.5187, 0.4167, 0.6667),
        "DSC+DTI+Struct": PaperResult(0.5783, 0.5018, 0.4583, 0.6364),
    },
    "transfer": {
        "DSC": PaperResult(0.5303, 0.4421, 0.5000, 0.6970),
        "DTI": PaperResult(0.5947, 0.5445, 0.5833, 0.4848),
        "Struct": PaperResult(0.4722, 0.4250, 0.5417, 0.4242),
        "DSC+DTI": PaperResult(0.5808, 0.4992, 0.5417, 0.5455),
        "DSC+Struct": PaperResult(0.5051, 0.4296, 0.5000, 0.5455),
        "DTI+Struct": PaperResult(0.5732, 0.4869, 0.6250, 0.6061),
        "DSC+DTI+Struct": PaperResult(0.5682, 0.4788, 0.5000, 0.6061),
    },
    # Section 4: the second experiment, with the last two residual blocks trained too.
    "transfer-2": {"Struct": PaperResult(0.5341, 0.5134, 0.5417, 0.4848)},
}
"""Tables 2, 3 and 4, and the second experiment in the text: by network, then ensemble."""

PAPER_FOREST = PaperResult(0.5764, 0.4886, 0.2174, 0.9355)
"""Section 3: the random forest on six radiomic features.

Its rates are 5/23 and 29/31: it was evaluated on 54 subjects, not on the 57 of the networks.
"""

PAPER_DSC_THREE_CHANNELS_AUC = 0.5758
"""Section 4: one SpotTune network with the three DSC derivatives as channels."""

PAPER_FALLBACKS: dict[str, dict[str, int]] = {"transfer": {"DSC": 3, "DTI": 1, "Struct": 5}}
"""Section 4: number of trainings that kept the last epoch because no epoch qualified."""

PAPER_COMPARISONS: dict[str, PaperComparison] = {
    "DSC": PaperComparison(0.108, 0.177, 0.147, 0.9),
    "DTI": PaperComparison(0.128, 0.121, 0.339, 0.822),
    "Struct": PaperComparison(0.0970, 0.0982, 0.249, 0.876),
    "DSC+DTI": PaperComparison(0.0131, 0.0103, 0.147, 0.554),
    "DSC+Struct": PaperComparison(0.0222, 0.0503, 0.0395, 0.9),
    "DTI+Struct": PaperComparison(0.00606, 0.00567, 0.0635, 0.661),
    "DSC+DTI+Struct": PaperComparison(0.0180, 0.0181, 0.0982, 0.768),
}
"""Table 5, by ensemble (0.9 is the cap of the software's older table of the q distribution)."""

PAPER_BEST_OVERALL = PaperComparison(0.0636, 0.0181, 0.0982, 0.0768)
"""Table 5, last row: DSC+DTI (SpotTune), Struct (random) and DTI (transfer).

As printed: the three Nemenyi p-values repeat those of the row above (DSC+DTI+Struct) except for
one digit (0.0768 for 0.768). They are inconsistent with this row's Friedman p: three networks whose
Friedman p is 0.0636 have no pair with a Nemenyi p below 0.049, and 0.0181 is printed.
"""

PAPER_BEST_ENSEMBLES = {"spottune": "DSC+DTI", "random": "Struct", "transfer": "DTI"}
"""Table 5, last row, and figures 3 and 5: each network's best ensemble, chosen on the test set."""

CHEN_CITATION = "Chen et al., BioMed Research International 2020, 9258649, doi:10.1155/2020/9258649"
CHEN_MODALITIES = ("FLAIR", "T1GD")
"""The paper's modalities; its CE-T1WI is our T1GD."""

CHEN_FOLDS = 10
"""Section 2.1: folds, and so models, of each modality."""


@dataclass(frozen=True, slots=True)
class MeanStd:
    """Mean and standard deviation over the folds."""

    mean: float
    std: float

    def __str__(self) -> str:
        return f"{self.mean:.3f} ± {self.std:.3f}"


@dataclass(frozen=True, slots=True)
class ChenCounts:
    """One phase of one modality in table 1: (methylated, unmethylated)."""

    patients: tuple[int, int]
    slices: tuple[int, int]


@dataclass(frozen=True, slots=True)
class ChenClassification:
    """One row of table 4."""

    accuracy: MeanStd
    recall: MeanStd
    precision: MeanStd
    f1: MeanStd


@dataclass(frozen=True, slots=True)
class ChenSeconds:
    """One row of table 3: seconds per slice."""

    by_hand: float
    by_network: float


CHEN_COUNTS: dict[str, dict[str, ChenCounts]] = {
    "FLAIR": {"train": ChenCounts((25, 26), (288, 388)), "test": ChenCounts((7, 8), (62, 105))},
    "T1GD": {"train": ChenCounts((36, 34), (609, 599)), "test": ChenCounts((10, 7), (109, 111))},
}
"""Table 1, by modality and phase; its training patients are those of all folds."""

CHEN_DICE: dict[str, dict[str, MeanStd]] = {
    "FLAIR": {
        "train": MeanStd(0.893, 0.004),
        "validation": MeanStd(0.892, 0.008),
        "test": MeanStd(0.897, 0.007),
    },
    "T1GD": {
        "train": MeanStd(0.832, 0.009),
        "validation": MeanStd(0.831, 0.012),
        "test": MeanStd(0.828, 0.108),
    },
}
"""Table 2: Dice, by modality and phase."""

CHEN_SECONDS: dict[str, ChenSeconds] = {
    "FLAIR": ChenSeconds(60.0, 0.07),
    "T1GD": ChenSeconds(50.0, 0.11),
}
"""Table 3, by modality."""

CHEN_DEVICE = "GeForce RTX 2080 Ti"
"""Section 2.5: the GPU of table 3."""


def _row(*cells: tuple[float, float]) -> ChenClassification:
    return ChenClassification(*(MeanStd(mean, std) for mean, std in cells))


CHEN_CLASSIFICATION: dict[str, dict[str, ChenClassification]] = {
    "FLAIR": {
        "train": _row((0.941, 0.056), (0.943, 0.104), (0.947, 0.026), (0.945, 0.081)),
        "validation": _row((0.885, 0.090), (0.941, 0.105), (0.857, 0.028), (0.889, 0.101)),
        "test": _row((0.827, 0.056), (0.852, 0.080), (0.821, 0.022), (0.836, 0.072)),
    },
    "T1GD": {
        "train": _row((0.894, 0.012), (0.906, 0.007), (0.886, 0.018), (0.896, 0.010)),
        "validation": _row((0.839, 0.046), (0.866, 0.044), (0.823, 0.051), (0.845, 0.045)),
        "test": _row((0.804, 0.011), (0.818, 0.033), (0.798, 0.014), (0.808, 0.015)),
    },
}
"""Table 4, by modality and phase."""

CHEN_BEST_AUC: dict[str, dict[str, float]] = {
    "FLAIR": {"train": 0.985, "validation": 0.968, "test": 0.905},
    "T1GD": {"train": 0.973, "validation": 0.942, "test": 0.887},
}
"""Section 3.2, figures 5 and 6: AUC of the best model, by modality and phase.

The paper does not say how the best of the 10 models was chosen.
"""

CHEN_FIGURES: dict[str, int] = {"FLAIR": 5, "T1GD": 6}
"""Number of the paper's figure with the ROC curves, by modality."""
