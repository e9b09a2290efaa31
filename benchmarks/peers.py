"""The package against what people would use instead: ``python -m benchmarks.peers``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
import tyro

from benchmarks import prepare
from benchmarks.device import SMALL_SHAPE, Timing, in_turns, median_s, process_ratio, wall_ratio
from benchmarks.our_step import OurTraining
from benchmarks.volumes import random_volumes, resident
from mgmt_ray.base import MgmtError, write_json
from mgmt_ray.baselines.radiomic_features import FEATURES, measure_features
from mgmt_ray.cohort.subject import MODALITIES
from mgmt_ray.nets.build import NetworkConfig, build_network
from mgmt_ray.preprocess.recipe import versions
from mgmt_ray.preprocess.volumes import make_volumes
from mgmt_ray.statistics.intervals import NUM_RESAMPLES, bootstrap_weights, percentile_interval
from mgmt_ray.statistics.slice_overlap import hd95
from mgmt_ray.study.baseline_config import REGIONS
from mgmt_ray.synthetic.anatomy import UPENN_GRID
from mgmt_ray.training.mask_overlap import dice
from mgmt_ray.training.metrics import auc
from mgmt_ray.training.training_config import TrainingConfig

ROOT = Path(__file__).parents[1]
Result: TypeAlias = Mapping[str, Any]

TORCH = f"torch=={version('torch').split('+')[0]}"
BUILD = ("numpy", "setuptools", "wheel", "versioneer", "cython")
ENVIRONMENTS: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "monai": ((TORCH, f"monai=={version('monai')}", "nibabel", "scipy"),),
    "torchio": ((TORCH, "torchio"),),
    "scikit-learn": ((f"scikit-learn=={version('scikit-learn')}", f"scipy=={version('scipy')}"),),
    # its build does not say what it needs
    "pyradiomics": (BUILD, ("--no-build-isolation", "pyradiomics==3.0.1")),
}
"""Arguments of ``pip install``, one call after the other, by environment."""


@dataclass(frozen=True)
class Options:
    """Time each peer against the package, in turns.

    Attributes:
        environments: folder of the peers' environments, which are kept; none: temporary ones
        only: comparisons to make; none: all
        rounds: how often each is timed
        grid: depth, height, width of the scans
        shape: depth, height, width of the volumes that are trained on
    """

    environments: Path | None = None
    only: tuple[str, ...] = ()
    rounds: int = 5
    grid: tuple[int, int, int] = UPENN_GRID
    shape: tuple[int, int, int] = SMALL_SHAPE


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """A task that a peer and the package do.

    Attributes:
        task: of the peer, in ``peer_tasks``.
        environment: in which the peer is installed.
        given: the peer's input, arrays and values that JSON can hold.
        ours: the same task by the package.
        compared: name of the array in both results whose largest difference is shown; none where
            the results are alike but not equal.
        wanted: least ratio.
    """

    task: str
    environment: str
    given: Mapping[str, Any]
    ours: Callable[[], Result]
    compared: str | None
    wanted: float


class CannotInstall(MgmtError):
    """A peer's environment cannot be made."""


def main(options: Options) -> None:
    """Compare, and print a line per comparison and the summary as one line of JSON."""
    torch.set_num_threads(1)
    found: dict[str, object] = {}
    skipped: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="mgmt-ray-benchmark-") as scratch:
        environments = options.environments or Path(scratch) / "environments"
        for name, make in COMPARISONS.items():
            if options.only and name not in options.only:
                continue
            folder = Path(scratch) / name
            folder.mkdir()
            comparison = make(options, folder)
            try:
                python = install(comparison.environment, environments)
                found[name] = compare(comparison, python, folder, options.rounds)
            except (CannotInstall, PeerFailed) as error:
                skipped[name] = str(error)
            print(name, found.get(name) or f"skipped: {skipped[name]}", flush=True)
    print(json.dumps({"name": "peers", **found, "skipped": skipped}))


