"""Verbs that need no study: is this machine fit, make a cohort, show a whole run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from mgmt_ray.base import MgmtError, parse


@dataclass(frozen=True)
class Doctor:
    """Say what of this machine works, what does not, and what to do about it."""

    def run(self) -> None:
        """Check, print, and fail if something that is needed does not work."""
        from mgmt_ray.pipeline.doctor import check_machine

        check_machine()


@dataclass(frozen=True)
class Synthesize:
    """Write a synthetic cohort like UPENN-GBM or as a table, with pretrained weights for it."""

    dir: Annotated[Positional[Path], arg(metavar="DIR", help="folder to write into")]
    layout: Literal["upenn", "table"] = "upenn"
    """the reader whose folders, file names and tables are written"""
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
        from mgmt_ray.pipeline.demo import synthesize_with_weights
        from mgmt_ray.synthetic.generate import SyntheticConfig
        from mgmt_ray.training.pretrain import SourceTaskConfig

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
            | ({"modalities": self.modalities} if self.modalities else {}),
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
class Demo:
    """Synthesize a small cohort with a planted signal and run a whole study on it."""

    out: Annotated[Path, arg(metavar="DIR")] = Path("demo_study")
    """the study's folder"""

    def run(self) -> None:
        """A few minutes on two cores."""
        from mgmt_ray.pipeline.demo import run_demo

        run_demo(self.out)


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
