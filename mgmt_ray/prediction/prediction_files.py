"""Members' predictions of held-out subjects, and the files they are written to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mgmt_ray.base import write_atomically
from mgmt_ray.selection.predictions import write_table
from mgmt_ray.study.folder import StudyFolder
from mgmt_ray.trials.segmentation_quality import SegmentationExample, average_examples

EXAMPLES = "segmentation_examples.npz"
"""In the folder of ensembles: a slice with its segmentation, of each annotated subject."""


@dataclass(frozen=True, slots=True, eq=False)
class MemberPredictions:
    """Members' predictions of held-out subjects.

    Attributes:
        table: a row per subject and member; the columns of ``PREDICTION_COLUMNS``.
        policies: a row per subject and member with an agent: the probability of tuning each block
            (``block_1`` is the first), in [0, 1]; empty where no member has an agent.
        routed: the columns of ``table``, and the policy: a row per subject, member with an agent
            and policy that is not the agent's, predicted with the same weights.
        slices: a row per slice and member that takes slices; empty without such members.
        segmentations: a row per subject and segmentation of such a member.
        examples: for each annotated subject and segmentation, the slice with the most tumour.
    """

    table: pd.DataFrame
    policies: pd.DataFrame = field(default_factory=pd.DataFrame)
    routed: pd.DataFrame = field(default_factory=pd.DataFrame)
    slices: pd.DataFrame = field(default_factory=pd.DataFrame)
    segmentations: pd.DataFrame = field(default_factory=pd.DataFrame)
    examples: tuple[SegmentationExample, ...] = ()


def join_predictions(by_member: Sequence[MemberPredictions]) -> MemberPredictions:
    """Concatenate the predictions of several members, in their order."""
    table, policies, routed, slices, segmentations = (
        pd.concat([getattr(predictions, name) for predictions in by_member], ignore_index=True)
        for name in ("table", "policies", "routed", "slices", "segmentations")
    )
    if len(segmentations):  # several members may use one segmentation
        segmentations = segmentations.drop_duplicates(["trial", "subject"], ignore_index=True)
    examples = tuple(example for predictions in by_member for example in predictions.examples)
    return MemberPredictions(table, policies, routed, slices, segmentations, examples)


def write_predictions(predicted: MemberPredictions, folder: StudyFolder) -> None:
    """Write the tables and examples that are not empty, and delete earlier ones of the others."""
    tables = {
        "member_predictions.csv": predicted.table,
        "policies.csv": predicted.policies,
        "routed_predictions.csv": predicted.routed,
        "slice_predictions.csv": predicted.slices,
        "segmentations.csv": predicted.segmentations,
    }
    for name, table in tables.items():
        if table.empty:
            (folder.ensembles / name).unlink(missing_ok=True)
        else:
            write_table(table, folder.ensembles / name)
    path = folder.ensembles / EXAMPLES
    if not predicted.examples:
        path.unlink(missing_ok=True)
        return
    arrays: dict[str, Any] = average_examples(predicted.examples)

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **arrays)

    write_atomically(path, write)
