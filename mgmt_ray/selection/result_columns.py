"""The columns of the tables of results: heading, format and meaning of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Format: TypeAlias = Literal["text", "count", "number", "interval", "p"]
"""Text, a whole number, one with decimals, one with its 95 % interval, a p-value."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of tables of results.

    Attributes:
        format: how its values are read and shown. An interval is in two columns of the same name
            with ``_low`` and ``_high``.
        meaning: of its values, with their unit, for ``docs/results.md``.
        heading: in the report's tables; empty for a column that they don't show as it is.
    """

    format: Format
    meaning: str
    heading: str = ""


_OVER_MODELS: tuple[tuple[str, Format, str], ...] = (
    ("std", "number", "its standard deviation over models"),
    ("undefined", "count", "models of which it is not defined"),
)

RESULT_COLUMNS: dict[str, Column] = {
    # which model
    "network": Column("text", "name of a network of the study, or of a baseline"),
    "ensemble": Column(
        "text", "name of an ensemble: a group of modalities, or a choice", "Ensemble"
    ),
    "modality": Column("text", "input of the model, such as `DSC`", "Modality"),
    "trial": Column("text", "training of the model: the name of its folder in `trials/`", "Trial"),
    "outer_fold": Column("count", "outer split, from 0", "Split"),
    "fold": Column("count", "fold that the model was validated on, from 0", "Fold"),
    "repeat": Column("count", "which of several seeds, from 0", "Repeat"),
    "hyperparameters": Column("text", "swept values of the training, as JSON"),
    "rule": Column("text", "rule by which the epoch was chosen", "Rule"),
    "epoch": Column("count", "chosen epoch, from 1; 0 of a diverged training", "Epoch"),
    "weights_sha256": Column("text", "checksum of the model's weights"),
    "num_members": Column("count", "models that were averaged", "Models"),
    "num_models": Column("count", "models that were averaged"),
    "num_splits": Column("count", "outer splits that they are of"),
    "device": Column("text", "processor or card that computed"),
    # of which subjects
    "subject": Column("text", "identifier in the cohort"),
    "split": Column("text", "`train`, `validation`, `test` or `external`"),
    "phase": Column("text", "the same"),
    "label": Column("count", "1 methylated, 0 unmethylated"),
    "depth": Column("count", "number of the slice in the scan, from 0"),
    "level": Column("text", "`slice` or `patient`; of subgroups, value of the attribute", "Level"),
    "attribute": Column("text", "what subgroups differ in", "Attribute"),
    "num_subjects": Column("count", "subjects", "Subjects"),
    "num_methylated": Column("count", "methylated ones among them", "Methylated"),
    "num_patients": Column("count", "patients"),
    "num_slices": Column("count", "slices; of overlap, those through the given tumour"),
    "num_rows": Column("count", "slices or patients"),
    # probabilities
    "probability": Column("number", "predicted probability of methylation"),
    "probability_std": Column(
        "number", "standard deviation of one policy draw; 0 without policies"
    ),
    "prior": Column("number", "share of methylated in training; 0.5 where classes were balanced"),
    "block_1": Column(
        "number", "probability that block 1 is tuned; a column for each block follows"
    ),
    # chosen on validation
    "validation_m": Column("number", "0.6 · SEN + 0.4 · SPE on validation", "Validation M"),
    "validation_sen": Column("number", "sensitivity on validation", "SEN"),
    "validation_spe": Column("number", "specificity on validation", "SPE"),
    "validation_auc": Column("number", "AUC on validation", "AUC"),
    "chosen": Column("count", "1 for the ensemble called `best overall`"),
    "step": Column("count", "place in the order of selection, from 1", "Step"),
    "kept": Column("count", "1 where the modality is kept in the ensemble"),
    # discrimination
    "auc": Column("interval", "area under the ROC curve", "AUC"),
    "ap": Column("interval", "average precision", "AP"),
    "brier": Column("interval", "mean squared error of the probabilities", "Brier"),
    "sen": Column("interval", "sensitivity", "SEN"),
    "spe": Column("interval", "specificity", "SPE"),
    "ppv": Column("interval", "positive predictive value", "PPV"),
    "npv": Column("interval", "negative predictive value", "NPV"),
    "auc_p": Column("p", "of the AUC against chance, by permutation", "Permutation\np"),
    "auc_p_holm": Column("p", "the same, corrected by Holm", "the same,\nHolm"),
    "source": Column("text", "what varies: policy draws, folds, seeds or test subjects"),
    "num": Column("count", "how many of them there are"),
    # comparisons of two models, A and B
    "copy_of": Column(
        "text", "the ensemble, or comparison, that the row is a copy of; it has no test"
    ),
    "family": Column("text", "family of hypotheses that Holm corrects: `primary` or `secondary`"),
    "comparison": Column("text", "what is compared: an ensemble of networks, or pairs", "Ensemble"),
    "network_a": Column("text", "network of A"),
    "ensemble_a": Column("text", "ensemble of A"),
    "network_b": Column("text", "network of B"),
    "ensemble_b": Column("text", "ensemble of B"),
    "friedman_chi2": Column("number", "Friedman's statistic of the probabilities"),
    "friedman_p": Column("p", "its p-value", "Friedman p"),
    "friedman_p_holm": Column("p", "the same, corrected by Holm", "Holm p"),
    "nemenyi_p": Column("p", "Nemenyi's p-value of A and B", "Nemenyi p"),
    "error_friedman_chi2": Column("number", "Friedman's statistic of the squared errors"),
    "error_friedman_p": Column("p", "its p-value", "Friedman p"),
    "error_friedman_p_holm": Column("p", "the same, corrected by Holm", "Holm p"),
    "error_nemenyi_p": Column("p", "Nemenyi's p-value of A and B", "Nemenyi p"),
    "auc_difference": Column("interval", "AUC of A less that of B", "Δ AUC"),
    "ap_difference": Column("interval", "AP of A less that of B", "Δ AP"),
    "brier_difference": Column("interval", "Brier of A less that of B", "Δ Brier"),
    "delong_p": Column("p", "DeLong's p-value of the difference of AUC", "DeLong p"),
    "delong_p_holm": Column("p", "the same, corrected by Holm", "Holm p"),
    # thresholds and calibration
    "point": Column("text", "how the threshold was found"),
    "threshold": Column(
        "number", "probability from which subjects are called methylated", "Threshold"
    ),
    "net_benefit": Column(
        "number", "true positives less false ones, weighted by the threshold's odds"
    ),
    "treat_all": Column("number", "the same if all are called methylated"),
    "version": Column("text", "probabilities as predicted or recalibrated", "Probabilities"),
    "temperature": Column("number", "that logits are divided by, from validation", "Temperature"),
    "prior_shift": Column("number", "added to logits, from validation", "Prior's\nshift"),
    "slope": Column("interval", "calibration slope, ideally 1", "Slope"),
    "intercept": Column(
        "interval", "calibration intercept, ideally 0", "Intercept\n(with the slope)"
    ),
    "intercept_at_slope_1": Column(
        "interval", "the same with the slope fixed at 1", "Calibration\nin the large"
    ),
    "ece": Column("number", "expected calibration error", "ECE"),
    "bin": Column("count", "bin of the reliability diagram"),
    "count": Column("count", "subjects in the bin"),
    "mean_probability": Column("number", "mean of their probabilities"),
    "share_methylated": Column("number", "share of them that is methylated"),
    "low": Column("number", "lower end of its 95 % interval"),
    "high": Column("number", "upper end of its 95 % interval"),
    # segmentation and classification of slices
    "predicted_voxels": Column("count", "voxels of the predicted tumour"),
    "dice_slices": Column("number", "mean Dice of the slices through the given tumour"),
    "dice_patient": Column("number", "Dice of all pixels of these slices together"),
    "dice_volume": Column("number", "Dice of the whole scan"),
    "hd95_mm": Column("number", "95th percentile of the Hausdorff distance, mm"),
    "segmented_slices": Column("count", "slices that the seconds are of"),
    "seconds": Column("number", "to segment them; of `slice_seconds.csv`, the median per slice"),
    "seconds_least": Column("number", "per slice, of the fastest patient"),
    "seconds_most": Column("number", "per slice, of the slowest patient"),
    "measure": Column("text", "measure of the overlap"),
    "value": Column("interval", "its mean over models and splits"),
    "std": Column("number", "its standard deviation over models"),
    "num_empty": Column("count", "segmentations without any tumour"),
    "accuracy": Column("interval", "share that is called rightly", "Accuracy"),
    "recall": Column("interval", "share of the methylated that is called so"),
    "precision": Column("interval", "share of those called methylated that is"),
    "f1": Column("interval", "harmonic mean of recall and precision", "F1"),
    **{
        f"{score}_{suffix}": Column(form, meaning)
        for score in ("accuracy", "recall", "precision", "f1", "auc")
        for suffix, form, meaning in _OVER_MODELS
    },
    # other policies than the agent's
    "policy": Column(
        "text",
        "`agent`, `random` (every block tuned with probability one half), `another subject` (the "
        "agent's policy of another test subject), `tuned` or `frozen` (every block)",
        "Policy",
    ),
    "routing_difference": Column(
        "interval", "AUC of this policy less that of the agent's", "Policy − agent"
    ),
    "routing_p": Column("p", "DeLong's p-value of that difference", "DeLong p"),
    # predicted in place of given masks
    "auc_given": Column("number", "AUC with given masks", "AUC, given"),
    "auc_predicted": Column("number", "AUC with predicted masks", "AUC, predicted"),
    "difference": Column("interval", "AUC with predicted less given masks", "Predicted − given"),
    "p": Column("p", "DeLong's p-value of the difference", "DeLong p"),
    "mean_absolute_change": Column("number", "mean absolute change of a probability"),
    "median_dice": Column("number", "median Dice of predicted and given masks", "Median Dice"),
}
"""The columns of all tables of results, by name."""

TEXT_COLUMNS = frozenset(name for name, column in RESULT_COLUMNS.items() if column.format == "text")
"""The columns that are read as text, whatever their values look like."""
