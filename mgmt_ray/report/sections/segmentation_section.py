"""The section on how well and how fast tumours were segmented."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mgmt_ray.base import MgmtError
from mgmt_ray.figures.segmentation_plots import SegmentedSlice, dice_figure, segmented_figure
from mgmt_ray.figures.style import (
    delete_other_figures,
    network_label,
    save_compact_figure,
    save_figure,
)
from mgmt_ray.figures.training_curves import SEGMENTATION_CURVES, training_figure
from mgmt_ray.report.gather import StudyResults, slice_networks
from mgmt_ray.report.html_table import (
    DASH,
    Table,
    drop_empty_paper_columns,
    number,
    slug,
    with_interval,
)
from mgmt_ray.report.section import Picture, Section, missing_section
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


def shown_patients(patients: pd.DataFrame) -> pd.DataFrame:
    """The worst, the median and the best test patient of each modality by 3-D Dice.

    Of an even number of patients the lower of the two in the middle is the median; of equal ones
    the first by id comes first.

    Args:
        patients: as :func:`mgmt_ray.statistics.slice_overlap.patient_overlap` returns them, of one
            network.

    Returns:
        The same columns and ``place``, one of :data:`SHOWN`; a patient may stand there twice where
        there are fewer than three.
    """
    chosen = []
    for _, own in patients.groupby("modality", sort=False):
        ordered = own.sort_values(["dice_volume", "subject"], ignore_index=True)
        rows = (0, (len(ordered) - 1) // 2, len(ordered) - 1)
        chosen.append(ordered.iloc[list(rows)].assign(place=list(SHOWN)))
    return pd.concat(chosen, ignore_index=True)


def examples_picture(out: Path, network: str, patients: pd.DataFrame) -> list[Picture]:
    """Given and predicted outlines of :func:`shown_patients`; none where no slices were kept.

    Args:
        out: the study's folder.
        network: whose segmentations.
        patients: of that network.

    Raises:
        MgmtError: the file of slices is damaged, or lacks one of the patients.
    """
    path = StudyFolder(out).ensembles / EXAMPLES
    if not path.exists():
        return []
    shown = shown_patients(patients)
    slices = _slices(path, network, shown)
    figure = out / "figures" / f"segmented_{network}.png"
    save_compact_figure(segmented_figure(slices, columns=len(SHOWN)), figure)
    spoken = "; ".join(f"{one.title}: {' '.join(one.caption.split())}" for one in slices)
    label = network_label(network)
    caption = (
        f"{label}: the worst, the median and the best test patient of each modality by 3-D Dice "
        "(mean over models), not picked by hand; each in its slice with the most given tumour, "
        "while Dice and HD95 are of the whole scan: what is wrong may be in other slices. The "
        "predicted outline is that of the mean probability over the models, so it is not quite the "
        "one that Dice and HD95 are of."
    )
    alt = f"Slices with the outlines of given and predicted tumours. {spoken}."
    return [Picture(figure, caption, alt)]


def _slices(path: Path, network: str, shown: pd.DataFrame) -> list[SegmentedSlice]:
    try:
        with np.load(path) as file:
            kept = {name: file[name] for name in ARRAYS}
    except (OSError, ValueError, KeyError) as error:
        raise MgmtError(
            f"{path}: not readable ({error}). Delete ensembles/evaluated.json and run `mgmt-ray "
            "ensemble STUDY` again."
        ) from error
    slices = []
    for row in shown.to_dict("records"):
        own = (kept["network"] == network) & (kept["modality"] == row["modality"])
        found = np.flatnonzero(own & (kept["subject"] == row["subject"]))
        if not len(found):
            raise MgmtError(
                f"{path}: no {row['modality']} slice of {row['subject']}. Delete it and "
                "ensembles/evaluated.json, and run `mgmt-ray ensemble STUDY` again."
            )
        number = found[0]  # of the first outer split that tests the patient
        words = (
            f"{row['subject']}, slice {kept['depth'][number]}\n"
            f"3-D Dice {row['dice_volume']:.3f}, HD95 {row['hd95_mm']:.1f} mm"
        )
        slices.append(
            SegmentedSlice(
                f"{row['modality']}: {row['place']}",
                words,
                kept["image"][number].astype(np.float32),
                kept["given"][number],
                kept["probability"][number].astype(np.float32),
            )
        )
    return slices


def segmentation_training_pictures(out: Path, segmentations: pd.DataFrame) -> list[Picture]:
    """Loss and Dice over epochs of the folds' own segmentations, of each network.

    Args:
        out: the study's folder.
        segmentations: :data:`mgmt_ray.statistics.slice_overlap.SEGMENTATION_COLUMNS`.

    Raises:
        MgmtError: a segmentation's epochs are not there.
    """
    folder = StudyFolder(out)
    pictures = []
    for network, own in segmentations.groupby("network", sort=False):
        trials = own[["trial", "modality"]].drop_duplicates()
        kept = [folder.read_trial(trial)["selection"] for trial in trials["trial"]]
        members = trials.assign(
            network=network,
            epoch=[choice["epoch"] for choice in kept],
            rule=[choice["rule"] for choice in kept],
        )
        command = f"mgmt-ray run STUDY --out {out}"
        tables = [
            read_table(folder.trial(trial) / "epochs.csv", command).assign(trial=trial)
            for trial in trials["trial"]
        ]
        figure = training_figure(pd.concat(tables), members, str(network), SEGMENTATION_CURVES)
        path = out / "figures" / f"segmentation_training_{network}.png"
        save_compact_figure(figure, path)
        label = network_label(str(network))
        caption = (
            f"{label}: loss and Dice per slice of every fold's own segmentation, per modality."
        )
        alt = f"Training curves of {len(trials)} segmentations of {label}."
        pictures.append(Picture(path, caption, alt))
    return pictures


ANCHOR, TITLE = "segmentation", "Segmentation"
PHASE_LABELS = {
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
    if segmentations is None or not {"slice_overlap", "slice_seconds"} <= set(results.tables):
        return [missing_section(ANCHOR, TITLE, "ensembles/segmentations.csv")]
    overlap, seconds = results.tables["slice_overlap"], results.tables["slice_seconds"]
    content = {
        "overlap": overlap_table(overlap),
        "seconds": seconds_table(seconds),
        "empty": empty_prediction_sentence(overlap),
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
    of, named = (f" of {external}", f"_{slug(external)}") if external else ("", "")
    caption = f"Segmentation{of}: mean ± deviation over models, 95 % intervals over patients"
    return drop_empty_paper_columns(Table(f"segmentation{named}", caption, header, tuple(rows)))


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
                f"{published.by_network:.2f}" if published else DASH,
                f"{published.by_hand:.0f}" if published else DASH,
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


def empty_prediction_sentence(overlap: pd.DataFrame) -> str:
    """How many segmentations of unseen patients predict no tumour at all."""
    held_out = overlap[overlap["phase"] == "test"].drop_duplicates(["network", "modality"])
    number_empty = int(held_out["num_empty"].sum())
    if not number_empty:
        return "No segmentation of a test patient is empty."
    return (
        f"{number_empty} segmentations of test patients are empty: each has a Dice of 0, and for "
        "HD95 the diagonal of the scan's grid, the largest distance there could be. The mean of "
        "HD95 is then made by these; read the median."
    )


def _mean_and_std(row: Mapping[Hashable, Any], digits: int) -> str:
    """Mean ± deviation, and the interval below where there is one."""
    if digits == 3:
        value, *interval = with_interval(row, "value").split("\n")
    else:
        value = number(row["value"], digits)
        known = row["value_low"] == row["value_low"]
        interval = [f"[{row['value_low']:.1f}, {row['value_high']:.1f}]"] * known
    deviation = row["std"]
    spread = [f"± {deviation:.{digits}f}"] * (deviation == deviation)
    return "\n".join([value, *spread, *interval])


def two_line_cell(published: MeanStd | None) -> str:
    """A published value for a narrow cell; a dash where there is none."""
    return DASH if published is None else str(published).replace(" ±", "\n±")


def _pictures(out: Path, results: StudyResults, segmentations: pd.DataFrame) -> list[Picture]:
    """Figures of each network; those of networks dropped since are deleted."""
    figures = out / "figures"
    patients = patient_overlap(segmentations)
    pictures = []
    for network, own in patients.groupby("network", sort=False):
        path = figures / f"dice_{network}.png"
        save_figure(dice_figure(own), path)
        pictures.append(Picture(path, *_dice_caption(str(network), own)))
        pictures += examples_picture(out, str(network), own)
    pictures += segmentation_training_pictures(out, segmentations)
    for pattern in ("dice_*.png", "segmented_*.png", "segmentation_training_*.png"):
        delete_other_figures(figures, pattern, {picture.path for picture in pictures})
    return pictures


def _dice_caption(network: str, patients: pd.DataFrame) -> tuple[str, str]:
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
