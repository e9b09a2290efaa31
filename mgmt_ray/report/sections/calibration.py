"""The report's pictures of calibration and of decision curves."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from mgmt_ray.figures.decision import decision_figure
from mgmt_ray.figures.reliability import reliability_figure
from mgmt_ray.figures.save import delete_other_figures, save_figure
from mgmt_ray.figures.style import network_label
from mgmt_ray.report.gather import StudyResults
from mgmt_ray.report.html_table import number, slug
from mgmt_ray.report.picture import Picture
from mgmt_ray.report.science_tables import CHOSEN, COMPARISON_PANEL, with_models_together


def reliability_pictures(results: StudyResults, figures: Path) -> list[Picture]:
    """Reliability diagrams of what was chosen on validation, and of comparison models.

    Args:
        results: of a study with calibration; without reliability there is no picture.
        figures: folder that gets them.
    """
    if "reliability" not in results.further:
        return []
    models = results.comparison_models
    reliability = with_models_together(results.further["reliability"], models)
    calibration = with_models_together(results.further["calibration"], models)
    predictions = with_models_together(results.predictions, models)
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
    decision = results.further["decision"]
    names = [n for n in leading_panels(results, decision) if n != COMPARISON_PANEL]
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
    return [*names, COMPARISON_PANEL] if COMPARISON_PANEL in there else names
