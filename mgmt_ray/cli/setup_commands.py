"""Verbs that need no study: check the machine, synthesize a cohort, run the demo."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from mgmt_ray.base import MgmtError, local_path, parse


@dataclass(frozen=True)
class Doctor:
    """Check this machine: what works, what does not, and what to do about it."""

    def run(self) -> None:
        """Check and print; fail if a required part does not work."""
        from mgmt_ray.pipeline.doctor import check_machine

        check_machine()


@dataclass(frozen=True)
class Synthesize:
    """Write a synthetic cohort, in UPENN-GBM's layout or as a table, with pretrained weights."""

    dir: Annotated[Positional[Path], arg(metavar="DIR", help="folder to write into")]
    layout: Literal["upenn", "table"] = "upenn"
    """the reader whose folders, file names and tables are written"""
    subjects: int = 100
    """subjects with a label and scans"""
    grid: tuple[int, int, int] = (155, 240, 240)
    """voxels of 1 mm: depth, height, width"""
    signal: Annotated[tuple[str, ...], arg(metavar="MODALITY:AMPLITUDE")] = ()
    """planted texture in methylated tumours, in standard deviations of the noise"""
    modalities: Annotated[tuple[str, ...], arg(metavar="MODALITY")] = ()
    """modalities to write, one per flag (default: all eleven)"""
    without_dti: float = 0.17
    """fraction of subjects without DTI"""
    without_dsc: float = 0.28
    """fraction of subjects without DSC (includes all without DTI)"""
    seed: int = 0
    """seed of all random numbers"""
    checkpoint_depth: Literal[10, 18, 34, 50, 101] = 10
    """depth (layers) of the ResNet whose weights are written"""
    checkpoint_width: int = 8
    """channels of its stem; MedicalNet's have 64"""
    checkpoint_steps: int = 200
    """training steps of the pretraining task; 0 writes random weights"""

    def run(self) -> None:
        """Write the cohort and the checkpoint."""
        from mgmt_ray.pipeline.demo import synthesize_with_weights
        from mgmt_ray.synthetic.generate import SyntheticConfig
        from mgmt_ray.training.pretrain import SourceTaskConfig

        cohort = parse(
            SyntheticConfig,
            {
                name: getattr(self, name)
                for name in ("subjects", "grid", "without_dti", "without_dsc", "seed")
            }
            | {"signal": dict(_amplitude(text) for text in self.signal)}
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
        synthesize_with_weights(cohort, weights, local_path(self.dir, "DIR"), self.layout)


@dataclass(frozen=True)
class Demo:
    """Synthesize a small cohort with a planted signal, and run a complete study on it."""

    out: Annotated[Path, arg(metavar="DIR")] = Path("demo_study")
    """the study's folder"""

    def run(self) -> None:
        """Takes a few minutes on two cores."""
        from mgmt_ray.pipeline.demo import run_demo

        run_demo(local_path(self.out, "--out"))


def _amplitude(text: str) -> tuple[str, float]:
    modality, colon, amplitude = text.partition(":")
    try:
        if colon:
            return modality, float(amplitude)
    except ValueError:
        pass
    raise MgmtError(
        f"--signal {text}: is not MODALITY:AMPLITUDE. Use, for instance, --signal FLAIR:2.0"
    )
