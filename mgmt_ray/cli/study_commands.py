"""Verbs that work on a study, and the options that they share: files, Ray, tracking."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import OmitArgPrefixes, Positional, arg

from mgmt_ray.base import MgmtError, expand_path, local_path
from mgmt_ray.cluster.resources import Resources

if TYPE_CHECKING:
    from mgmt_ray.trials.context import StudyContext

CHECKPOINT_DEFAULT = "(default: checkpoint of the study)"
TRACKING_DEFAULT = "(default: a database in the study's folder)"


def folder_option(default: str) -> object:
    """Return tyro's settings of an option that takes a folder."""
    return arg(metavar="DIR", help_behavior_hint=f"(default: {default})")


StudyFile = Annotated[Path, arg(metavar="STUDY", help="study file (YAML)")]


@dataclass(frozen=True)
class Files:
    """Input and output files."""

    out: Annotated[Path | None, folder_option("NAME_study, after the study's name")] = None
    """the study's folder"""
    data: Annotated[Path | None, folder_option("cohort.root of the study")] = None
    """the data set's folder"""
    checkpoint: Annotated[
        Path | None, arg(metavar="FILE", help_behavior_hint=CHECKPOINT_DEFAULT)
    ] = None
    """MedicalNet's .pth file"""


@dataclass(frozen=True)
class Machine:
    """Ray, tracking and resources."""

    address: Annotated[str, arg(metavar="ADDRESS")] = "local"
    """Ray cluster: "local" starts one here, "auto" finds a running one, or HOST:PORT"""
    tracking: Annotated[str | None, arg(metavar="URI", help_behavior_hint=TRACKING_DEFAULT)] = None
    """MLflow tracking server"""
    resources: OmitArgPrefixes[Annotated[Resources, arg(name="resource")]] = field(
        default_factory=Resources
    )

    @property
    def ray_address(self) -> str | None:
        """Address of Ray; None if work runs in this process."""
        return self.address if self.resources.backend == "ray" else None


@dataclass(frozen=True, kw_only=True)
class StudyCommand:
    """A verb that works on the files of a study."""

    study: Positional[StudyFile]
    files: OmitArgPrefixes[Annotated[Files, arg(name="file")]] = field(default_factory=Files)

    def context(self, machine: Machine, *, needs_data: bool = True) -> StudyContext:
        """Load the study file, and return the study with its folder and resources.

        Args:
            machine: has the resources.
            needs_data: whether the data set is read, whose folder must then be known.

        Raises:
            MgmtError: the study file does not exist or is not valid, or a path is not usable.
        """
        from mgmt_ray.study.folder import StudyFolder
        from mgmt_ray.study.study_config import load_study
        from mgmt_ray.tracking.mlflow_tracker import check_local_store
        from mgmt_ray.trials.context import StudyContext

        given = {"--out": self.files.out, "--data": self.files.data}
        given |= {"--checkpoint": self.files.checkpoint}
        out, data, checkpoint = (path and local_path(path, name) for name, path in given.items())
        study = load_study(self.study, data or (None if needs_data else Path()), checkpoint)
        out = out or Path(f"{study.name}_study")
        folder = StudyFolder(out.absolute())
        if machine.tracking is None:
            check_local_store(folder)
        return StudyContext(study, folder, machine.resources, machine.tracking)


@dataclass(frozen=True, kw_only=True)
class ClusterCommand(StudyCommand):
    """A verb that works on a study with Ray."""

    machine: OmitArgPrefixes[Annotated[Machine, arg(name="")]] = field(default_factory=Machine)

    @contextmanager
    def locked_study(self, *, reads_scans: bool = False) -> Iterator[StudyContext]:
        """Connect to Ray, check the GPUs, and lock the study's folder while the block runs.

        Args:
            reads_scans: whether nothing can be done without the data set's folder.
        """
        if reads_scans:
            self._check_paths()
        from mgmt_ray.cluster.connection import connect_ray
        from mgmt_ray.pipeline.doctor import check_gpus

        context = self.context(self.machine)
        with connect_ray(self.machine.ray_address):
            check_gpus(context.resources)
            with context.folder.lock():
                yield context

    def _check_paths(self) -> None:
        """Raise MgmtError if the study's file or data set is missing; loads no library for it."""
        from mgmt_ray.study.yaml_file import check_study_file, read_yaml

        check_study_file(self.study)
        data = self.files.data and local_path(self.files.data, "--data")
        if data is None:
            content = read_yaml(self.study)
            cohort = content.get("cohort") if isinstance(content, dict) else None
            root = cohort.get("root") if isinstance(cohort, dict) else None
            data = expand_path(root, self.study.parent) if isinstance(root, str) else None
        if data is not None and not data.exists():
            raise MgmtError(
                f"{data}: no such folder. Give the folder of the data set with --data or "
                "cohort.root."
            )


@dataclass(frozen=True, kw_only=True)
class SelectCohort(ClusterCommand):
    """Select the study's subjects: check every file, list all problems, print the exclusions."""

    figures: bool = False
    """also draw contact sheets, intensity histograms and augmentations"""

    def run(self) -> None:
        """Read and check the data set."""
        with self.locked_study(reads_scans=True) as context:
            from mgmt_ray.pipeline.select_cohorts import select
            from mgmt_ray.pipeline.stages import plot_cohort

            selected = select(context)
            if self.figures:
                plot_cohort(context, selected)


