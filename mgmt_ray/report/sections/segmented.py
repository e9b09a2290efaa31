"""Pictures of segmentations: outlines in a few test patients, and how the networks learnt."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from mgmt_ray.base import MgmtError
from mgmt_ray.figures.save import save_compact_figure
from mgmt_ray.figures.segmented import SegmentedSlice, segmented_figure
from mgmt_ray.figures.style import network_label
from mgmt_ray.figures.training_curves import SEGMENTATION_CURVES, training_figure
from mgmt_ray.report.picture import Picture
from mgmt_ray.selection.predictions import read_table
from mgmt_ray.study.folder import StudyFolder

EXAMPLES = "segmentation_examples.npz"
ARRAYS = ("image", "given", "probability", "subject", "network", "modality", "depth", "outer")
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
    spoken = "; ".join(f"{one.title}: {' '.join(one.words.split())}" for one in slices)
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
