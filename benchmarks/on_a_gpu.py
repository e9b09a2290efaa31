"""All that a GPU has to show, in one JSON: ``benchmarks/on_a_gpu.sh``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch
import tyro

from benchmarks.device import peak_mb
from benchmarks.our_step import Case, spottune
from benchmarks.step import Options as StepOptions
from benchmarks.step import resolve
from benchmarks.volumes import random_volumes, resident
from mgmt_ray.training.loop import TrainingState, fit

Found = dict[str, object]

FULL = {
    "step": "--rounds 3 --steps 10",
    "routes": "--device cuda --width 64 --shape 70 86 86 --rounds 1 --no-full-size",
    "transfer": "--device cuda --width 64 --shape 70 86 86 --epochs 5",
}
TINY = "--width 4 --shape 20 20 20"
DRY = {
    "step": f"--device cpu {TINY} --batch 4 --rounds 1 --no-memory",
    "routes": f"--subjects 2 --draws 4 {TINY} --rounds 1 --no-full-size",
    "transfer": f"--epochs 2 --volumes 6 --subjects 4 {TINY} --batch 3",
}
"""Arguments of the benchmarks that are run as they are."""

TRAININGS = ("training", "other_process", "together")
"""Two trainings in one process; again in another one, with its cache; in several at once."""

PARTS = (*TRAININGS, *FULL)


@dataclass(frozen=True)
class Options:
    """Measure on a GPU; each part in processes of its own, one that fails with its reason.

    Attributes:
        dry_run: at the smallest size on the CPU, not compiled, which takes minutes there
        output: file for the JSON, too
        only: some of the parts
        seconds: for all parts; those that would begin later are skipped
        processes: that train at once
        epochs: of a training
        train: trains twice in this process and prints that alone
    """

    dry_run: bool = False
    output: Path | None = None
    only: tuple[str, ...] = PARTS
    seconds: float = 470
    processes: int = 3
    epochs: int = 5
    train: bool = False


def main(options: Options) -> None:
    if options.train:
        print(json.dumps(train_twice(options)))
        return
    if unknown := set(options.only) - set(PARTS):
        sys.exit(f"--only {' '.join(sorted(unknown))}: the parts are {', '.join(PARTS)}.")
    if not (options.dry_run or torch.cuda.is_available()):
        sys.exit("There is no GPU here. Try --dry-run.")
    deadline = time.monotonic() + options.seconds
    parts: Found = {}
    with tempfile.TemporaryDirectory(prefix="mgmt-ray-benchmark-") as cache:
        for name in PARTS:
            if name in options.only:
                parts[name] = run_part(name, options, cache, deadline)
                print(name, json.dumps(parts[name]), flush=True)
    device = "cpu" if options.dry_run else torch.cuda.get_device_name()
    found = json.dumps({"name": "on_a_gpu", "device": device, "parts": parts})
    if options.output:
        options.output.write_text(found + "\n")
    print(found)


def run_part(name: str, options: Options, cache: str, deadline: float) -> object:
    """Return the JSON of a part, a list of them if it is several processes."""
    if name in TRAININGS:
        dry = ["--dry-run"] if options.dry_run else []
        command = ["on_a_gpu", "--train", "--epochs", str(options.epochs), *dry]
    else:
        command = [name, *(DRY if options.dry_run else FULL)[name].split()]
    number = options.processes if name == "together" else 1
    environment = os.environ | {"TORCHINDUCTOR_CACHE_DIR": cache}
    full = [sys.executable, "-m", f"benchmarks.{command[0]}", *command[1:]]
    if time.monotonic() >= deadline:
        return {"skipped": "no time was left"}
    with tempfile.TemporaryDirectory() as scratch:
        outputs = [Path(scratch) / str(index) for index in range(number)]
        processes = []
        for path in outputs:
            with path.open("w") as file:
                processes.append(subprocess.Popen(full, stdout=file, stderr=file, env=environment))
        for process in processes:
            try:
                process.wait(max(0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        found = [
            last_json(path, process.returncode)
            for path, process in zip(outputs, processes, strict=True)
        ]
    return found if name == "together" else found[0]


def last_json(path: Path, code: int) -> Found:
    """Return the JSON of the last line that a process printed, or why there is none."""
    lines = path.read_text().splitlines() or [""]
    if code < 0:
        return {"skipped": "stopped: no time was left" if code == -9 else f"signal {-code}"}
    if code:
        return {"skipped": lines[-1]}
    found: Found = json.loads(lines[-1])
    return found


def train_twice(options: Options) -> Found:
    """Train a network of one kind twice, with other weights' updates; count what is compiled."""
    if options.dry_run:
        torch.set_num_threads(1)
        case = resolve(StepOptions(device="cpu", width=4, shape=(20, 20, 20), batch=4))
        sizes = 10, 4
    else:
        case, sizes = resolve(StepOptions(device="cuda")), (198, 48)
    return {
        "compile": case.config.compile,
        "trainings": [train(case, options.epochs, sizes, seed) for seed in range(2)],
        "peak_mb": round(peak_mb(case.device)),
    }


def train(case: Case, epochs: int, sizes: tuple[int, int], seed: int) -> Found:
    """Train once; the number of rows that train leaves a smaller batch over."""
    before = compilations()
    started = time.perf_counter()
    config = case.config.model_copy(update={"epochs": epochs})
    training, validation = (
        resident(*random_volumes(number, case.shape, seed), case.device) for number in sizes
    )
    state = TrainingState(spottune(case), config)
    loaded = time.perf_counter()
    seconds = [round(epoch.seconds, 3) for epoch in fit(state, training, validation, config, seed)]
    return {
        "load_s": round(loaded - started, 3),
        "epoch_s": seconds,
        "seconds": round(time.perf_counter() - started, 3),
        "compilations": {name: n - before[name] for name, n in compilations().items()},
    }


def compilations() -> dict[str, int]:
    """Return how often this process traced a graph, and sought code in PyTorch's caches so far."""
    from torch._dynamo.utils import counters

    return {
        "graphs": counters["stats"]["unique_graphs"],
        **{
            f"{cache}_{end}": counters[group][f"{cache}_{end}"]
            for group, cache in (("aot_autograd", "autograd_cache"), ("inductor", "fxgraph_cache"))
            for end in ("hit", "miss", "bypass")
        },
    }


if __name__ == "__main__":
    main(tyro.cli(Options))
