"""What a study found, in plain words that say how sure it is."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from mgmt_ray.figures.style import network_label
from mgmt_ray.report.gather import StudyResults
from mgmt_ray.statistics.intervals import Interval, interval_of
from mgmt_ray.statistics.planted import CHANCE_AUC, PlantedVerdict
from mgmt_ray.study.folder import EXPLAIN

SUSPICIOUS_AUC = 0.75
ABSURD_LOSS = 5.0
"""In nats; a model that is 99 % sure and wrong has 4.6."""
AGAINST = "against "
"""Begins the name of a comparison of every network's best ensemble with a comparison model."""


def headline(results: StudyResults) -> list[str]:
    """The summary's sentences, one per line of thought."""
    metrics = results.metrics
    main = metrics[metrics["ensemble"].isin(results.main_ensembles)]
    first = metrics.iloc[0]
    sentences = [
        f"{len(results.members)} trained models were evaluated on {first['num_subjects']} "
        f"held-out subjects, {first['num_methylated']} of them methylated"
        f"{_in_splits(len(results.splits))}. Brackets hold 95\u00a0% intervals."
    ]
    sentences += [
        against_chance(network_label(network), main[main["network"] == network])
        for network in results.networks
        if network in set(main["network"])
    ]
    sentences += differences_in_words(results)
    sentences.append(
        f"{len(main)} AUC intervals stand here, and about one 95\u00a0% interval in twenty misses "
        "the true value by chance: the best row of many is not a finding by itself."
    )
    sentences += [external_sentence(results, name) for name in results.external]
    return sentences + cautions(results)


def differences_in_words(results: StudyResults) -> list[str]:
    """What the comparisons between networks and with comparison models show, after Holm."""
    table = results.comparisons
    main = table[table["comparison"].isin(results.main_ensembles)]
    tested = main[main["friedman_p"].notna()].drop_duplicates("comparison")
    words = []
    if len(tested):
        ranks, errors = (
            int((tested[f"{of}friedman_p_holm"] < 0.05).sum()) for of in ("", "error_")
        )
        words.append(
            f"Friedman's test (p < 0.05 after Holm's correction) tells the networks' probabilities "
            f"apart in {ranks} of {len(tested)} ensembles, which does not say which network is "
            f"more often right, and their squared errors in {errors}."
        )
    against = table[table["comparison"].str.startswith(AGAINST)]
    for rows, what in ((main, "pairs of networks"), (against, "comparisons with simple models")):
        known = rows[rows["delong_p_holm"].notna()]
        if len(known):
            found = int((known["delong_p_holm"] < 0.05).sum())
            words.append(
                f"AUC differs (DeLong, p < 0.05 after Holm's correction) in {found} of "
                f"{len(known)} {what}."
            )
    return words


def external_sentence(results: StudyResults, name: str) -> str:
    """How the finished models did on a cohort that had no part in making them."""
    metrics = results.external[name].metrics
    most = max(metrics.to_dict("records"), key=lambda row: int(row["num_subjects"]))
    main = metrics[metrics["ensemble"].isin(results.main_ensembles)]
    shown = main if len(main) else metrics
    above = [
        f"{network_label(row['network'])} {row['ensemble']} {interval_of(row, 'auc')}"
        for row in shown.to_dict("records")
        if row["auc_low"] > CHANCE_AUC
    ]
    found = "; ".join(above) if above else "none, so better than chance is not shown there"
    return (
        f"External cohort {name} (up to {most['num_subjects']} subjects, {most['num_methylated']} "
        f"methylated; nothing was chosen or fitted on it): {len(above)} of {len(shown)} AUC "
        f"intervals lie above 0.5: {found}."
    )


