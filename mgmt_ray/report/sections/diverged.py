"""The report's table of trainings that came to nothing."""

from __future__ import annotations

from mgmt_ray.figures.style import network_label
from mgmt_ray.report.gather import StudyResults
from mgmt_ray.report.html_table import NOTHING, Table


def diverged_table(results: StudyResults) -> Table | None:
    """Trainings in the study's folder whose loss was no longer a number; None if none was.

    They may be of an earlier version of the study, with a learning rate that has changed since.
    """
    if not results.diverged:
        return None
    rows = []
    for trial in results.diverged:
        training = trial["training_config"]
        is_routed = trial["network_config"]["kind"] == "spottune"
        rows.append(
            (
                trial["id"],
                network_label(trial["network"]),
                trial["modality"],
                f"{training['learning_rate']:g}",
                f"{training['agent_learning_rate']:g}" if is_routed else NOTHING,
                str(trial["last_good_epoch"]) if trial["last_good_epoch"] else "none",
            )
        )
    header = (
        "Trial",
        "Network",
        "Modality",
        "Learning rate",
        "Agent's\nlearning rate",
        "Last epoch with\na finite loss",
    )
    caption = "Trainings that diverged: none of them, nor others with their settings, was chosen"
    return Table("diverged", caption, header, tuple(rows))
