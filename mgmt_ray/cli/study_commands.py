"""What several verbs ask for: the study, where files are, where work runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import OmitArgPrefixes, arg

from mgmt_ray.cluster.resources import Resources

if TYPE_CHECKING:
    from mgmt_ray.trials.context import StudyContext
import sys
from dataclasses import replace
from typing import Literal

from tyro.conf import Positional

STUDYS = "(default: checkpoint of the study)"
IN_FOLDER = "(default: a database in the study's folder)"


def folder_option(default: str) -> object:
    """How a folder is asked for on the command line."""
    return arg(metavar="DIR", help_behavior_hint=f"(default: {default})")


StudyFile = Annotated[Path, arg(metavar="STUDY", help="study file (YAML)")]


@dataclass(frozen=True)
class Files:
    """Where files are."""

    out: Annotated[Path | None, folder_option("NAME_study, after the study's name")] = None
    """the study's folder"""
    data: Annotated[Path | None, folder_option("cohort.root of the study")] = None
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
    resources: OmitArgPrefixes[Resources] = field(default_factory=Resources)

    @property
    def ray_address(self) -> str | None:
        """Which Ray; None where none is needed."""
        return self.address if self.resources.backend == "ray" else None


def study_context(study_file: Path, files: Files, machine: Machine) -> StudyContext:
    """The study of a file, its folder, and where its work runs.

    Raises:
        MgmtError: no such study file, or it is faulty.
    """
    from mgmt_ray.study.folder import StudyFolder
    from mgmt_ray.study.study_config import load_study
    from mgmt_ray.trials.context import StudyContext

    study = load_study(study_file, files.data, files.checkpoint)
    out = files.out or Path(f"{study.name}_study")
    return StudyContext(study, StudyFolder(out.absolute()), machine.resources, machine.tracking)


@dataclass(frozen=True)
class SelectCohort:
    """Select the study's subjects, look at every file, list all that is wrong, print the flow."""

    study: Positional[StudyFile]
    figures: bool = False
    """draw contact sheets, intensity histograms and augmentations too"""
    files: OmitArgPrefixes[Files] = field(default_factory=Files)
    machine: OmitArgPrefixes[Machine] = field(default_factory=Machine)

    def run(self) -> None:
        """Read the data set."""
        from mgmt_ray.cluster.connection import connect_ray
        from mgmt_ray.pipeline.select_cohorts import show_cohorts
        from mgmt_ray.pipeline.stages import plot_cohort, select

        context = study_context(self.study, self.files, self.machine)
        with context.folder.lock(), connect_ray(self.machine.ray_address):
            selected = select(context)
            show_cohorts(context.study, selected)
            if self.figures:
                plot_cohort(context, selected)


@dataclass(frozen=True)
class Prepare:
    """Make the volumes of every subject and modality that are missing or out of date."""

    study: Positional[StudyFile]
    files: OmitArgPrefixes[Files] = field(default_factory=Files)
    machine: OmitArgPrefixes[Machine] = field(default_factory=Machine)

    def run(self) -> None:
        """Bring cohort and volumes up to date."""
        from mgmt_ray.cluster.connection import connect_ray
        from mgmt_ray.pipeline.select_cohorts import show_cohorts
        from mgmt_ray.pipeline.stages import prepare, select

        context = study_context(self.study, self.files, self.machine)
        with context.folder.lock(), connect_ray(self.machine.ray_address):
            selected = select(context)
            show_cohorts(context.study, selected)
            prepare(context, selected)


@dataclass(frozen=True)
class Plan:
    """List the study's trials and which of them are finished; write splits.json."""

    study: Positional[StudyFile]
    files: OmitArgPrefixes[Files] = field(default_factory=Files)
    machine: OmitArgPrefixes[Machine] = field(default_factory=Machine)

    def run(self) -> None:
        """Select, split and list; nothing is trained."""
        from mgmt_ray.cluster.connection import connect_ray
        from mgmt_ray.pipeline.printing import show_plan
        from mgmt_ray.pipeline.select_cohorts import show_cohorts
        from mgmt_ray.pipeline.stages import plan_study, select

        context = study_context(self.study, self.files, self.machine)
        with context.folder.lock(), connect_ray(self.machine.ray_address):
            selected = select(context)
            show_cohorts(context.study, selected)
            plan = plan_study(context, selected)
            show_plan(context.study, context.folder, selected.cohort, *plan)


@dataclass(frozen=True)
class Run:
    """Bring the study up to date: whatever of volumes, trials, ensembles and report is missing."""

    study: Positional[StudyFile]
    files: OmitArgPrefixes[Files] = field(default_factory=Files)
    machine: OmitArgPrefixes[Machine] = field(default_factory=Machine)

    def run(self) -> None:
        """All stages; repeat the command to continue after an interruption."""
        from mgmt_ray.cluster.connection import connect_ray
        from mgmt_ray.pipeline.stages import bring_up_to_date

        context = study_context(self.study, self.files, self.machine)
        with context.folder.lock(), connect_ray(self.machine.ray_address):
            bring_up_to_date(context)