def install(name: str, environments: Path) -> Path:
    """Return the interpreter of a peer's environment, which is made if it does not exist.

    Raises:
        CannotInstall: the last line of what failed.
    """
    python = environments / name / "bin" / "python"
    done = environments / name / "installed"
    if done.is_file():
        return python
    commands = [[sys.executable, "-m", "venv", str(environments / name)]]
    commands += [[str(python), "-m", "pip", "install", "-q", *a] for a in ENVIRONMENTS[name]]
    for command in commands:
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        if ran.returncode:
            lines = ran.stderr.strip().splitlines() or ["no message"]
            raise CannotInstall(f"{name} cannot be installed ({lines[-1]})")
    done.touch()
    return python


class PeerFailed(MgmtError):
    """A peer ended with an error."""


def compare(comparison: Comparison, python: Path, folder: Path, rounds: int) -> dict[str, object]:
    """Time both in turns, who is first alternating, and compare their results."""
    ours = comparison.ours()  # not timed: the first time has its set-up
    timings: tuple[list[Timing], list[Timing]] = [], []
    with peer(comparison, python, folder) as ask:
        with np.load(folder / "result.npz") as arrays:
            theirs = dict(arrays)
        for number in range(rounds):
            (seconds, _), (_, own) = in_turns([ask, comparison.ours], number, "cpu")
            assert isinstance(seconds, Timing)
            timings[0].append(seconds)
            timings[1].append(own)
    difference = None
    if comparison.compared:
        pair = [np.asarray(result[comparison.compared]) for result in (ours, theirs)]
        scale = np.maximum(np.abs(pair[1]), 1)
        difference = float(np.abs((pair[0] - pair[1]) / scale).max())
    return {
        "ratio": wall_ratio(*timings),
        "process_ratio": process_ratio(*timings),
        "wanted": comparison.wanted,
        "difference": difference,
        "peer_s": round(median_s(timings[0]), 4),
        "ours_s": round(median_s(timings[1]), 4),
    }


