from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.colors import to_hex

from mgmt_ray.figures.style import network_colour
from mgmt_ray.figures.training_curves import SEGMENTATION_CURVES, training_figure

MEMBERS = pd.DataFrame(
    {
        "network": ["spottune", "spottune", "spottune", "random"],
        "modality": ["PH", "PH", "T1", "PH"],
        "trial": ["a", "b", "c", "d"],
        "rule": ["best_m", "last_epoch", "best_m", "best_m"],
        "epoch": [2, 4, 3, 1],
    }
)


def epochs() -> pd.DataFrame:
    """Four epochs of each trial; every number tells its trial, side and epoch."""
    tables = [
        pd.DataFrame(
            {
                "trial": trial,
                "epoch": np.arange(1, 5),
                "train_loss": 1 + i + np.arange(4) / 10,
                "validation_loss": 5 + i + np.arange(4) / 10,
                "train_auc": 0.1 * i + np.arange(4) / 100,
                "validation_auc": 0.5 + 0.1 * i + np.arange(4) / 100,
            }
        )
        for i, trial in enumerate("abcd")
    ]
    return pd.concat(tables)


def test_each_modality_shows_its_members_on_both_sides() -> None:
    figure = training_figure(epochs(), MEMBERS, "spottune")
    assert len(figure.axes) == 4
    loss, auc = figure.axes[:2]
    assert loss.get_title(loc="left") == "SpotTune · PH"
    assert [
        float(line.get_ydata()[0]) for line in loss.get_lines() if len(line.get_xdata()) > 2
    ] == [
        1.0,
        5.0,
        2.0,
        6.0,
    ]
    assert (auc.get_ylabel(), loss.get_ylabel()) == ("AUC", "loss (nats)")
    assert figure.axes[2].get_title(loc="left") == "SpotTune · T1"


def test_the_kept_epoch_is_marked_by_its_rule_on_the_validation_curve() -> None:
    auc = training_figure(epochs(), MEMBERS, "spottune").axes[1]
    marks = [line for line in auc.get_lines() if line.get_linestyle() == "None"]
    colour = network_colour("spottune").lower()
    shown = [
        (
            line.get_xdata()[0],
            round(float(np.asarray(line.get_ydata())[0]), 6),
            line.get_marker(),
            to_hex(line.get_markerfacecolor()),
        )
        for line in marks
    ]
    assert shown == [(2, 0.51, "o", colour), (4, 0.63, "s", "#ffffff")]


def test_epochs_are_counted_in_whole_numbers() -> None:
    axes = training_figure(epochs(), MEMBERS, "spottune").axes[0]
    assert all(tick == round(tick) for tick in axes.get_xticks())


def test_segmentations_show_dice_and_the_epoch_of_the_lowest_loss() -> None:
    renamed = epochs().rename(columns=lambda name: name.replace("auc", "dice"))
    members = MEMBERS.assign(rule="lowest_loss")
    figure = training_figure(renamed, members, "spottune", SEGMENTATION_CURVES)
    assert [axes.get_ylabel() for axes in figure.axes[:2]] == ["loss", "Dice per slice"]
    (legend,) = figure.legends
    words = [text.get_text() for text in legend.get_texts()]
    assert words == ["training folds", "validation fold", "kept: lowest loss"]