@dataclass(frozen=True)
class Ensemble:
    """Open the test set for the models that validation chose, and write the tables of results."""

    study: Positional[StudyFile]
    files: OmitArgPrefixes[Files] = field(default_factory=Files)
    machine: OmitArgPrefixes[Machine] = field(default_factory=Machine)

    def run(self) -> None:
        """Needs every trial of the study."""
        from mgmt_ray.cluster.connection import connect_ray
        from mgmt_ray.pipeline.printing import show_results
        from mgmt_ray.pipeline.stages import ensemble, load_existing

        context = study_context(self.study, self.files, self.machine)
        with context.folder.lock(), connect_ray(self.machine.ray_address):
            selected, splits, trials = load_existing(context)
            ensemble(context, trials, context.inputs(selected.cohort, splits), selected.external)
            show_results(context.study, context.folder)


@dataclass(frozen=True)
class Explain:
    """Draw where in the tumour the networks find their evidence, for a few test subjects."""

    study: Positional[StudyFile]
    subjects: Annotated[tuple[str, ...], arg(metavar="ID")] = ()
    """test subjects, one per flag; none given: of the best overall ensemble's calls, the two most
    confident right ones and the two most confident wrong ones"""
    modalities: Annotated[tuple[str, ...], arg(metavar="MODALITY")] = ()
    """models' inputs, one per flag; none given: all"""
    method: Literal["occlusion", "grad-cam"] = "occlusion"
    """occlusion: what the prediction loses without a part of the tumour, a hundred evaluations or
    so per model and subject; grad-cam: one, but coarse, and most of it lies outside the tumour"""
    files: OmitArgPrefixes[Files] = field(default_factory=Files)
    machine: OmitArgPrefixes[Machine] = field(default_factory=Machine)

    def run(self) -> None:
        """Needs volumes, weights and the tables of results."""
        from mgmt_ray.cluster.connection import connect_ray
        from mgmt_ray.cluster.progress import log, show_progress
        from mgmt_ray.pipeline.stages import load_existing
        from mgmt_ray.prediction.explain import explain_subjects

        context = study_context(self.study, self.files, self.machine)
        with (
            context.folder.lock(),
            connect_ray(self.machine.ray_address),
            show_progress("explain") as step,
        ):
            selected, splits, trials = load_existing(context)
            inputs = context.inputs(selected.cohort, splits)
            for path in explain_subjects(
                self.subjects, self.modalities, self.method, trials, inputs, context.resources, step
            ):
                log(str(path))


@dataclass(frozen=True)
class Predict:
    """Predict new patients with the finished models, from scans without labels.

    Masks that are missing are predicted where the study names a segmentation. Nothing is fitted or
    measured. Research only, no diagnosis.
    """

    study: Positional[StudyFile]
    scans: Annotated[Path, arg(metavar="DIR")]
    """folders PATIENT with MODALITY.nii.gz (and mask.nii.gz, if there is one), or a cohort.csv"""
    to: Annotated[Path, arg(metavar="FILE")]
    """CSV to write: each patient's probability by ensemble; masks go to FILE_files/ beside it"""
    files: OmitArgPrefixes[Files] = field(default_factory=Files)
    machine: OmitArgPrefixes[Machine] = field(default_factory=Machine)

    def run(self) -> None:
        """Needs a finished study."""
        from mgmt_ray.cluster.connection import connect_ray
        from mgmt_ray.pipeline.stages import predict_new
        from mgmt_ray.prediction.new_patients import check_overwrite

        check_overwrite(self.to)
        files = replace(self.files, data=self.files.data or Path())  # the data set is not read
        context = study_context(self.study, files, self.machine)
        with connect_ray(self.machine.ray_address):
            predict_new(context, self.scans, self.to)


@dataclass(frozen=True)
class Report:
    """Write report.html anew from the study's tables."""

    study: Positional[StudyFile]
    files: OmitArgPrefixes[Files] = field(default_factory=Files)

    def run(self) -> None:
        """Needs the tables of results."""
        from mgmt_ray.cluster.progress import log
        from mgmt_ray.pipeline.stages import report

        files = replace(self.files, data=self.files.data or Path())  # the data set is not read
        context = study_context(self.study, files, Machine())
        with context.folder.lock():
            log(f"report: {report(context)}")


@dataclass(frozen=True)
class Audit:
    """Look for leakage: permute labels, plant a signal, exchange test subjects, search for twins.

    Leaves with exit code 1 if a check failed.
    """

    study: Positional[StudyFile]
    seed: int = 0
    """of the audit's own draws"""
    files: OmitArgPrefixes[Files] = field(default_factory=Files)
    machine: OmitArgPrefixes[Machine] = field(default_factory=Machine)

    def run(self) -> None:
        """Needs a study that is at least prepared; nothing of it is changed."""
        from mgmt_ray.audit.run_audit import run_audit
        from mgmt_ray.cluster.connection import connect_ray

        context = study_context(self.study, self.files, self.machine)
        with context.folder.lock(), connect_ray(self.machine.ray_address):
            checks = run_audit(context, self.seed)
        if any(check.outcome == "failed" for check in checks):
            sys.exit(1)