@contextmanager
def peer(
    comparison: Comparison, python: Path, folder: Path
) -> Iterator[Callable[[], Timing | Result]]:
    """Start the peer, and return the function that lets it do its task once.

    Raises:
        PeerFailed: with the last line of its error.
    """
    arrays = {n: v for n, v in comparison.given.items() if isinstance(v, np.ndarray)}
    np.savez(folder / "input.npz", **arrays)
    write_json(
        folder / "input.json", {n: v for n, v in comparison.given.items() if n not in arrays}
    )
    command = [str(python), "-m", "benchmarks.peer_tasks", comparison.task, str(folder)]
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    threads["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"] = "1"
    with (
        (folder / "errors").open("w+") as errors,
        subprocess.Popen(
            command,
            cwd=ROOT,
            env=os.environ | threads,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as process,
    ):
        assert process.stdin and process.stdout

        def answer() -> Any:
            assert process.stdout
            line = process.stdout.readline()
            if not line:
                errors.seek(0)
                lines = errors.read().strip().splitlines() or ["no message"]
                raise PeerFailed(f"{comparison.task} failed ({lines[-1]})")
            return json.loads(line)

        def ask() -> Timing:
            assert process.stdin
            process.stdin.write("\n")
            process.stdin.flush()
            return Timing(*answer())

        answer()
        yield ask
        process.stdin.close()


def preprocessing(
    options: Options, folder: Path, task: str, wanted: float, **more: object
) -> Comparison:
    """Compare all modalities and versions of one subject, from its files to float16 volumes."""
    given = prepare.Options(subjects=1, grid=options.grid)
    (subject,) = prepare.find_subjects(given, folder)
    recipe = prepare.recipe_for(options.grid)
    wanted_versions = dict.fromkeys(MODALITIES, versions(recipe))
    files = {m: str(subject.scans[m]) for m in MODALITIES} | {"mask": str(subject.mask)}
    settings = {
        "files": files,
        "window": recipe.window,
        "shrink": recipe.shrink,
        "shape": recipe.shape,
    }

    def ours() -> Result:
        made = make_volumes(subject, wanted_versions, recipe)
        return {modality: volumes for modality, (volumes, _) in made.items()}

    return Comparison(task, task.split("_")[0], settings | more, ours, None, wanted)


def training(options: Options, _folder: Path) -> Comparison:
    """Compare a step of a ResNet-50 from scratch in float32."""
    width, batch = 32, 12
    volumes, labels = random_volumes(2 * batch, options.shape)
    config = TrainingConfig(batch_size=batch)
    network = build_network(
        NetworkConfig(kind="random", depth=50, width=width), 1, config.temperature, None
    )
    own = OurTraining(network, config, resident(volumes, labels, "cpu"))

    def ours() -> Result:
        own.step()
        return {"num_parameters": sum(p.numel() for p in own.network.parameters())}

    given = {"volumes": volumes, "labels": labels, "width": width, "batch": batch}
    return Comparison("monai_training", "monai", given, ours, "num_parameters", 1.08)


def bootstrap(_options: Options, _folder: Path, task: str, wanted: float) -> Comparison:
    """Compare the percentile interval of an AUC of the paper's test set."""
    random = np.random.default_rng(0)
    labels = np.repeat([1, 0], [24, 33])
    probability = 1 / (1 + np.exp(-random.normal(labels, 1)))

    def ours() -> Result:
        areas = auc(labels, probability, bootstrap_weights(labels, seed=0))
        interval = percentile_interval(0.5, areas)
        return {"interval": np.array([interval.low, interval.high])}

    given = {"labels": labels, "probability": probability, "resamples": NUM_RESAMPLES}
    return Comparison(task, "scikit-learn", given, ours, "interval", wanted)


def overlap(options: Options, _folder: Path) -> Comparison:
    """Compare Dice and Hausdorff distance of two tumours in a whole scan."""
    centre = np.array(options.grid).reshape(3, 1, 1, 1) / 2
    distance = np.linalg.norm(np.indices(options.grid) - centre, axis=0)
    radius = min(options.grid) / 6
    predicted, truth = distance < radius, np.roll(distance, 3, axis=1) < 1.1 * radius
    spacing = (1.0, 1.0, 1.0)

    def ours() -> Result:
        return {"overlap": np.array([dice(predicted, truth), hd95(predicted, truth, spacing)])}

    given = {"predicted": predicted, "truth": truth, "spacing_mm": spacing}
    return Comparison("monai_overlap", "monai", given, ours, "overlap", 2.6)


def radiomics(options: Options, folder: Path) -> Comparison:
    """Compare the six features of the radiomics forest."""
    (subject,) = prepare.find_subjects(prepare.Options(subjects=1, grid=options.grid), folder)
    import SimpleITK

    def read(path: object) -> np.ndarray:
        return SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path)))

    mask = read(subject.mask)
    scans = {m: read(subject.scans[m]) for m in dict.fromkeys(f.modality for f in FEATURES)}
    features = [
        [*PYRADIOMICS_NAMES[f.measure.__name__], f.modality, list(REGIONS[f.region])]
        for f in FEATURES
    ]

    def ours() -> Result:
        return {"values": np.array([*measure_features(scans, mask).values()])}

    given = {"mask": mask, "features": features, **scans}
    return Comparison("pyradiomics_features", "pyradiomics", given, ours, "values", 9.5)


PYRADIOMICS_NAMES = {
    "skewness": ("firstorder", "Skewness"),
    "energy": ("firstorder", "Energy"),
    "glcm_contrast": ("glcm", "Contrast"),
    "glszm_level_variance": ("glszm", "GrayLevelVariance"),
    "glszm_low_level_emphasis": ("glszm", "LowGrayLevelZoneEmphasis"),
    "ngtdm_busyness": ("ngtdm", "Busyness"),
}

COMPARISONS: Mapping[str, Callable[[Options, Path], Comparison]] = {
    "monai_preprocessing": partial(
        preprocessing, task="monai_preprocessing", wanted=7.5, tight=False
    ),
    "monai_cropped_tight": partial(
        preprocessing, task="monai_preprocessing", wanted=2.4, tight=True
    ),
    "torchio_preprocessing": partial(preprocessing, task="torchio_preprocessing", wanted=7.5),
    "monai_training": training,
    "sklearn_bootstrap": partial(bootstrap, task="sklearn_bootstrap", wanted=266),
    "scipy_bootstrap": partial(bootstrap, task="scipy_bootstrap", wanted=266),
    "monai_overlap": overlap,
    "pyradiomics": radiomics,
}


if __name__ == "__main__":
    main(tyro.cli(Options))