def against_chance(network: str, rows: pd.DataFrame) -> str:
    """How many of a network's ensembles are above chance, which, and what is not shown."""
    above: list[str] = []
    below: list[str] = []
    open_ = 0
    for row in rows.to_dict("records"):
        auc = interval_of(row, "auc")
        if not auc.excludes(CHANCE_AUC):
            open_ += 1
        else:
            side = above if auc.low > CHANCE_AUC else below
            side.append(f"{row['ensemble']} {auc}")
    if not above and not below:
        return (
            f"{network}: the AUC interval of every ensemble ({open_}) contains 0.5, so better than "
            "chance is not shown."
        )
    parts = []
    if above:
        parts.append(f"{len(above)} of {len(rows)} ensembles above chance: {'; '.join(above)}")
    if below:
        parts.append(f"{len(below)} of {len(rows)} ensembles below chance: {'; '.join(below)}")
    if open_:
        parts.append(
            f"for the other {open_} the AUC interval contains 0.5: better than chance is not shown"
        )
    return f"{network}: " + ". ".join(part[0].upper() + part[1:] for part in parts) + "."


def _in_splits(number: int) -> str:
    if number == 1:
        return ""
    return f", in {number} splits, each subject by models that were trained without it"


def cautions(results: StudyResults) -> list[str]:
    """What a reader must know before trusting the numbers."""
    metrics = pd.concat([results.metrics, *(e.metrics for e in results.external.values())])
    found = []
    if results.planted is not None:
        found.append(
            "The cohort is synthetic: the numbers test the software and say nothing about patients."
        )
    elif (metrics["auc"] > SUSPICIOUS_AUC).any():
        found.append(
            f"An AUC above {SUSPICIOUS_AUC} is more than large honest studies of this question "
            "reach (0.55 to 0.67): look for leakage before believing it."
        )
    separated = metrics["auc"].isin((0, 1)) & (metrics["auc_low"] == metrics["auc_high"])
    if separated.any():
        found.append(
            "Where the classes are perfectly separated the bootstrap interval of AUC and AP "
            "shrinks to a point; read the exact intervals of SEN and SPE there."
        )
    found += _absurd_losses(results)
    found += _repeated_openings(results)
    found += [
        f"External cohort {name} was predicted {len(external.openings)} times; choices made after "
        "the first may have seen it."
        for name, external in results.external.items()
        if len(external.openings) > 1
    ]
    return found


def _absurd_losses(results: StudyResults) -> list[str]:
    """Members that are finite, and yet far worse than a guess."""
    kept = results.members.merge(results.epochs, on=["trial", "epoch"])
    number = int((kept["validation_loss"] > ABSURD_LOSS).sum())
    if not number:
        return []
    return [
        f"{number} of {len(kept)} members have a validation loss above {ABSURD_LOSS:g} nats, where "
        "a guess has 0.69: their learning rate was too high."
    ]


def _repeated_openings(results: StudyResults) -> list[str]:
    """Openings for pictures are told apart: no number in the report follows from them."""
    pictures = sum(opening.get("purpose") == EXPLAIN for opening in results.openings)
    others = len(results.openings) - pictures
    found = []
    if others > 1:
        found.append(
            f"The test set was opened {others} times; choices made after the first "
            "opening may have seen it."
        )
    if pictures:
        times = "once" if pictures == 1 else f"{pictures} times"
        found.append(
            f"Test subjects were looked at {times} to explain predictions (`mgmt-ray explain`); "
            "choices made after that may have seen them."
        )
    return found


def verdict_on_planted(verdicts: Sequence[PlantedVerdict], signal: bool) -> str:
    """One sentence over all verdicts on what was planted."""
    wrong = [v for v in verdicts if not v.as_planted]
    total = len(verdicts)
    if signal:
        if not wrong:
            return f"All {total} ensembles judged are as planted."
        named = ", ".join(v.ensemble for v in wrong)
        return f"{len(wrong)} of {total} ensembles judged are NOT as planted: {named}."
    expected = total * 0.05
    return (
        f"No signal was planted: {total - len(wrong)} of {total} AUC intervals contain 0.5. "
        f"About {expected:.1f} of {total} would exclude it by chance alone."
    )


def chance_words(auc: Interval) -> str:
    """Where an AUC's interval lies, for a table's cell."""
    if not auc.excludes(CHANCE_AUC):
        return "contains 0.5"
    return "above 0.5" if auc.low > CHANCE_AUC else "below 0.5"
