"""The study's answers in plain sentences, which say how certain they are."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, TypeAlias

import pandas as pd

from mgmt_ray.figures.network_labels import network_label
from mgmt_ray.report.ensemble_tables import CHOSEN
from mgmt_ray.report.study_results import StudyResults
from mgmt_ray.selection.best_on_validation import BEST_OVERALL
from mgmt_ray.statistics.intervals import Interval, read_interval
from mgmt_ray.statistics.planted_signal import CHANCE_AUC, PlantedVerdict, planted_verdict
from mgmt_ray.study.baseline_config import BASELINES

LEVEL = 0.05
"""P-values below it, after Holm's correction within their family, are called findings."""
BASELINE_PREFIX = "against "
"""Prefix of the name of a comparison of each network's best ensemble with a baseline."""

Row: TypeAlias = Mapping[Hashable, Any]


def answers(results: StudyResults) -> dict[str, list[str]]:
    """Return the sentences that answer each question about the study, by question."""
    metrics, comparisons = results.metrics, results.comparisons
    found = {
        "Can MGMT methylation be told from these scans?": chance_sentences(metrics),
        "Is one network better than another?": pair_sentences(comparisons),
        "Is it better than a simple baseline?": baseline_sentences(comparisons),
        "Does it hold in another cohort?": [
            external_sentence(results, n) for n in results.external
        ],
        "How well is the tumour found?": segmentation_sentences(results),
        "Is the planted signal found?": [planted_sentence(*planted_verdicts(results))]
        if results.planted is not None
        else [],
        "Who was tested?": [tested_sentence(results)],
    }
    return {question: sentences for question, sentences in found.items() if sentences}


def primary_rows(metrics: pd.DataFrame) -> pd.DataFrame:
    """Return each network's ensemble chosen on validation; without any, all distinct ensembles."""
    chosen = metrics[metrics["ensemble"] == BEST_OVERALL]
    is_distinct = (metrics["copy_of"] == "") & ~metrics["network"].isin(BASELINES)
    return chosen if len(chosen) else metrics[is_distinct]


def inputs_of(row: Row, metrics: pd.DataFrame) -> str:
    """Name what a network's ensemble takes: "DSC" of a "best overall" that is its copy.

    Empty where an ensemble chosen on validation is none of the others, as over several splits.
    """
    if row["ensemble"] not in CHOSEN:
        return str(row["ensemble"])
    is_copy = (metrics["network"] == row["network"]) & (metrics["copy_of"] == row["ensemble"])
    return next((str(n) for n in metrics[is_copy]["ensemble"] if n not in CHOSEN), "")


def chance_sentences(metrics: pd.DataFrame) -> list[str]:
    """Say of each network's primary ensemble whether it is better than chance.

    >>> row = {"network": "random", "ensemble": "DSC", "copy_of": "", "auc_p_holm": 0.01}
    >>> row |= {"auc": 0.8, "auc_low": 0.6, "auc_high": 0.9, "num_subjects": 30}
    >>> chance_sentences(pd.DataFrame([row]))  # doctest: +NORMALIZE_WHITESPACE
    ['From DSC, From scratch told methylated from unmethylated in 30 patients with an AUC of 0.80
    (0.60 to 0.90): better than chance.']
    """
    sentences: list[str] = []
    rows = primary_rows(metrics).to_dict("records")
    for row in rows:
        inputs = inputs_of(row, metrics) or "the scans that validation chose in each split"
        label, auc = network_label(row["network"]), plain(read_interval(row, "auc"))
        told = (
            f"{label}, from {inputs}: AUC {auc}"
            if sentences
            else f"From {inputs}, {label} told methylated from unmethylated in "
            f"{row['num_subjects']} patients with an AUC of {auc}"
        )
        sentences.append(f"{told}: {chance_words(row, len(rows))}.")
    return sentences


def plain(interval: Interval, digits: int = 2) -> str:
    """Format a value and its 95 % interval for a sentence.

    >>> plain(Interval(0.824, 0.641, 0.962))
    '0.82 (0.64 to 0.96)'
    """
    value, low, high = (f"{x:.{digits}f}" for x in (interval.value, interval.low, interval.high))
    return f"{value} ({low} to {high})"


def chance_words(row: Row, num_tested: int) -> str:
    """Say whether an AUC is shown to differ from chance, by its interval and its corrected test."""
    auc = read_interval(row, "auc")
    if not auc.excludes(CHANCE_AUC):
        return "better than chance is not shown"
    side = "better" if auc.low > CHANCE_AUC else "worse"
    if row["auc_p_holm"] < LEVEL:
        return f"{side} than chance"
    if math.isnan(row["auc_p_holm"]):
        return f"its interval alone would be {side} than chance, which was not tested"
    tests = f" for {num_tested} tests" * (num_tested > 1)
    return f"{side} than chance by its interval alone, but not after correction{tests}: not shown"


