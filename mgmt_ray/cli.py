"""The command line: one command per verb; each imports the heavy rooms only when it runs."""

from __future__ import annotations

import signal
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro
from tyro.conf import OmitArgPrefixes, Positional, UseAppendAction, arg, subcommand

from mgmt_ray.base import MgmtError, parse
from mgmt_ray.cohort.layout import Layout
from mgmt_ray.orchestration.placement import Placement

if TYPE_CHECKING:
    from mgmt_ray.orchestration.stages import Job

DESCRIPTION = "How well can MGMT promoter methylation be told from MRI, and how sure are we?"
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


@dataclass(frozen=True)
class Doctor:
    """Say what of this machine works, what does not, and what to do about it."""

    def run(self) -> None:
        """Check, print, and fail if something that is needed does not work."""
        from mgmt_ray.orchestration.doctor import examine

        examine()


@dataclass(frozen=True)
class Synthesize:
    """Write a synthetic cohort in a public data set's layout, with pretrained weights for it."""

    dir: Annotated[Positional[Path], arg(metavar="DIR", help="folder to write into")]
    layout: Layout = "upenn"
    """whose folders, file names and tables"""
    subjects: int = 100
    """subjects with a label and scans"""
    grid: tuple[int, int, int] = (155, 240, 240)
    """voxels of 1 mm: depth, height, width"""
    signal: Annotated[tuple[str, ...], arg(metavar="MODALITY:AMPLITUDE")] = ()
    """texture in the tumour that tells the label, in deviations of the noise; none by default"""
    modalities: Annotated[tuple[str, ...], arg(metavar="MODALITY")] = ()
    """modalities to write, one per flag; none given: all eleven"""
    without_dti: float = 0.17
    """fraction of the subjects that lack DTI"""
    without_dsc: float = 0.28
    """fraction of the subjects that lack DSC (all that lack DTI among them)"""
    anatomy: Annotated[Path | None, arg(metavar="FILE")] = None
    """skull-stripped scan to put the tumours into (default: a phantom)"""
    seed: int = 0
    """of every draw"""
    checkpoint_depth: Literal[10, 18, 34, 50, 101] = 10
    """layers of the network whose weights are written"""
    checkpoint_width: int = 8
    """channels of its stem; MedicalNet's have 64"""
    checkpoint_steps: int = 200
    """training steps of its source task; 0 leaves random weights"""

    def run(self) -> None:
        """Write the cohort and the checkpoint."""
        from mgmt_ray.cohort.subject import STRUCTURAL
        from mgmt_ray.cohort.synthetic import SyntheticConfig
        from mgmt_ray.orchestration.synthesis import synthesize_with_weights
        from mgmt_ray.training.pretrain import SourceTaskConfig

        only_structural = self.layout not in ("upenn", "table")
        modalities = self.modalities or (STRUCTURAL if only_structural else ())
        if only_structural and set(modalities) != set(STRUCTURAL):
            raise MgmtError(
                f"--layout {self.layout}: has {', '.join(STRUCTURAL)} and no choice. "
                "Leave --modalities away, or take --layout table."
            )
        cohort = parse(
            SyntheticConfig,
            {
                "subjects": self.subjects,
                "grid": self.grid,
                "signal": dict(_amplitude(text) for text in self.signal),
                "without_dti": self.without_dti,
                "without_dsc": self.without_dsc,
                "anatomy": self.anatomy,
                "seed": self.seed,
            }
            | ({"modalities": modalities} if modalities else {}),
            "synthesize",
        )
        weights = parse(
            SourceTaskConfig,
            {
                "depth": self.checkpoint_depth,
                "width": self.checkpoint_width,
                "steps": self.checkpoint_steps,
                "seed": self.seed,
            },
            "synthesize",
        )
        synthesize_with_weights(cohort, weights, self.dir, self.layout)


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
        from mgmt_ray.orchestration.cohorts import show_cohorts
        from mgmt_ray.orchestration.connect import connected
        from mgmt_ray.orchestration.stages import draw_cohort, select

        job = _job(self.study, self.files, self.machine)
        with job.folder.lock(), connected(self.machine.ray_address):
            selected = select(job)
            show_cohorts(job.study, selected)
            if self.figures:
                draw_cohort(job, selected)


@dataclass(frozen=True)
class Prepare:
    """Make the volumes of every subject and modality that are missing or out of date."""

    study: Positional[StudyFile]
    files: OmitArgPrefixes[Files] = field(default_factory=Files)
    machine: OmitArgPrefixes[Machine] = field(default_factory=Machine)

    def run(self) -> None:
        """Bring cohort and volumes up to date."""
        from mgmt_ray.orchestration.cohorts import show_cohorts
        from mgmt_ray.orchestration.connect import connected
        from mgmt_ray.orchestration.stages import prepare, select

        job = _job(self.study, self.files, self.machine)
        with job.folder.lock(), connected(self.machine.ray_address):
            selected = select(job)
            show_cohorts(job.study, selected)
            prepare(job, selected)


@dataclass(frozen=True)
class Plan:
    """List the study's trials and which of them are finished; write splits.json."""

    study: Positional[StudyFile]
    files: OmitArgPrefixes[Files] = field(default_factory=Files)
    machine: OmitArgPrefixes[Machine] = field(default_factory=Machine)

    def run(self) -> None:
        """Select, split and list; nothing is trained."""
        from mgmt_ray.orchestration.cohorts import show_cohorts
        from mgmt_ray.orchestration.connect import connected
        from mgmt_ray.orchestration.show import show_plan
        from mgmt_ray.orchestration.stages import plan_study, select

        job = _job(self.study, self.files, self.machine)
        with job.folder.lock(), connected(self.machine.ray_address):
            selected = select(job)
            show_cohorts(job.study, selected)
            plan = plan_study(job, selected)
            show_plan(job.study, job.folder, selected.cohort, *plan)


