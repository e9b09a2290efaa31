"""What several verbs ask for: the study, where files are, where work runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import OmitArgPrefixes, arg

from mgmt_ray.cluster.resources import Placement

if TYPE_CHECKING:
    from mgmt_ray.trials.context import Job

STUDYS = "(default: checkpoint of the study)"
IN_FOLDER = "(default: a database in the study's folder)"


def folder(default: str) -> object:
    """How a folder is asked for on the command line."""
    return arg(metavar="DIR", help_behavior_hint=f"(default: {default})")


StudyFile = Annotated[Path, arg(metavar="STUDY", help="study file (YAML)")]


@dataclass(frozen=True)
class Files:
    """Where files are."""

    out: Annotated[Path | None, folder("NAME_study, after the study's name")] = None
    """the study's folder"""
    data: Annotated[Path | None, folder("cohort.root of the study")] = None
    """the data set's folder"""
    checkpoint: Annotated[Path | None, arg(metavar="FILE", help_behavior_hint=STUDYS)] = None
    """MedicalNet's .pth file"""


@dataclass(frozen=True)
class Machine:
    """Where work runs."""

    address: Annotated[str, arg(metavar="ADDRESS")] = "local"
    """which Ray: "local" starts one here, "auto" finds the running one, or HOST:PORT"""
    tracking: Annotated[str | None, arg(metavar="URI", help_behavior_hint=IN_FOLDER)] = None
    """MLflow's tracking server"""
    placement: OmitArgPrefixes[Placement] = field(default_factory=Placement)

    @property
    def ray_address(self) -> str | None:
        """Which Ray; None where none is needed."""
        return self.address if self.placement.launcher == "ray" else None


def job_of(study_file: Path, files: Files, machine: Machine) -> Job:
    """The study of a file, its folder, and where its work runs.

    Raises:
        MgmtError: no such study file, or it is faulty.
    """
    from mgmt_ray.study.config import load_study
    from mgmt_ray.study.folder import StudyFolder
    from mgmt_ray.trials.context import Job

    study = load_study(study_file, files.data, files.checkpoint)
    out = files.out or Path(f"{study.name}_study")
    return Job(study, StudyFolder(out.absolute()), machine.placement, machine.tracking)
