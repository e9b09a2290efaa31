"""The sections on operating points, calibration and decision curves."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from mgmt_ray.figures.calibration_plots import decision_figure, reliability_figure
from mgmt_ray.figures.figure_folder import FigureFolder
from mgmt_ray.figures.network_labels import network_label
from mgmt_ray.report.columns import Cell, columns, ensemble_or_dash, make_table
from mgmt_ray.report.ensemble_tables import BASELINE_PANEL, CHOSEN, leading_rows, merge_baselines
from mgmt_ray.report.html_table import DASH, Table, number, slug
from mgmt_ray.report.section import Picture, Section, missing_section
from mgmt_ray.report.study_results import StudyResults
from mgmt_ray.statistics.calibration import WITH_INTERVALS
from mgmt_ray.statistics.operating_points import RATES

_POINTS = {"0.5": "0.5", "validation": "chosen on validation", "prior": "prior corrected"}


def reliability_pictures(results: StudyResults, figures: FigureFolder) -> list[Picture]:
    """Draw reliability diagrams of ensembles chosen on validation and of baselines.

    The study needs a calibration table; without a reliability table the list is empty.
    """
    if "reliability" not in results.tables:
        return []
    baselines = results.baselines
    reliability = merge_baselines(results.tables["reliability"], baselines)
    calibration = merge_baselines(results.tables["calibration"], baselines)
    predictions = merge_baselines(results.predictions, baselines)
    pictures = []
    for name in leading_panels(results, reliability):
        figure = reliability_figure(reliability, calibration, predictions, name)
        path = figures.save(figure, f"reliability_{slug(name)}")
        slopes = "; ".join(
            f"{network_label(row['network'])} {row['version']} {number(row['slope'], 2)}"
            for row in calibration[calibration["ensemble"] == name].to_dict("records")
        )
        pictures.append(
            Picture(
                path,
                f"Reliability of {name}: share of methylated subjects against the mean "
                "probability, by bins, with exact intervals. On the dotted line calibration is "
                "perfect.",
                f"Reliability diagrams of {name}. Calibration slopes: {slopes}.",
            )
        )
    figures.delete_others("reliability_*.png", {picture.path for picture in pictures})
    return pictures


def decision_pictures(results: StudyResults, figures: FigureFolder) -> list[Picture]:
    """Draw decision curves of the ensembles chosen on validation."""
    decision = results.tables["decision"]
    names = [n for n in leading_panels(results, decision) if n != BASELINE_PANEL]
    path = figures.save(decision_figure(decision, names), "decision")
    shown = decision[decision["ensemble"].isin(names)]
    best = shown.assign(gain=shown["net_benefit"] - shown["treat_all"].clip(lower=0))
    gains = "; ".join(
        f"{network_label(str(network))} {ensemble} {rows['gain'].max():.3f}"
        for (network, ensemble), rows in best.groupby(["network", "ensemble"], sort=False)
    )
    caption = "Net benefit against the probability from which a patient would be treated."
    alt = (
        f"Decision curves. Largest gain over the better of treating all and treating none: {gains}."
    )
    return [Picture(path, caption, alt)]


def leading_panels(results: StudyResults, table: pd.DataFrame) -> list[str]:
    """Return names of the ensembles to draw; all baselines share the last panel."""
    available = set(table["ensemble"])
    chosen = [name for name in CHOSEN if name in available]
    names = chosen or [name for name in results.main_ensembles if name in available]
    return [*names, BASELINE_PANEL] if BASELINE_PANEL in available else names


def operating_section(results: StudyResults) -> Section:
    """Return the section on rates at three thresholds."""
    anchor, title = "operating", "Operating points"
    table = results.tables.get("operating_points")
    if table is None:
        return missing_section(anchor, title, "ensembles/operating_points.csv")
    first, others = _split_leading(results, table, operating_table, "operating_points")
    return Section(anchor, title, {"first": first, "others": others})


def calibration_section(results: StudyResults, figures: FigureFolder) -> Section:
    """Return the section on calibration: as predicted, prior corrected, temperature scaled."""
    anchor, title = "calibration", "Calibration"
    table = results.tables.get("calibration")
    if table is None:
        return missing_section(anchor, title, "ensembles/calibration.csv")
    first, others = _split_leading(results, table, calibration_table, "calibration")
    pictures = reliability_pictures(results, figures)
    return Section(anchor, title, {"first": first, "others": others, "figures": pictures})


def decision_section(results: StudyResults, figures: FigureFolder) -> Section:
    """Return the section on net benefit over thresholds."""
    anchor, title = "decision", "Decision curves"
    table = results.tables.get("decision")
    if table is None:
        return missing_section(anchor, title, "ensembles/decision.csv")
    shown = table[leading_rows(table, results.baselines, results.main_ensembles)]
    content = {"benefit": decision_table(shown), "figures": decision_pictures(results, figures)}
    return Section(anchor, title, content)


def _split_leading(
    results: StudyResults,
    table: pd.DataFrame,
    make_table: Callable[[pd.DataFrame, str], Table],
    name: str,
) -> tuple[Table, Table | None]:
    """Return the table of the rows that are shown first, and that of the others if any."""
    is_first = leading_rows(table, results.baselines, results.main_ensembles)
    first, others = table[is_first], table[~is_first]
    rest = make_table(others, f"{name}_others") if len(others) else None
    return make_table(first, name), rest


def operating_table(points: pd.DataFrame, name: str) -> Table:
    """Return rows of ``operating_points.csv`` as the table of this name."""
    point: dict[str, Cell] = {"Point": lambda row: _POINTS.get(row["point"]) or str(row["point"])}
    cells = columns("model", "network", point, "threshold", *RATES, "accuracy", "f1")
    return make_table(
        name,
        "Rates at three thresholds, with exact intervals; F1's is the bootstrap's",
        cells,
        points,
    )


def calibration_table(calibration: pd.DataFrame, name: str) -> Table:
    """Return rows of ``calibration.csv`` as the table of this name."""
    shown = ("version", "temperature", "prior_shift", *WITH_INTERVALS, "ece")
    cells = columns("model", "network", *shown)
    return make_table(name, "Calibration on the test set", cells, calibration)


def decision_table(decision: pd.DataFrame) -> Table:
    """Return net benefit at a few thresholds, next to that of treating everyone."""
    thresholds = decision["threshold"].unique()
    nearest = [min(thresholds, key=lambda t: abs(t - w)) for w in (0.2, 0.3, 0.4, 0.5)]
    chosen = list(dict.fromkeys(nearest))
    treat_all = decision.groupby("threshold")["treat_all"].first()
    rows = [("everyone", DASH, *(number(treat_all[t]) for t in chosen))]
    for _, curve in decision.groupby(["network", "ensemble"], sort=False):
        benefit = curve.set_index("threshold")["net_benefit"]
        cells = (number(benefit.get(t, float("nan"))) for t in chosen)
        first = curve.to_dict("records")[0]
        rows.append((ensemble_or_dash(first), network_label(first["network"]), *cells))
    header = ("Treated by", "Network", *(f"at {t:.2g}" for t in chosen))
    return Table("net_benefit", "Net benefit at a few thresholds", header, tuple(rows))