@dataclass(frozen=True)
class Run:
    """Bring the study up to date: whatever of volumes, trials, ensembles and report is missing."""

    study: Positional[StudyFile]
    files: OmitArgPrefixes[Files] = field(default_factory=Files)
    machine: OmitArgPrefixes[Machine] = field(default_factory=Machine)

    def run(self) -> None:
        """All stages; repeat the command to continue after an interruption."""
        from mgmt_ray.orchestration.connect import connected
        from mgmt_ray.orchestration.stages import bring_up_to_date

        job = _job(self.study, self.files, self.machine)
        with job.folder.lock(), connected(self.machine.ray_address):
            bring_up_to_date(job)


@dataclass(frozen=True)
class Ensemble:
    """Open the test set for the models that validation chose, and write the tables of results."""

    study: Positional[StudyFile]
    files: OmitArgPrefixes[Files] = field(default_factory=Files)
    machine: OmitArgPrefixes[Machine] = field(default_factory=Machine)

    def run(self) -> None:
        """Needs every trial of the study."""
        from mgmt_ray.orchestration.connect import connected
        from mgmt_ray.orchestration.show import show_results
        from mgmt_ray.orchestration.stages import ensemble, existing

        job = _job(self.study, self.files, self.machine)
        with job.folder.lock(), connected(self.machine.ray_address):
            selected, splits, trials = existing(job)
            ensemble(job, trials, job.inputs(selected.cohort, splits), selected.external)
            show_results(job.study, job.folder)


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
        from mgmt_ray.orchestration.connect import connected
        from mgmt_ray.orchestration.explain import explain_subjects
        from mgmt_ray.orchestration.progress import say, stage
        from mgmt_ray.orchestration.stages import existing

        job = _job(self.study, self.files, self.machine)
        with job.folder.lock(), connected(self.machine.ray_address), stage("explain") as step:
            selected, splits, trials = existing(job)
            inputs = job.inputs(selected.cohort, splits)
            for path in explain_subjects(
                self.subjects, self.modalities, self.method, trials, inputs, job.placement, step
            ):
                say(str(path))


@dataclass(frozen=True)
class Report:
    """Write report.html anew from the study's tables."""

    study: Positional[StudyFile]
    files: OmitArgPrefixes[Files] = field(default_factory=Files)

    def run(self) -> None:
        """Needs the tables of results."""
        from mgmt_ray.orchestration.progress import say
        from mgmt_ray.orchestration.stages import report

        files = replace(self.files, data=self.files.data or Path())  # the data set is not read
        job = _job(self.study, files, Machine())
        with job.folder.lock():
            say(f"report: {report(job)}")


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
        from mgmt_ray.orchestration.audit.run import audit
        from mgmt_ray.orchestration.connect import connected

        job = _job(self.study, self.files, self.machine)
        with job.folder.lock(), connected(self.machine.ray_address):
            checks = audit(job, self.seed)
        if any(check.outcome == "failed" for check in checks):
            sys.exit(1)


@dataclass(frozen=True)
class Demo:
    """Synthesize a small cohort with a planted signal and run a whole study on it."""

    out: Annotated[Path, arg(metavar="DIR")] = Path("demo_study")
    """the study's folder"""

    def run(self) -> None:
        """A few minutes on two cores."""
        from mgmt_ray.orchestration.demo import run_demo

        run_demo(self.out)


Command = (
    Annotated[Doctor, subcommand("doctor")]
    | Annotated[Synthesize, subcommand("synthesize")]
    | Annotated[SelectCohort, subcommand("cohort")]
    | Annotated[Prepare, subcommand("prepare")]
    | Annotated[Plan, subcommand("plan")]
    | Annotated[Run, subcommand("run")]
    | Annotated[Ensemble, subcommand("ensemble")]
    | Annotated[Explain, subcommand("explain")]
    | Annotated[Report, subcommand("report")]
    | Annotated[Audit, subcommand("audit")]
    | Annotated[Demo, subcommand("demo")]
)


def main(arguments: list[str] | None = None) -> None:
    """Entry point of ``mgmt-ray``; exits with 2 on what its user can mend, 130 when interrupted."""
    # Preemption sends SIGTERM; leaving by an exception ends runs and locks as they should be.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        command: Command = tyro.cli(
            Command,
            prog="mgmt-ray",
            description=DESCRIPTION,
            args=arguments,
            config=(UseAppendAction,),
        )
        command.run()
    except MgmtError as error:
        print(f"mgmt-ray: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("mgmt-ray: interrupted. Repeat the command to continue.", file=sys.stderr)
        sys.exit(130)


def _job(study_file: Path, files: Files, machine: Machine) -> Job:
    from mgmt_ray.orchestration.stages import Job
    from mgmt_ray.study.config import load_study
    from mgmt_ray.study.folder import StudyFolder

    study = load_study(study_file, files.data, files.checkpoint)
    out = files.out or Path(f"{study.name}_study")
    return Job(study, StudyFolder(out.absolute()), machine.placement, machine.tracking)


def _amplitude(text: str) -> tuple[str, float]:
    modality, colon, amplitude = text.partition(":")
    try:
        if colon:
            return modality, float(amplitude)
    except ValueError:
        pass
    raise MgmtError(
        f"--signal {text}: is not MODALITY:AMPLITUDE. Write, for instance, --signal FLAIR:2.0"
    )


if __name__ == "__main__":
    main()
