"""Two small studies, run through the command line, and what of their folders is kept."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import signal
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from mgmt_ray.cli import main
from mgmt_ray.preprocess.slice_store import SliceStore
from mgmt_ray.preprocess.volume_store import VolumeStore
from tests.golden.compare import CHECKSUM

HERE = Path(__file__).parent

COHORTS = {
    "volumes": (
        *("--subjects", "30", "--grid", "24", "28", "28", "--signal", "PH:3.0"),
        *(f"--modalities={m}" for m in ("PH", "FLAIR", "T2", "T1", "T1GD")),
        *("--without-dti", "0", "--without-dsc", "0.1"),
        *("--checkpoint-width", "4", "--checkpoint-steps", "4"),
    ),
    "slices": (
        *("--subjects", "16", "--grid", "24", "48", "48", "--modalities=FLAIR"),
        *("--checkpoint-width", "4", "--checkpoint-steps", "0"),
    ),
}
"""What ``mgmt-ray synthesize`` is given, by study."""

OF_THE_RUN = {
    *("time", "seconds", "seconds_least", "seconds_most", "device", "versions"),
    *("tables_sha256", "trial_sha256"),
}
"""Columns and keys that differ from run to run, or with the machine's name and packages."""

LEFT_OUT = {"decision.csv", "slice_seconds.csv"}
"""Tables that are not kept as text: 1900 rows that follow from predictions.csv, and times."""


def run_study(name: str, folder: Path) -> Path:
    """Synthesize the cohort of a study and run it in this process.

    Args:
        name: of the study's file beside this one.
        folder: where the data set and the study's folder are made.

    Returns:
        The study's folder.
    """
    data, out = folder / "data", folder / "study"
    handler = signal.getsignal(signal.SIGTERM)
    try:
        main(["synthesize", str(data), *COHORTS[name]])
        (checkpoint,) = data.glob("*.pth")
        files = ["--data", str(data), "--checkpoint", str(checkpoint), "--out", str(out)]
        with _empty_figures():
            main(["run", str(HERE / f"{name}.yaml"), *files, "--backend", "in-process"])
    finally:
        signal.signal(signal.SIGTERM, handler)
    return out


@contextmanager
def _empty_figures() -> Iterator[None]:
    """Save the report's figures without their content: drawing it takes a third of the time."""
    save = Figure.savefig

    def save_empty(figure: Figure, *arguments: Any, **more: Any) -> None:
        figure.clear()
        save(figure, *arguments, **more)

    Figure.savefig = save_empty  # type: ignore[method-assign]
    try:
        yield
    finally:
        Figure.savefig = save  # type: ignore[method-assign]


def kept_files(study: Path) -> dict[str, str]:
    """What is kept of a study's folder: file name to text, without times and machine."""
    tables = study / "ensembles"
    kept = {
        "splits.json": _json_text(_read(study / "splits.json")),
        "trials.json": _json_text([_read(p) for p in sorted(study.glob("trials/*/trial.json"))]),
        "epochs.csv": _epochs(study),
        "test_openings.jsonl": _openings(tables / "test_openings.jsonl"),
        "radiomics.csv": _csv_text(map(_without_checksums, _rows(study / "radiomics.csv"))),
        "checksums.json": _json_text(_checksums(study)),
    }
    for path in sorted(tables.glob("*.csv")):
        if path.name not in LEFT_OUT:
            kept[path.name] = _csv_text(_rows(path))
    return kept


def expected_files(name: str) -> dict[str, str]:
    """What is kept beside this file."""
    paths = sorted((HERE / name).iterdir())
    return {path.name: path.read_text(encoding="utf-8") for path in paths}


def write_expected(name: str, kept: Mapping[str, str]) -> None:
    """Replace what is kept beside this file."""
    folder = HERE / name
    folder.mkdir(exist_ok=True)
    for path in folder.iterdir():
        path.unlink()
    for file, text in kept.items():
        (folder / file).write_text(text, encoding="utf-8")


def _epochs(study: Path) -> str:
    """Every trial's training, the trial's id in front."""
    rows = []
    for path in sorted(study.glob("trials/*/epochs.csv")):
        rows += [{"id": path.parent.name, **row} for row in _rows(path)]
    columns = dict.fromkeys(column for row in rows for column in row)
    return _csv_text([{c: row.get(c, "") for c in columns} for row in rows])


def _openings(log: Path) -> str:
    openings = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    return "".join(json.dumps(_without_run(opening)) + "\n" for opening in openings)


def _checksums(study: Path) -> dict[str, str]:
    """Of every voxel, and of the table that is too long to be kept; trials.json has weights'."""
    found = {"decision.csv": _sha256((study / "ensembles" / "decision.csv").read_bytes())}
    for path in sorted(study.glob("volumes/*.json")):
        store = VolumeStore(path.parent, path.stem)
        found[f"{path.stem}.npy"] = _sha256(store.load(store.ids, store.versions).tobytes())
    for path in sorted(study.glob("slices/*.json")):
        store = SliceStore(path.parent, path.stem)
        for slices in store.load(store.ids):
            for name in ("images", "masks"):
                voxels = getattr(slices, name)
                found[f"{path.stem}/{slices.id}/{name}"] = _sha256(voxels.tobytes())
    return found


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _without_checksums(row: dict[str, str]) -> dict[str, str]:
    """Those of scans' files follow from their places and times too."""
    return {key: value for key, value in row.items() if not CHECKSUM.fullmatch(value)}


def _read(path: Path) -> Any:
    return _without_run(json.loads(path.read_text(encoding="utf-8")))


def _without_run(content: Any) -> Any:
    if isinstance(content, dict):
        kept = {k: _without_run(v) for k, v in content.items() if k not in OF_THE_RUN}
        if kept.get("checkpoint_checksum"):
            kept["checkpoint_checksum"] = "of a checkpoint"  # its archive holds a name of the run
        return kept
    return [_without_run(item) for item in content] if isinstance(content, list) else content


def _rows(path: Path) -> Iterator[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        yield from map(_without_run, csv.DictReader(file))


def _csv_text(rows: Iterable[dict[str, str]]) -> str:
    text = io.StringIO()
    rows = list(rows)
    if rows:
        writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return text.getvalue()


def _json_text(content: Any) -> str:
    return json.dumps(content, indent=1, sort_keys=True) + "\n"
