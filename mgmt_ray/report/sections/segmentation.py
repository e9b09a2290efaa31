"""The section on how well and how fast tumours were segmented."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from mgmt_ray.figures.dice import dice_figure
from mgmt_ray.figures.save import delete_other_figures, save_figure
from mgmt_ray.figures.style import network_label
from mgmt_ray.report.gather import StudyResults
from mgmt_ray.report.html_table import (
    NOTHING,
    Table,
    number,
    slug,
    with_interval,
    without_papers_dashes,
)
from mgmt_ray.report.kinds import slice_networks
from mgmt_ray.report.picture import Picture
from mgmt_ray.report.section import Section, not_made
from mgmt_ray.report.sections.segmented import examples_picture, segmentation_training_pictures
from mgmt_ray.statistics.paper_chen import (
    CHEN_CITATION,
    CHEN_DEVICE,
    CHEN_DICE,
    CHEN_SECONDS,
    Spread,
)
from mgmt_ray.statistics.slice_overlap import MEASURES, patient_overlap
from mgmt_ray.statistics.slice_tables import read_segmentations

ANCHOR, TITLE = "segmentation", "Segmentation"
PHASE_WORDS = {
    "train": "training",
    "validation": "validation",
    "test": "test",
    "external": "external",
}


def segmentation_sections(out: Path, results: StudyResults) -> list[Section]:
    """Tables 2 and 3 and figures 3 and 4 of Chen et al. 2020, of a study that segments.

    Args:
        out: the study's folder, which gets the figures.
        results: read from there.

    Returns:
        Nothing where no network takes slices.

    Raises:
        MgmtError: a table of segmentations is damaged.
    """
    if not slice_networks(results):
        return []
    segmentations = read_segmentations(out)
    if segmentations is None or not {"slice_overlap", "slice_seconds"} <= set(results.further):
        return [not_made(ANCHOR, TITLE, "ensembles/segmentations.csv")]
    overlap, seconds = results.further["slice_overlap"], results.further["slice_seconds"]
    content = {
        "overlap": overlap_table(overlap),
        "seconds": seconds_table(seconds),
        "empty": empty_sentence(overlap),
        "all": _pictures(out, results, segmentations),
        "several": len(results.splits) > 1,
        "citation": CHEN_CITATION,
        "device": CHEN_DEVICE,
    }
    return [Section(ANCHOR, TITLE, content)]


def overlap_table(overlap: pd.DataFrame, external: str = "") -> Table:
    """Dice and HD95 by modality and phase, beside table 2 of the paper.

    Args:
        overlap: columns of ``slice_overlap.csv``.
        external: name of the cohort that they are of; empty for the study's own.
    """
    rows = []
    keys = ["network", "modality", "phase"]
    for (network, modality, phase), own in overlap.groupby(keys, sort=False):
        measured = {row["measure"]: row for row in own.to_dict("records")}
        first = next(iter(measured.values()))
        published = CHEN_DICE.get(str(modality), {}).get(str(phase))
        dice = [_spread(measured[m], 3) for m in MEASURES if m.startswith("dice")]
        distances = [_spread(measured[m], 1) for m in MEASURES if m.startswith("hd95")]
        rows.append(
            (
                model_name(overlap, str(network), str(modality)),
                PHASE_WORDS[str(phase)],
                str(first["num_models"]),
                f"{first['num_patients']} ({first['num_slices']})",
                *dice,
                in_two_lines(published),
                *distances,
                str(first["num_empty"]),
            )
        )
    header = (
        "Modality",
        "Phase",
        "Models",
        "Patients\n(slices)",
        "Dice per\nslice",
        "Dice per\npatient",
        "3-D Dice",
        "paper's\nDice",
        "HD95 mm,\nmean",
        "HD95 mm,\nmedian",
        "Empty",
    )
    of, named = (f" of {external}", f"_{slug(external)}") if external else ("", "")
    caption = f"Segmentation{of}: mean ± deviation over models, 95 % intervals over patients"
    return without_papers_dashes(Table(f"segmentation{named}", caption, header, tuple(rows)))


def model_name(table: pd.DataFrame, network: str, modality: str) -> str:
    """The modality, and the network where the table is of several."""
    return modality if table["network"].nunique() == 1 else f"{modality}, {network_label(network)}"


def seconds_table(seconds: pd.DataFrame) -> Table:
    """Seconds per slice by modality and device, beside table 3 of the paper."""
    rows = []
    for row in seconds.to_dict("records"):
        published = CHEN_SECONDS.get(row["modality"])
        rows.append(
            (
                model_name(seconds, row["network"], row["modality"]),
                row["device"],
                str(row["num_patients"]),
                str(row["num_slices"]),
                f"{row['seconds']:.4f}",
                f"{row['seconds_least']:.4f} to {row['seconds_most']:.4f}",
                f"{published.by_network:.2f}" if published else NOTHING,
                f"{published.by_hand:.0f}" if published else NOTHING,
            )
        )
    header = (
        "Modality",
        "Device",
        "Patients",
        "Slices",
        "Seconds per slice,\nmedian",
        "least to most\nof a patient",
        "paper's\nnetwork",
        "paper's\nannotator",
    )
    return Table("segmentation_seconds", "Seconds to segment a slice", header, tuple(rows))


def empty_sentence(overlap: pd.DataFrame) -> str:
    """How many segmentations of unseen patients predict no tumour at all."""
    unseen = overlap[overlap["phase"] == "test"].drop_duplicates(["network", "modality"])
    number_empty = int(unseen["num_empty"].sum())
    if not number_empty:
        return "No segmentation of a test patient is empty."
    return (
        f"{number_empty} segmentations of test patients are empty: each has a Dice of 0, and for "
        "HD95 the diagonal of the scan's grid, the largest distance there could be. The mean of "
        "HD95 is then made by these; read the median."
    )


def _spread(row: Mapping[Hashable, Any], digits: int) -> str:
    """Mean ± deviation, and the interval below where there is one."""
    if digits == 3:
        value, *interval = with_interval(row, "value").split("\n")
    else:
        value = number(row["value"], digits)
        known = row["value_low"] == row["value_low"]
        interval = [f"[{row['value_low']:.1f}, {row['value_high']:.1f}]"] * known
    deviation = row["deviation"]
    spread = [f"± {deviation:.{digits}f}"] * (deviation == deviation)
    return "\n".join([value, *spread, *interval])


def in_two_lines(published: Spread | None) -> str:
    """A published value for a narrow cell; a dash where there is none."""
    return NOTHING if published is None else str(published).replace(" ±", "\n±")


def _pictures(out: Path, results: StudyResults, segmentations: pd.DataFrame) -> list[Picture]:
    """Figures of each network; those of networks dropped since are deleted."""
    figures = out / "figures"
    patients = patient_overlap(segmentations)
    pictures = []
    for network, own in patients.groupby("network", sort=False):
        path = figures / f"dice_{network}.png"
        save_figure(dice_figure(own), path)
        pictures.append(Picture(path, *_dice_words(str(network), own)))
        pictures += examples_picture(out, str(network), own)
    pictures += segmentation_training_pictures(out, segmentations)
    for pattern in ("dice_*.png", "segmented_*.png", "segmentation_training_*.png"):
        delete_other_figures(figures, pattern, {picture.path for picture in pictures})
    return pictures


def _dice_words(network: str, patients: pd.DataFrame) -> tuple[str, str]:
    """Caption, and what the figure shows for those who do not see it."""
    label = network_label(network)
    spoken = "; ".join(
        f"{modality}: {len(own)} patients from {own['dice_volume'].min():.3f} to "
        f"{own['dice_volume'].max():.3f}, median {own['dice_volume'].median():.3f}"
        for modality, own in patients.groupby("modality", sort=False)
    )
    return (
        f"{label}: 3-D Dice of every test patient. Dots are means over the models, lines reach "
        "from the worst model to the best, the dashed line is the mean over patients.",
        f"3-D Dice of test patients by {label}. {spoken}.",
    )
