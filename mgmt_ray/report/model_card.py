"""The model card (Mitchell et al. 2019) of a study's models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mgmt_ray.figures.network_labels import network_label
from mgmt_ray.report.cautions import cautions
from mgmt_ray.report.section import Section
from mgmt_ray.report.study_results import StudyResults
from mgmt_ray.selection.best_on_validation import BEST_OVERALL
from mgmt_ray.statistics.intervals import read_interval
from mgmt_ray.training.metrics import METRIC_LABELS

OPEN = "Open: to be written by the authors."
_ESCAPED = str.maketrans({character: f"\\{character}" for character in "\\`*_{}[]<>#|"})


@dataclass(frozen=True, slots=True)
class CardPart:
    """A heading of the card with its lines."""

    title: str
    lines: tuple[str, ...]


def model_card(results: StudyResults, statements: Mapping[str, str]) -> tuple[CardPart, ...]:
    """Return the card's parts, in the order of Mitchell et al. 2019, sec. 4.

    Args:
        statements: from :func:`mgmt_ray.report.study_facts.study_statements`.
    """

    def lines(*names: str) -> tuple[str, ...]:
        sentences = tuple(
            f"{_capitalise(statements[name])}." for name in names if name in statements
        )
        return sentences or (OPEN,)

    limits = (
        "The test set is small: see the intervals.",
        "Published models of this question generalise poorly to other cohorts.",
    )
    return (
        CardPart(
            "Model", lines("technology", "model", "initialisation", "ensembles", "availability")
        ),
        CardPart(
            "Intended use",
            (
                "Research on whether MGMT promoter methylation can be predicted from MRI.",
                "Not for clinical use: not for diagnosis, prognosis or the choice of a treatment.",
                f"Further uses and users. {OPEN}",
            ),
        ),
        CardPart("Factors", lines("fairness", "characteristics")),
        CardPart("Metrics", lines("metrics", "uncertainty", "output")),
        CardPart("Training data", lines("source", "reference", "preprocessing", "imbalance")),
        CardPart("Evaluation data", lines("partitions", "internal", "external")),
        CardPart("Results on the test set", _test_results(results)),
        CardPart("Ethical considerations", (OPEN,)),
        CardPart("Caveats", (*cautions(results), *limits)),
    )


def _test_results(results: StudyResults) -> tuple[str, ...]:
    metrics = results.metrics
    best = metrics[metrics["ensemble"] == BEST_OVERALL]
    shown = best if len(best) else metrics[metrics["ensemble"].isin(results.main_ensembles)]
    return tuple(
        f"{network_label(row['network'])}, {row['ensemble']}: "
        + ", ".join(f"{label} {read_interval(row, m)}" for m, label in METRIC_LABELS.items())
        + "."
        for row in shown.to_dict("records")
    )


def card_section(parts: tuple[CardPart, ...]) -> Section:
    """Return the card as a section of the report."""
    return Section("card", "Model card", {"parts": parts})


def card_markdown(name: str, parts: tuple[CardPart, ...]) -> str:
    r"""Return the card of the study of this name as Markdown; text from files is escaped.

    >>> print(card_markdown("my_study", (CardPart("Metrics", ("AUC.",)),)))
    # Model card: my\_study
    <BLANKLINE>
    ## Metrics
    <BLANKLINE>
    - AUC.
    <BLANKLINE>
    """
    lines = [f"# Model card: {name.translate(_ESCAPED)}"]
    for part in parts:
        lines += ["", f"## {part.title}", ""]
        lines += [f"- {line.translate(_ESCAPED)}" for line in part.lines]
    return "\n".join(lines) + "\n"


def _capitalise(text: str) -> str:
    return text[:1].upper() + text[1:]