def pair_sentences(comparisons: pd.DataFrame) -> list[str]:
    """Say which networks' primary ensembles differ by DeLong's test; empty without any pair."""
    best = comparisons[comparisons["comparison"] == BEST_OVERALL]
    of_networks = comparisons[~comparisons["comparison"].str.startswith(BASELINE_PREFIX)]
    pairs = best if len(best) else of_networks
    tested = pairs[pairs["delong_p_holm"].notna()]
    if tested.empty:
        return []
    findings = tested[tested["delong_p_holm"] < LEVEL].to_dict("records")
    if not findings:
        return [
            f"Not shown: in none of the {len(tested)} comparisons do the AUCs differ after "
            "correction, which does not show that the networks are equal."
            if len(tested) > 1
            else "Not shown: the AUCs do not differ significantly, which does not show that the "
            "networks are equal."
        ]
    sentences = [_difference(row) for row in findings]
    rest = len(tested) - len(findings)
    return sentences + [f"In the other {rest} of {len(tested)} comparisons it is not shown."] * (
        rest > 0
    )


def _difference(row: Row) -> str:
    difference = read_interval(row, "auc_difference")
    better, worse = (network_label(row[f"network_{side}"]) for side in ("a", "b"))
    if difference.value < 0:
        better, worse = worse, better
        difference = Interval(-difference.value, -difference.high, -difference.low)
    where = "" if row["comparison"] == BEST_OVERALL else f" on {row['comparison']}"
    return f"{better} is better than {worse}{where}: its AUC is {plain(difference)} higher."


def baseline_sentences(comparisons: pd.DataFrame) -> list[str]:
    """Say which baselines each network is shown to beat; empty if none was compared."""
    against = comparisons[comparisons["comparison"].str.startswith(BASELINE_PREFIX)]
    tested = against[against["delong_p_holm"].notna()]
    networks: dict[str, list[str]] = {}
    for network, rows in tested.groupby("network_a", sort=False):
        differs = rows["delong_p_holm"] < LEVEL
        parts = {
            "better than": rows[differs & (rows["auc_difference"] > 0)],
            "worse than": rows[differs & (rows["auc_difference"] < 0)],
            "not shown to be better than": rows[~differs],
        }
        words = "; ".join(
            f"{how} {', '.join(map(_in_sentence, group['network_b']))}"
            for how, group in parts.items()
            if len(group)
        )
        networks.setdefault(words, []).append(network_label(str(network)))
    return [f"{', '.join(names)}: {words}." for words, names in networks.items()]


def _in_sentence(baseline: str) -> str:
    label = network_label(baseline)
    return f"“{label[0].lower()}{label[1:]}”"


def tested_sentence(results: StudyResults) -> str:
    """Count the test subjects, and those that the models learnt from."""
    tested = results.predictions.drop_duplicates("subject")
    kept = "who were kept apart until all models were chosen"
    learnt = f"the models learnt from {len(results.splits[0].training)} others"
    if len(results.splits) > 1:
        kept = f"in {len(results.splits)} splits, each by models that were trained without them"
        learnt = "in each split the models learnt from the others"
    num_methylated = int(tested["label"].sum())
    return f"{len(tested)} patients, {num_methylated} of them methylated, {kept}; {learnt}."


def planted_verdicts(results: StudyResults) -> tuple[tuple[PlantedVerdict, ...], bool]:
    """Return what was found of a synthetic cohort's planted signals, and whether there are any."""
    planted = results.planted or {}
    metrics = results.metrics
    shown = metrics[metrics["ensemble"].isin((*results.main_ensembles, *results.inputs))]
    signal = any(strength != 0 for strength in (planted.get("signal") or {}).values())
    return planted_verdict(shown, planted, results.groups), signal


def _with_originals_p(metrics: pd.DataFrame) -> pd.DataFrame:
    """Give each copy the corrected p-value of the ensemble that it is a copy of."""
    p = metrics.set_index(["network", "ensemble"])["auc_p_holm"]
    original = metrics["copy_of"].mask(metrics["copy_of"] == "", metrics["ensemble"])
    keys = zip(metrics["network"], original, strict=True)
    return metrics.assign(auc_p_holm=[p[key] for key in keys])


