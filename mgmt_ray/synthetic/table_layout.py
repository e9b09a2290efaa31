"""Writing a cohort as a plain table with files: synthetic, or of any reader's subjects."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from mgmt_ray.base import stream, write_csv
from mgmt_ray.cohort.cohort import FIXED_COLUMNS
from mgmt_ray.cohort.subject import Subject
from mgmt_ray.cohort.upenn import UpennConfig, read_upenn
from mgmt_ray.synthetic.generate import SyntheticConfig, synthesize
from mgmt_ray.synthetic.scan_writer import copy_file

TABLE = "cohort.csv"
LABEL_WORDS = (("unmethylated", "Methylated"), ("0", "1"), ("Negative", "positive"))
"""Ways to write the labels 0 and 1, used in turn."""

SITES = ("Augsburg", "Basel", "Łódź, north")


def synthesize_as_table(
    config: SyntheticConfig, folder: Path, progress: Callable[[int, int], None] | None = None
) -> None:
    """Write the subjects of :func:`mgmt_ray.synthetic.generate.synthesize` as a plain table.

    >>> from tempfile import TemporaryDirectory
    >>> temporary = TemporaryDirectory()
    >>> config = SyntheticConfig(subjects=1, grid=(16, 16, 16), modalities=("T1",))
    >>> synthesize_as_table(config, Path(temporary.name))
    >>> sorted(path.name for path in Path(temporary.name).iterdir())
    ['cohort.csv', 'images', 'planted.json']
    """
    upenn = folder / ".upenn"
    synthesize(config, upenn, progress)
    source = UpennConfig(reader="upenn", root=upenn, modalities=config.modalities)
    write_table_copy(read_upenn(source).subjects, folder, config.seed)
    copy_file(upenn / "planted.json", folder / "planted.json")
    shutil.rmtree(upenn)


def write_table_copy(subjects: Sequence[Subject], folder: Path, seed: int) -> dict[str, str]:
    """Write subjects' files under new names, and ``cohort.csv``.

    Covariates are the source's, and a random ``site`` that is empty in every fourth row. The cells
    of a scan or covariate that a subject does not have are empty. Subjects that are one person in
    the source are one in the copy, under a new name. The last row is a patient with the first
    subject's files and an unknown label.

    Args:
        subjects: with any scans; a DICOM series is referred to where it is, not copied.

    Returns:
        The new ids by old id.

    Raises:
        MgmtError: a file cannot be written.
    """
    random = stream(seed, "table copy")
    numbers = (random.permutation(len(subjects) + 1) + 1).tolist()
    new = {s.id: f"case_{number:04d}" for s, number in zip(subjects, numbers, strict=False)}
    persons = sorted({s.person for s in subjects})
    modalities = list(dict.fromkeys(m for s in subjects for m in s.scans))
    reserved = {*FIXED_COLUMNS, *modalities, "site"}
    covariates = sorted({name for s in subjects for name in s.covariates} - reserved)
    rows = [["subject", "label", *modalities, "mask", "person", *covariates, "site"]]
    for turn, subject in enumerate(subjects):
        files = _write_files(subject, folder, new[subject.id], modalities)
        word = LABEL_WORDS[turn % len(LABEL_WORDS)][subject.label]
        person = f"person {1 + persons.index(subject.person)}"
        values = [subject.covariates.get(name, "") for name in covariates]
        site = "" if turn % 4 == 3 else SITES[random.integers(len(SITES))]
        rows.append([new[subject.id], word, *files, person, *values, site])
    if subjects:
        name = f"case_{numbers[-1]:04d}"
        files = _write_files(subjects[0], folder, name, modalities)
        rows.append([name, "unknown", *files, "", *[""] * len(covariates), ""])
    write_csv(folder / TABLE, rows)
    return new


def _write_files(subject: Subject, folder: Path, name: str, modalities: Sequence[str]) -> list[str]:
    """Copy a subject's files; return the cells of its scans and mask, relative to the folder."""
    cells = []
    for column in (*modalities, "mask"):
        source = subject.mask if column == "mask" else subject.scans.get(column)
        if source is None or source.is_dir():
            cells.append(str(source.absolute()) if source else "")
            continue
        path = Path("images", name, f"{column}.nii.gz")
        copy_file(source, folder / path)
        cells.append(path.as_posix())
    return cells
