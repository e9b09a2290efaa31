"""The sections beyond the threshold of 0.5: operating points, calibration, decision curves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd

from mgmt_ray.figures.calibration_plots import decision_figure, reliability_figure
from mgmt_ray.figures.style import delete_other_figures, network_label, save_figure
from mgmt_ray.report.gather import StudyResults
from mgmt_ray.report.html_table import Table, number, slug, with_interval
from mgmt_ray.report.science_tables import BASELINE_PANEL, CHOSEN, leading_rows, merge_baselines
from mgmt_ray.report.section import Picture, Section, missing_section


def reliability_pictures(results: StudyResults, figures: Path) -> list[Picture]:
    """Reliability diagrams of what was chosen on validation, and of comparison models.

    Args:
        results: of a study with calibration; without reliability there is no picture.
        figures: folder that gets them.
    """
    if "reliability" not in results.tables:
        return []
    models = results.baselines
    reliability = merge_baselines(results.tables["reliability"], models)
    calibration = merge_baselines(results.tables["calibration"], models)
    predictions = merge_baselines(results.predictions, models)
    pictures = []
    for name in leading_panels(results, reliability):
        path = figures / f"reliability_{slug(name)}.png"
        save_figure(reliability_figure(reliability, calibration, predictions, name), path)
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
    delete_other_figures(figures, "reliability_*.png", {picture.path for picture in pictures})
    return pictures


def decision_pictures(results: StudyResults, figures: Path) -> list[Picture]:
    """Decision curves of what was chosen on validation, and of comparison models."""
    decision = results.tables["decision"]
    names = [n for n in leading_panels(results, decision) if n != BASELINE_PANEL]
    path = figures / "decision.png"
    save_figure(decision_figure(decision, names), path)
    shown = decision[decision["ensemble"].isin(names)]
    best = shown.assign(gain=shown["net_benefit"] - shown["treat_all"].clip(lower=0))
    gains = "; ".join(
        f"{network_label(str(network))} {ensemble} {rows['gain'].max():.3f}"
        for (network, ensemble), rows in best.groupby(["network", "ensemble"], sort=False)
    )
    caption = "Net benefit against the probability from which one would act."
    alt = f"Decision curves. Largest gain over the better of treating all and none: {gains}."
    return [Picture(path, caption, alt)]


def leading_panels(results: StudyResults, table: pd.DataFrame) -> list[str]:
    """Names of the ensembles to draw, comparison models last and together."""
    there = set(table["ensemble"])
    chosen = [name for name in CHOSEN if name in there]
    names = chosen or [name for name in results.main_ensembles if name in there]
    return [*names, BASELINE_PANEL] if BASELINE_PANEL in there else names


IN_THE_LARGE = "intercept_at_slope_1"
_POINTS = {"0.5": "0.5", "validation": "chosen on validation", "prior": "prior corrected"}


def operating_section(results: StudyResults) -> Section:
    """Rates at three thresholds."""
    anchor, title = "operating", "Operating points"
    table = results.tables.get("operating_points")
    if table is None:
        return missing_section(anchor, title, "ensembles/operating_points.csv")
    first, others = _split_leading(results, table, operating_table, "operating_points")
    return Section(anchor, title, {"first": first, "others": others})


def calibration_section(results: StudyResults, figures: Path) -> Section:
    """Calibration as predicted, corrected for the training prior, and temperature scaled."""
    anchor, title = "calibration", "Calibration"
    table = results.tables.get("calibration")
    if table is None:
        return missing_section(anchor, title, "ensembles/calibration.csv")
    first, others = _split_leading(results, table, calibration_table, "calibration")
    pictures = reliability_pictures(results, figures)
    return Section(anchor, title, {"first": first, "others": others, "all": pictures})


def decision_section(results: StudyResults, figures: Path) -> Section:
    """Net benefit over thresholds."""
    anchor, title = "decision", "Decision curves"
    table = results.tables.get("decision")
    if table is None:
        return missing_section(anchor, title, "ensembles/decision.csv")
    shown = table[leading_rows(table, results.baselines, results.main_ensembles)]
    content = {"benefit": decision_table(shown), "all": decision_pictures(results, figures)}
    return Section(anchor, title, content)


def _split_leading(
    results: StudyResults,
    table: pd.DataFrame,
    show: Callable[[pd.DataFrame, str], Table],
    name: str,
) -> tuple[Table, Table | None]:
    """What a reader wants first, and the rest."""
    first = leading_rows(table, results.baselines, results.main_ensembles)
    others = table[~first]
    return show(table[first], name), show(others, f"{name}_others") if len(others) else None


def operating_table(points: pd.DataFrame, name: str) -> Table:
    """Rows of ``operating_points.csv``."""
    rows = tuple(
        (
            *_row_names(row["network"], row["ensemble"]),
            _POINTS.get(row["point"], row["point"]),
            number(row["threshold"]),
            *(with_interval(row, rate) for rate in ("sen", "spe", "ppv", "npv")),
        )
        for row in points.to_dict("records")
    )
    header = ("Ensemble", "Network", "Point", "Threshold", "SEN", "SPE", "PPV", "NPV")
    return Table(name, "Rates at three thresholds, with exact intervals", header, rows)


def calibration_table(calibration: pd.DataFrame, name: str) -> Table:
    """Rows of ``calibration.csv``."""
    rows = tuple(
        (
            *_row_names(row["network"], row["ensemble"]),
            row["version"],
            number(row["temperature"]),
            number(row["prior_shift"]),
            *(with_interval(row, m) for m in ("brier", "slope", "intercept", IN_THE_LARGE)),
            number(row["ece"]),
        )
        for row in calibration.to_dict("records")
    )
    header = (
        "Ensemble",
        "Network",
        "Probabilities",
        "Temperature",
        "Prior's\nshift",
        "Brier",
        "Slope",
        "Intercept\n(with the slope)",
        "Calibration\nin the large",
        "ECE",
    )
    return Table(name, "Calibration on the test set", header, rows)


def decision_table(decision: pd.DataFrame) -> Table:
    """Net benefit at a few thresholds, beside that of treating everybody."""
    wanted = (0.2, 0.3, 0.4, 0.5)
    nearest = [min(decision["threshold"].unique(), key=lambda t: abs(t - w)) for w in wanted]
    chosen = list(dict.fromkeys(nearest))
    everybody = decision.groupby("threshold")["treat_all"].first()
    rows = [("everybody", "–", *(number(everybody[t]) for t in chosen))]
    for (network, ensemble), own in decision.groupby(["network", "ensemble"], sort=False):
        benefit = own.set_index("threshold")["net_benefit"]
        cells = (number(benefit.get(t, float("nan"))) for t in chosen)
        rows.append((*_row_names(str(network), str(ensemble)), *cells))
    header = ("Treated by", "Network", *(f"at {t:.2g}" for t in chosen))
    return Table("net_benefit", "Net benefit at a few thresholds", header, tuple(rows))


def _row_names(network: str, ensemble: str) -> tuple[str, str]:
    return ("–" if network == ensemble else ensemble, network_label(network))
