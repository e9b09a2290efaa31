"""One data set as it was found: who is there, what their files hold, and who is in the cohort."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from mgmt_ray.base import MgmtError
from mgmt_ray.cluster.progress import stage
from mgmt_ray.cluster.resources import Placement
from mgmt_ray.cohort.datasets import CohortConfig, read
from mgmt_ray.cohort.inclusion import MASK, Selection, select
from mgmt_ray.cohort.persons import Crosswalk, Key, Known, by_voxels, known_in, read_crosswalk
from mgmt_ray.cohort.problem import Problem
from mgmt_ray.cohort.reader import Reading
from mgmt_ray.data.inspect_files import inspect_cohort
from mgmt_ray.preprocess.scan_inspection import Inspection
from mgmt_ray.study.folder import StudyFolder
from mgmt_ray.study.study_config import StudyConfig


@dataclass(frozen=True, slots=True)
class Found:
    """One data set.

    Attributes:
        name: of the cohort; empty for the study's own.
        config: of its reader.
        folder: of its tables.
        reading: what the reader found.
        inspections: of each subject's files, by id.
        crosswalk: rows of ids of one person.
        selection: who is in, who is out and why.
    """

    name: str
    config: CohortConfig
    folder: StudyFolder
    reading: Reading
    inspections: Mapping[str, Inspection]
    crosswalk: Crosswalk
    selection: Selection

    @property
    def people(self) -> list[Known]:
        """Everybody found, also who is out."""
        return known_in(self.reading, self.name)

    @property
    def images(self) -> dict[Key, dict[str, str]]:
        """Hashes of the scans' voxels, by subject and modality."""
        return {(self.name, s): dict(seen.hashes) for s, seen in self.inspections.items()}

    def select_again(
        self,
        reading: Reading,
        inspections: Mapping[str, Inspection],
        problems: Sequence[Problem],
    ) -> Found:
        """The same with other masks.

        Args:
            reading: with them.
            inspections: of every subject's files.
            problems: that are neither of the reading nor of a file.
        """
        selection = _select(self.name, self.config, reading, inspections, self.crosswalk, problems)
        return replace(self, reading=reading, inspections=inspections, selection=selection)


def find_subjects(
    name: str, config: CohortConfig, study: StudyConfig, folder: StudyFolder, placement: Placement
) -> Found:
    """Read a data set and look at every file; a subject whose mask is missing has scans alone.

    Args:
        name: of the cohort; empty for the study's own.
        config: of its reader.
        study: whose recipe the files must suit.
        folder: keeps what was seen of them.
        placement: with launcher "ray", Ray must be connected.

    Raises:
        MgmtError: the data set cannot be read, or no scan suits the recipe.
    """
    reading = read(config)
    recipe = study.recipe if study.takes_volumes else study.slices
    with_mask = [s for s in reading.subjects if s.mask is not None]
    without = [s for s in reading.subjects if s.mask is None]
    seen: dict[str, Inspection] = {}
    with stage(f"check {name}" if name else "check files") as step:

        def counted(done: int, total: int) -> None:
            step(len(seen) + done, len(seen) + total)

        # apart from what is seen of them with their predicted mask, so that both are kept
        for subjects, kept in ((without, folder.masks / "scans"), (with_mask, folder.inspections)):
            labels, slices = config.mask_labels, study.slices if study.takes_slices else None
            seen |= inspect_cohort(subjects, recipe, labels, kept, placement, counted, slices)
    refuse_window(seen, study)
    crosswalk = read_crosswalk(config.crosswalk)
    selection = _select(name, config, reading, seen, crosswalk)
    return Found(name, config, folder, reading, seen, crosswalk, selection)


def refuse_window(seen: Mapping[str, Inspection], study: StudyConfig) -> None:
    """Raise MgmtError, once, where every scan is too small for the recipe's window."""
    small = [p for one in seen.values() for p in one.problems if p.kind == "small_scan"]
    if small and len({p.subject for p in small}) == len(seen):
        raise MgmtError(
            f"recipe.window: {small[0].found}, and so for all {len(seen)} subjects. Fit "
            "recipe.window to your scans, and recipe.shape (window extents divided by "
            f"recipe.shrink = {study.recipe.shrink}, or more)."
        )


def same_voxels(cohorts: Sequence[Found]) -> list[tuple[Key, Key]]:
    """Pairs of subjects, in whatever cohort, that share a scan."""
    images = {key: own for found in cohorts for key, own in found.images.items()}
    return [pair[:2] for pair in by_voxels(images)]


def _select(
    name: str,
    config: CohortConfig,
    reading: Reading,
    inspections: Mapping[str, Inspection],
    crosswalk: Crosswalk,
    more: Sequence[Problem] = (),
) -> Selection:
    hashes = {subject: {**seen.hashes, **_of_mask(seen)} for subject, seen in inspections.items()}
    problems = [problem for seen in inspections.values() for problem in seen.problems]
    key = f"external.{name}" if name else "cohort"
    return select(reading, config, [*problems, *more], hashes, crosswalk, key)


def _of_mask(seen: Inspection) -> dict[str, str]:
    return {MASK: seen.mask_hash} if seen.mask_hash else {}