def difference_sentences(results: StudyResults) -> list[str]:
    """Report the comparisons between networks and with baselines, after Holm's correction."""
    table = results.comparisons
    main = table[table["comparison"].isin(results.main_ensembles)]
    tested = main[main["friedman_p"].notna()].drop_duplicates("comparison")
    sentences = []
    if len(tested):
        num_ranks, num_errors = (
            int((tested[f"{prefix}friedman_p_holm"] < LEVEL).sum()) for prefix in ("", "error_")
        )
        sentences.append(
            "By Friedman's test (p < 0.05 after Holm's correction) the networks' probabilities "
            f"differ in {num_ranks} of {len(tested)} ensembles, which does not say which network "
            f"is more often right, and their squared errors in {num_errors}."
        )
    against = table[table["comparison"].str.startswith(BASELINE_PREFIX)]
    for rows, kind in ((main, "pairs of networks"), (against, "comparisons with baselines")):
        compared = rows[rows["delong_p_holm"].notna()]
        if len(compared):
            num_different = int((compared["delong_p_holm"] < LEVEL).sum())
            sentences.append(
                f"AUC differs (DeLong, p < 0.05 after Holm's correction) in {num_different} of "
                f"{len(compared)} {kind}."
            )
    return sentences


def segmentation_sentences(results: StudyResults) -> list[str]:
    """Report the Dice of test patients' tumours; empty for a study that segments none."""
    overlap = results.tables.get("slice_overlap")
    if overlap is None:
        return []
    rows = overlap[(overlap["phase"] == "test") & (overlap["measure"] == "dice_volume")]
    values = "; ".join(
        f"{network_label(row['network'])} {row['modality']} {read_interval(row, 'value')}"
        for row in rows.to_dict("records")
    )
    return [f"3-D Dice of a fold's segmentation of test patients: {values}."] if values else []


def external_sentence(results: StudyResults, name: str) -> str:
    """Report the AUCs of the finished models on an external cohort."""
    metrics = results.external[name].metrics
    largest = max(metrics.to_dict("records"), key=lambda row: int(row["num_subjects"]))
    main = metrics[metrics["ensemble"].isin(results.main_ensembles)]
    shown = _with_originals_p(metrics).loc[(main if len(main) else metrics).index]
    above = shown[shown["auc_low"] > CHANCE_AUC]
    values = [
        f"{network_label(row['network'])} {row['ensemble']} {read_interval(row, 'auc')}"
        for row in above.to_dict("records")
    ]
    if values:
        finding = f"{_holm_note(above)}: {'; '.join(values)}"
    else:
        finding = ", so better than chance is not shown there"
    return (
        f"External cohort {name} (up to {largest['num_subjects']} subjects, "
        f"{largest['num_methylated']} methylated; nothing was chosen or fitted on it): "
        f"{len(above)} of {len(shown)} AUC intervals lie above 0.5{finding}."
    )


def _holm_note(rows: pd.DataFrame) -> str:
    """Count the rows, whose intervals exclude chance, that Holm's correction leaves."""
    num_findings = int((rows["auc_p_holm"] < LEVEL).sum())
    return f", {num_findings} of them after Holm’s correction (p < {LEVEL})"


def planted_sentence(verdicts: Sequence[PlantedVerdict], signal: bool) -> str:
    """Say how many ensembles agree with the planted signals.

    Args:
        verdicts: of the ensembles, at least one.
        signal: whether any signal was planted.
    """
    wrong = [v for v in verdicts if not v.matches_planted]
    total = len(verdicts)
    if signal:
        if not wrong:
            return f"All {total} ensembles tested agree with the planted signal."
        names = ", ".join(v.ensemble for v in wrong)
        return f"{len(wrong)} of {total} ensembles tested do NOT agree with it: {names}."
    expected = total * 0.05
    return (
        f"No signal was planted: {total - len(wrong)} of {total} AUC intervals contain 0.5. "
        f"About {expected:.1f} of {total} would exclude it by chance alone."
    )


def chance_cell(row: Mapping[Hashable, Any]) -> str:
    r"""Say where an AUC's interval lies, and whether it is a finding after Holm's correction.

    >>> row = {"auc": 0.7, "auc_low": 0.6, "auc_high": 0.8, "copy_of": "", "auc_p_holm": 0.01}
    >>> chance_cell(row)
    'above 0.5,\nalso after Holm'
    >>> chance_cell(row | {"copy_of": "best overall"})
    'above 0.5,\nas best overall'
    """
    auc = read_interval(row, "auc")
    if not auc.excludes(CHANCE_AUC):
        return "contains 0.5"
    side = "above 0.5" if auc.low > CHANCE_AUC else "below 0.5"
    if row["copy_of"]:
        return f"{side},\nas {row['copy_of']}"
    return f"{side},\n{'also' if row['auc_p_holm'] < LEVEL else 'not'} after Holm"