@dataclass(frozen=True, kw_only=True)
class Prepare(ClusterCommand):
    """Prepare the volumes or slices that are missing or out of date."""

    def run(self) -> None:
        """Bring the cohort and its stores up to date."""
        with self.locked_study(reads_scans=True) as context:
            from mgmt_ray.pipeline.select_cohorts import select
            from mgmt_ray.pipeline.stages import prepare

            prepare(context, select(context))


@dataclass(frozen=True, kw_only=True)
class Plan(ClusterCommand):
    """List the study's trials, or its search's configurations, and their states."""

    def run(self) -> None:
        """Select, split and list; nothing is trained."""
        from mgmt_ray.pipeline.stages import show_study_plan

        with self.locked_study(reads_scans=True) as context:
            show_study_plan(context)


@dataclass(frozen=True, kw_only=True)
class Search(ClusterCommand):
    """Try the configurations of the study's `search`, and choose the best on validation folds.

    The test set is not opened. `mgmt-ray run` then takes what was chosen.
    """

    def run(self) -> None:
        """Train what is missing; rerun the command to continue after an interruption."""
        from mgmt_ray.pipeline.stages import search

        with self.locked_study(reads_scans=True) as context:
            search(context)


@dataclass(frozen=True, kw_only=True)
class Run(ClusterCommand):
    """Run the study: prepare, train, evaluate and report whatever is missing or out of date."""

    svg: bool = False
    """write the report's figures as SVG too"""

    def run(self) -> None:
        """Run all stages; rerun the command to continue after an interruption."""
        with self.locked_study(reads_scans=True) as context:
            from mgmt_ray.pipeline.stages import bring_up_to_date

            bring_up_to_date(context, self.svg)


@dataclass(frozen=True, kw_only=True)
class Ensemble(ClusterCommand):
    """Evaluate the models chosen on validation on the test set, and write the result tables."""

    def run(self) -> None:
        """Needs every trial of the study."""
        from mgmt_ray.pipeline.printing import show_results
        from mgmt_ray.pipeline.stages import ensemble, load_existing

        with self.locked_study() as context:
            inputs, trials, external = load_existing(context)
            ensemble(trials, inputs, external)
            show_results(context.study, context.folder)


@dataclass(frozen=True, kw_only=True)
class Explain(ClusterCommand):
    """Draw saliency maps of the networks for a few test subjects."""

    subjects: Annotated[tuple[str, ...], arg(metavar="ID")] = ()
    """test subjects, one per flag (default: the two most confident correct and the two most
    confident incorrect predictions of the best ensemble)"""
    modalities: Annotated[tuple[str, ...], arg(metavar="MODALITY")] = ()
    """models' inputs, one per flag (default: all)"""
    method: Literal["occlusion", "grad-cam"] = "occlusion"
    """occlusion: the change of the prediction without a part of the tumour, about a hundred
    evaluations per model and subject; grad-cam: one evaluation, but coarse, and mostly outside the
    tumour"""

    def run(self) -> None:
        """Needs volumes, weights and the result tables."""
        from mgmt_ray.cluster.progress import log, show_progress
        from mgmt_ray.pipeline.stages import load_existing
        from mgmt_ray.prediction.explain import explain_subjects

        with self.locked_study() as context, show_progress("explain") as step:
            inputs, trials, _ = load_existing(context)
            for path in explain_subjects(
                self.subjects, self.modalities, self.method, trials, inputs, step
            ):
                log(str(path))


@dataclass(frozen=True, kw_only=True)
class Predict(ClusterCommand):
    """Predict new patients with the finished models, from scans without labels.

    Missing masks are predicted if the study has a mask_source. Nothing is fitted or measured. For
    research only, not for diagnosis.
    """

    scans: Annotated[Path, arg(metavar="DIR")]
    """contains folders PATIENT with MODALITY.nii.gz (and mask.nii.gz), or a cohort.csv"""
    to: Annotated[Path, arg(metavar="FILE")]
    """CSV to write: each patient's probability by ensemble; masks go to FILE_files/ next to it"""

    def run(self) -> None:
        """Needs a finished study."""
        from mgmt_ray.cluster.connection import connect_ray
        from mgmt_ray.pipeline.doctor import check_gpus
        from mgmt_ray.pipeline.stages import predict_new
        from mgmt_ray.prediction.new_patients import check_overwrite

        scans, to = local_path(self.scans, "--scans"), local_path(self.to, "--to")
        check_overwrite(to)
        context = self.context(self.machine, needs_data=False)
        with connect_ray(self.machine.ray_address):
            check_gpus(context.resources)
            predict_new(context, scans, to)


@dataclass(frozen=True, kw_only=True)
class Report(StudyCommand):
    """Write report.html from the study's tables, unless it is up to date."""

    svg: bool = False
    """write the figures as SVG too; without it, figures that are redrawn are PNG alone"""

    def run(self) -> None:
        """Needs the result tables."""
        from mgmt_ray.cluster.progress import log
        from mgmt_ray.pipeline.stages import report

        context = self.context(Machine(), needs_data=False)
        with context.folder.lock():
            log(f"report: {report(context, self.svg)}")


@dataclass(frozen=True, kw_only=True)
class Audit(ClusterCommand):
    """Leakage and sanity checks: permuted labels, a planted signal, test-set isolation, duplicates.

    Exits with 1 if a check failed.
    """

    seed: int = 0
    """seed of the audit's random numbers"""

    def run(self) -> None:
        """Needs a prepared study, which is not changed."""
        from mgmt_ray.audit.run_audit import run_audit

        with self.locked_study() as context:
            checks = run_audit(context, self.seed)
        if any(check.outcome == "failed" for check in checks):
            sys.exit(1)
