"""The section on the accuracy and speed of tumour segmentation."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mgmt_ray.base import MgmtError
from mgmt_ray.figures.figure_folder import FigureFolder
from mgmt_ray.figures.network_labels import network_label
from mgmt_ray.figures.segmentation_plots import SegmentedSlice, dice_figure, segmented_figure
from mgmt_ray.figures.training_curves import SEGMENTATION_CURVES, training_figure
from mgmt_ray.report.columns import Cell, Row, make_table, rounded, text
from mgmt_ray.report.html_table import (
    DASH,
    Table,
    beside_paper,
    number,
    slug,
    with_interval,
)
from mgmt_ray.report.section import Picture, Section, missing_section
from mgmt_ray.report.study_results import StudyResults, slice_networks
from mgmt_ray.selection.predictions import read_table
from mgmt_ray.statistics.published_results import (
    CHEN_CITATION,
    CHEN_DEVICE,
    CHEN_DICE,
    CHEN_SECONDS,
    MeanStd,
)
from mgmt_ray.statistics.slice_classification import read_segmentations
from mgmt_ray.statistics.slice_overlap import MEASURES, patient_overlap
from mgmt_ray.study.folder import StudyFolder

EXAMPLES = "segmentation_examples.npz"
ARRAYS = ("image", "given", "probability", "subject", "network", "modality", "depth", "outer_fold")
SHOWN = ("worst", "median", "best")
ANCHOR, TITLE = "segmentation", "Segmentation"
PHASE_LABELS = {
    "train": "training",
    "validation": "validation",
    "test": "test",
    "external": "external",
}


def shown_patients(patients: pd.DataFrame) -> pd.DataFrame:
    """Select the worst, the median and the best test patient of each modality by 3-D Dice.

    Of an even number of patients the lower of the two in the middle is the median; equal ones are
    sorted by id.

    Args:
        patients: of one network, from :func:`mgmt_ray.statistics.slice_overlap.patient_overlap`.

    Returns:
        The same columns and ``place``, one of :data:`SHOWN`; a patient appears more than once if
        there are fewer than three.

    >>> dice = {"A": 0.5, "B": 0.9, "C": 0.1}
    >>> patients = pd.DataFrame(dice.items(), columns=["subject", "dice_volume"])
    >>> list(shown_patients(patients.assign(modality="FLAIR"))["subject"])
    ['C', 'A', 'B']
    """
    chosen = []
    for _, group in patients.groupby("modality", sort=False):
        ordered = group.sort_values(["dice_volume", "subject"], ignore_index=True)
        rows = (0, (len(ordered) - 1) // 2, len(ordered) - 1)
        chosen.append(ordered.iloc[list(rows)].assign(place=list(SHOWN)))
    return pd.concat(chosen, ignore_index=True)


def examples_picture(
    out: Path, network: str, patients: pd.DataFrame, figures: FigureFolder
) -> list[Picture]:
    """Draw given and predicted masks of :func:`shown_patients`; empty if no slices were kept.

    Args:
        patients: of that network, see :func:`shown_patients`.

    Raises:
        MgmtError: the file of slices is damaged, or has no slice of one of the patients.
    """
    path = StudyFolder(out).ensembles / EXAMPLES
    if not path.exists():
        return []
    shown = shown_patients(patients)
    slices = _slices(path, network, shown)
    figure = segmented_figure(slices, columns=len(SHOWN))
    path = figures.save(figure, f"segmented_{network}", compact=True)
    texts = "; ".join(f"{item.title}: {' '.join(item.caption.split())}" for item in slices)
    label = network_label(network)
    caption = (
        f"{label}: the worst, the median and the best test patient of each modality by 3-D Dice "
        "(mean over models), not picked by hand; each in its slice with the most given tumour, "
        "while Dice and HD95 are of the whole scan: errors may be in other slices. The predicted "
        "outline is that of the mean probability over the models, while Dice and HD95 are means "
        "over the models' own masks."
    )
    alt = f"Slices with the outlines of given and predicted tumours. {texts}."
    return [Picture(path, caption, alt)]


def _slices(path: Path, network: str, shown: pd.DataFrame) -> list[SegmentedSlice]:
    try:
        with np.load(path) as file:
            kept = {name: file[name] for name in ARRAYS}
    except (OSError, ValueError, KeyError) as error:
        raise MgmtError(
            f"{path}: not readable ({error}). Delete ensembles/evaluated.json and rerun `mgmt-ray "
            "ensemble STUDY`."
        ) from error
    slices = []
    for row in shown.to_dict("records"):
        is_model = (kept["network"] == network) & (kept["modality"] == row["modality"])
        indices = np.flatnonzero(is_model & (kept["subject"] == row["subject"]))
        if not len(indices):
            raise MgmtError(
                f"{path}: no {row['modality']} slice of {row['subject']}. Delete it and "
                "ensembles/evaluated.json, and rerun `mgmt-ray ensemble STUDY`."
            )
        index = indices[0]  # of the first outer split that tests the patient
        words = (
            f"{row['subject']}, slice {kept['depth'][index]}\n"
            f"3-D Dice {row['dice_volume']:.3f}, HD95 {row['hd95_mm']:.1f} mm"
        )
        slices.append(
            SegmentedSlice(
                f"{row['modality']}: {row['place']}",
                words,
                kept["image"][index].astype(np.float32),
                kept["given"][index],
                kept["probability"][index].astype(np.float32),
            )
        )
    return slices


def segmentation_training_pictures(
    out: Path, segmentations: pd.DataFrame, figures: FigureFolder
) -> list[Picture]:
    """Draw loss and Dice over epochs of the folds' segmentation networks, for each network.

    Args:
        segmentations: :data:`mgmt_ray.statistics.slice_overlap.SEGMENTATION_COLUMNS`.

    Raises:
        MgmtError: a segmentation's ``epochs.csv`` is missing.
    """
    folder = StudyFolder(out)
    pictures = []
    for network, rows in segmentations.groupby("network", sort=False):
        trials = rows[["trial", "modality"]].drop_duplicates()
        choices = [folder.read_trial(trial)["selection"] for trial in trials["trial"]]
        members = trials.assign(
            network=network,
            epoch=[choice["epoch"] for choice in choices],
            rule=[choice["rule"] for choice in choices],
        )
        command = f"mgmt-ray run STUDY --out {out}"
        tables = [
            read_table(folder.trial(trial) / "epochs.csv", command).assign(trial=trial)
            for trial in trials["trial"]
        ]
        figure = training_figure(pd.concat(tables), members, str(network), SEGMENTATION_CURVES)
        path = figures.save(figure, f"segmentation_training_{network}", compact=True)
        label = network_label(str(network))
        caption = f"{label}: loss and Dice per slice of every fold's segmentation, by modality."
        alt = f"Training curves of {len(trials)} segmentations of {label}."
        pictures.append(Picture(path, caption, alt))
    return pictures


def segmentation_sections(out: Path, results: StudyResults, figures: FigureFolder) -> list[Section]:
    """Return the section with tables 2 and 3 and figures 3 and 4 of Chen et al. 2020.

    It is omitted if no network takes slices.

    Raises:
        MgmtError: a table of segmentations is damaged.
    """
    if not slice_networks(results):
        return []
    segmentations = read_segmentations(out)
    if segmentations is None or not {"slice_overlap", "slice_seconds"} <= set(results.tables):
        return [missing_section(ANCHOR, TITLE, "ensembles/segmentations.csv")]
    overlap, seconds = results.tables["slice_overlap"], results.tables["slice_seconds"]
    content = {
        "overlap": overlap_table(overlap),
        "seconds": seconds_table(seconds),
        "empty": empty_prediction_sentence(overlap),
        "figures": _pictures(out, segmentations, figures),
        "several": len(results.splits) > 1,
        "citation": CHEN_CITATION,
        "device": CHEN_DEVICE,
    }
    return [Section(ANCHOR, TITLE, content)]


def overlap_table(overlap: pd.DataFrame, external: str = "") -> Table:
    """Return Dice and HD95 by modality and phase, next to table 2 of Chen et al. 2020.

    Args:
        overlap: columns of ``slice_overlap.csv``.
        external: name of an external cohort; empty for the study's own.
    """
    rows = []
    keys = ["network", "modality", "phase"]
    for (network, modality, phase), group in overlap.groupby(keys, sort=False):
        measured = {row["measure"]: row for row in group.to_dict("records")}
        first = next(iter(measured.values()))
        published = CHEN_DICE.get(str(modality), {}).get(str(phase))
        dice = [_mean_and_std(measured[m], 3) for m in MEASURES if m.startswith("dice")]
        distances = [_mean_and_std(measured[m], 1) for m in MEASURES if m.startswith("hd95")]
        rows.append(
            (
                model_name(overlap, str(network), str(modality)),
                PHASE_LABELS[str(phase)],
                str(first["num_models"]),
                f"{first['num_patients']} ({first['num_slices']})",
                *dice,
                two_line_cell(published),
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
    cohort, suffix = (f" of {external}", f"_{slug(external)}") if external else ("", "")
    caption = (
        f"Segmentation{cohort}: mean ± standard deviation over models, 95 % intervals over patients"
    )
    table = Table(f"segmentation{suffix}", caption, header, tuple(rows))
    return beside_paper(table, is_of_paper=True)


def model_name(table: pd.DataFrame, network: str, modality: str) -> str:
    """Return the modality, and the network's label if the table has several networks.

    >>> model_name(pd.DataFrame({"network": ["chen", "chen_small"]}), "chen", "FLAIR")
    'FLAIR, chen'
    """
    return modality if table["network"].nunique() == 1 else f"{modality}, {network_label(network)}"


def seconds_table(seconds: pd.DataFrame) -> Table:
    """Return seconds per slice by modality and device, next to table 3 of Chen et al. 2020."""

    def published(row: Row) -> tuple[str, str]:
        chen = CHEN_SECONDS.get(row["modality"])
        return (f"{chen.by_network:.2f}", f"{chen.by_hand:.0f}") if chen else (DASH, DASH)

    cells: dict[str, Cell] = {
        "Modality": lambda row: model_name(seconds, row["network"], row["modality"]),
        "Device": text("device"),
        "Patients": text("num_patients"),
        "Slices": text("num_slices"),
        "Seconds per slice,\nmedian": rounded("seconds", 4),
        "range over\npatients": lambda row: (
            f"{row['seconds_least']:.4f} to {row['seconds_most']:.4f}"
        ),
        "paper's\nnetwork": lambda row: published(row)[0],
        "paper's\nannotator": lambda row: published(row)[1],
    }
    return make_table("segmentation_seconds", "Seconds to segment a slice", cells, seconds)


def empty_prediction_sentence(overlap: pd.DataFrame) -> str:
    """Count the segmentations of test patients that predict no tumour."""
    held_out = overlap[overlap["phase"] == "test"].drop_duplicates(["network", "modality"])
    num_empty = int(held_out["num_empty"].sum())
    if not num_empty:
        return "No segmentation of a test patient is empty."
    return (
        f"{num_empty} segmentations of test patients are empty: each has a Dice of 0, and as HD95 "
        "the diagonal of the scan's grid, the largest distance possible. These dominate the mean "
        "of HD95; read the median."
    )


def _mean_and_std(row: Mapping[Hashable, Any], digits: int) -> str:
    """Format mean ± standard deviation, and on the next line the interval if there is one."""
    if digits == 3:
        value, *interval = with_interval(row, "value").split("\n")
    else:
        value = number(row["value"], digits)
        has_interval = not math.isnan(row["value_low"])
        interval = [f"[{row['value_low']:.1f}, {row['value_high']:.1f}]"] * has_interval
    deviation = row["std"]
    std = [] if math.isnan(deviation) else [f"± {deviation:.{digits}f}"]
    return "\n".join([value, *std, *interval])


def two_line_cell(published: MeanStd | None) -> str:
    """Break a published mean and standard deviation over two lines; a dash for None."""
    return DASH if published is None else str(published).replace(" ±", "\n±")


def _pictures(out: Path, segmentations: pd.DataFrame, figures: FigureFolder) -> list[Picture]:
    """Draw the figures of each network; delete those of networks dropped since."""
    patients = patient_overlap(segmentations)
    pictures = []
    for network, group in patients.groupby("network", sort=False):
        path = figures.save(dice_figure(group), f"dice_{network}")
        pictures.append(Picture(path, *_dice_texts(str(network), group)))
        pictures += examples_picture(out, str(network), group, figures)
    pictures += segmentation_training_pictures(out, segmentations, figures)
    for pattern in ("dice_*.png", "segmented_*.png", "segmentation_training_*.png"):
        figures.delete_others(pattern, {picture.path for picture in pictures})
    return pictures


def _dice_texts(network: str, patients: pd.DataFrame) -> tuple[str, str]:
    """Return the figure's caption and alternative text."""
    label = network_label(network)
    ranges = "; ".join(
        f"{modality}: {len(group)} patients from {group['dice_volume'].min():.3f} to "
        f"{group['dice_volume'].max():.3f}, median {group['dice_volume'].median():.3f}"
        for modality, group in patients.groupby("modality", sort=False)
    )
    return (
        f"{label}: 3-D Dice of every test patient. Dots are means over the models, lines reach "
        "from the worst model to the best, the dashed line is the mean over patients.",
        f"3-D Dice of test patients by {label}. {ranges}.",
    )
