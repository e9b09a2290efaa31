"""How often the audit finds a planted leak, and cries wolf: ``python -m benchmarks.audit``.

Each leak is planted in the files or the table of fresh synthetic cohorts, and the checks run that
train nothing. Written results are in NOTES.md.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path
from time import process_time
from typing import TypeAlias

import nibabel
import numpy as np
import tyro
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform
from scipy.ndimage import affine_transform, binary_dilation, binary_erosion
from scipy.spatial.transform import Rotation

from mgmt_ray.audit.audited_study import AuditContext, open_audit, permute_labels
from mgmt_ray.audit.duplicate_check import check_duplicates
from mgmt_ray.audit.property_check import check_properties
from mgmt_ray.audit.shortcut_check import check_shortcuts
from mgmt_ray.base import stream
from mgmt_ray.cluster.resources import Resources
from mgmt_ray.cohort.cohort import Cohort
from mgmt_ray.cohort.subject import Subject, modality_group
from mgmt_ray.data.prepare_stores import prepare_volumes
from mgmt_ray.pipeline.stages import plan_study, prepare, select
from mgmt_ray.splits.split import Split
from mgmt_ray.study.folder import StudyFolder
from mgmt_ray.study.study_config import StudyConfig
from mgmt_ray.synthetic.generate import SyntheticConfig, synthesize
from mgmt_ray.trials.context import StudyContext

MODALITIES = ("PH", "FLAIR")
WANTED_SENSITIVITY = 0.9
WANTED_FALSE_ALARMS = 0.05
PAIRS = 2
"""Training subjects whose copies are put in the test set, of each kind in each cohort."""

ROTATION_DEG, SHIFT_VOXELS, GROWN_VOXELS = 3.0, 0.5, 2


@dataclass(frozen=True)
class Options:
    """Plant leaks in synthetic cohorts and count what the audit finds.

    Attributes:
        cohorts: fresh cohorts, each of which gets every leak in turn
        relabelled: permutations of the labels of each clean cohort, to count false alarms
        subjects: of a cohort
        grid: depth, height, width of its scans
        agreement: share of the subjects whose property agrees with the label, where it codes it
        seed: of the cohorts and leaks
    """

    cohorts: int = 4
    relabelled: int = 10
    subjects: int = 60
    grid: tuple[int, int, int] = (40, 48, 48)
    agreement: float = 1.0
    seed: int = 0


@dataclass(eq=False)
class Image:
    """A file's voxels [width, height, depth] and header, on their way to a changed file."""

    voxels: np.ndarray
    affine: np.ndarray
    header: nibabel.Nifti1Header
    compression: int = 1

    @classmethod
    def read(cls, path: Path) -> Image:
        """Read a file."""
        image = nibabel.load(path)
        return cls(np.asanyarray(image.dataobj), image.affine.copy(), image.header)

    def write(self, path: Path) -> None:
        """Write the file, with the header's text and the type of the voxels."""
        self.header.set_data_dtype(self.voxels.dtype)
        image = nibabel.Nifti1Image(self.voxels, self.affine, self.header)
        path.unlink()  # may be a link to another cohort's file
        with nibabel.openers.Opener(str(path), "wb", compresslevel=self.compression) as file:
            image.to_stream(file)


FileChange: TypeAlias = Callable[[Image], None]
SubjectChange: TypeAlias = Callable[[Subject], Subject]


def _scaled_spacing(image: Image) -> None:
    image.affine[:3, :3] *= 1.01


def _moved_origin(image: Image) -> None:
    image.affine[:3, 3] += 1.0


def _other_orientation(image: Image) -> None:
    turn = ornt_transform(io_orientation(image.affine), axcodes2ornt("LAS"))
    turned = nibabel.Nifti1Image(image.voxels, image.affine, image.header).as_reoriented(turn)
    image.voxels, image.affine = np.asanyarray(turned.dataobj), turned.affine


def _larger_grid(image: Image) -> None:
    image.voxels = np.pad(image.voxels, ((0, 0), (0, 0), (0, 1)))


def _other_number_type(image: Image) -> None:
    image.voxels = image.voxels.astype(np.float64)


def _slope(image: Image) -> None:
    image.header["scl_slope"], image.header["scl_inter"] = 1.0, 0.0
    image.header["cal_max"] = 1.0


def _text(image: Image) -> None:
    image.header["descrip"] = b"exported by another program"


def _compressed(image: Image) -> None:
    image.compression = 9


FILE_CODES: Mapping[str, FileChange] = {
    "spacing": _scaled_spacing,
    "origin": _moved_origin,
    "orientation": _other_orientation,
    "grid": _larger_grid,
    "number type": _other_number_type,
    "scale": _slope,
    "header text": _text,
    "compression": _compressed,
}
"""What is done to all files of the methylated subjects; voxels in the tumour stay as they are."""


def _with(name: str, value: str) -> SubjectChange:
    return lambda s: replace(s, covariates={**s.covariates, name: value})


def _without_group(subject: Subject) -> Subject:
    scans = {m: path for m, path in subject.scans.items() if modality_group(m) != "DSC"}
    return replace(subject, scans=scans)


TABLE_CODES: Mapping[str, tuple[SubjectChange, SubjectChange]] = {
    "kind of mask": (_with("mask_kind", "automatic"), _with("mask_kind", "corrected")),
    "predicted mask": (
        lambda s: replace(s, mask_kind="given"),
        lambda s: replace(s, mask_kind="predicted"),
    ),
    "missing group": (lambda s: s, _without_group),
    "age": (_with("age", "45"), _with("age", "70")),
    "sex": (_with("sex", "M"), _with("sex", "F")),
    "site": (_with("site", "Basel"), _with("site", "Bern")),
    "scanner": (_with("scanner", "A"), _with("scanner", "B")),
    "column known": (lambda s: s, _with("kps_note", "seen")),
    "id": (lambda s: replace(s, id=f"a_{s.id}"), lambda s: replace(s, id=f"b_{s.id}")),
}
"""What is done to unmethylated and methylated subjects in the cohort's table."""

Voxels: TypeAlias = dict[str, np.ndarray]
"""Voxels of the mask and of each modality of a subject."""


def _noisy(share: float) -> Callable[[Voxels, np.random.Generator], Voxels]:
    def change(voxels: Voxels, random: np.random.Generator) -> Voxels:
        noisy = {}
        for name, values in voxels.items():
            noise = random.normal(0, share * float(values.max()), values.shape)
            noisy[name] = values if name == "mask" else np.where(values != 0, values + noise, 0)
        return noisy

    return change


def _registered_again(voxels: Voxels, random: np.random.Generator) -> Voxels:
    """Turn by three degrees about any axis, and move by half a voxel in any direction."""
    axis, shift = (_direction(random) for _ in range(2))
    turn = Rotation.from_rotvec(np.deg2rad(ROTATION_DEG) * axis).as_matrix()
    centre = (np.array(voxels["mask"].shape) - 1) / 2
    offset = centre - turn @ centre + SHIFT_VOXELS * shift
    return {
        name: affine_transform(
            values.astype(np.float64), turn, offset, order=0 if name == "mask" else 1
        )
        for name, values in voxels.items()
    }


def _direction(random: np.random.Generator) -> np.ndarray:
    vector = random.normal(size=3)
    direction: np.ndarray = vector / np.linalg.norm(vector)
    return direction


def _grown(voxels: Voxels, _: np.random.Generator) -> Voxels:
    brain = next(values for name, values in voxels.items() if name != "mask") != 0
    grown = binary_dilation(voxels["mask"] > 0, iterations=GROWN_VOXELS) & brain
    return {**voxels, "mask": np.where(grown & (voxels["mask"] == 0), 2, voxels["mask"])}


def _shrunk(voxels: Voxels, _: np.random.Generator) -> Voxels:
    kept = binary_erosion(voxels["mask"] > 0, iterations=GROWN_VOXELS)
    return {**voxels, "mask": np.where(kept, voxels["mask"], 0)}


CopyChange: TypeAlias = Callable[[Voxels, np.random.Generator], Voxels]
COPIES: Mapping[str, CopyChange] = {
    "copy, noise of 1 %": _noisy(0.01),
    "copy, noise of 5 %": _noisy(0.05),
    "copy, mirrored": lambda voxels, _: {n: v[::-1] for n, v in voxels.items()},
    "copy, moved": lambda voxels, _: {n: np.roll(v, 3, 1) for n, v in voxels.items()},
    "copy, registered again": _registered_again,
    "copy, mask grown": _grown,
    "copy, mask shrunk": _shrunk,
    "copy, registered again, mask grown": lambda v, r: _registered_again(_grown(v, r), r),
    "copy, registered again, mask shrunk": lambda v, r: _registered_again(_shrunk(v, r), r),
}


class Counts:
    """Leaks planted and found by kind, and clean cohorts with an alarm by check."""

    def __init__(self) -> None:
        self.found: dict[str, list[bool]] = defaultdict(list)
        self.alarms: dict[str, list[bool]] = defaultdict(list)


def main(options: Options) -> None:
    print(json.dumps(measure(options)))


def measure(options: Options) -> dict[str, object]:
    """Plant all leaks in all cohorts, and list what is outside the wanted bounds."""
    counts, start = Counts(), process_time()
    for number in range(options.cohorts):
        with tempfile.TemporaryDirectory() as folder, redirect_stdout(StringIO()):
            _audit_cohort(counts, options, number, Path(folder))
        print(f"{number + 1} of {options.cohorts} cohorts, {process_time() - start:.0f} CPU s")
    found = {kind: round(float(np.mean(each)), 3) for kind, each in counts.found.items()}
    alarms = {check: round(float(np.mean(each)), 3) for check, each in counts.alarms.items()}
    for kind, share in found.items():
        print(f"{kind:<40} {share:5.2f} of {len(counts.found[kind])}")
    for check, share in alarms.items():
        print(f"false alarms: {check:<26} {share:5.3f} of {len(counts.alarms[check])}")
    return {
        "name": "audit",
        "cohorts": options.cohorts,
        "subjects": options.subjects,
        "sensitivity": found,
        "false_alarms": alarms,
        "cpu_s": round(process_time() - start, 1),
        "outside": [
            *(kind for kind, share in found.items() if share < WANTED_SENSITIVITY),
            *(c for c, share in alarms.items() if c == "any" and share > WANTED_FALSE_ALARMS),
        ],
    }


def _audit_cohort(counts: Counts, options: Options, number: int, folder: Path) -> None:
    random = stream(options.seed, "audit benchmark", number)
    config = SyntheticConfig(
        subjects=options.subjects,
        grid=options.grid,
        modalities=MODALITIES,
        without_dti=0.0,
        without_dsc=0.1,
        follow_ups=0.0,
        raw_dsc=0.0,
        seed=int(random.integers(1 << 31)),
    )
    synthesize(config, folder / "cohort")
    (folder / "cohort" / "planted.json").unlink()
    audit = _prepared(folder / "cohort", folder / "out", options.grid)
    _count_false_alarms(counts, audit, options.relabelled, random)
    for name, change in FILE_CODES.items():
        coded = _coded_files(audit, change, folder / "coded", random, options.agreement)
        counts.found[name].append(check_properties(coded).outcome == "failed")
        shutil.rmtree(folder / "coded")
    for name, changes in TABLE_CODES.items():
        coded = _coded_table(audit, changes, random, options.agreement)
        counts.found[name].append(check_properties(coded).outcome == "failed")
    for name, copy in COPIES.items():
        counts.found[name] += _find_copies(audit, copy, folder / "copies", random)
        shutil.rmtree(folder / "copies")


def _prepared(data: Path, out: Path, grid: tuple[int, int, int]) -> AuditContext:
    """Prepare a study of the cohort, without augmentation; nothing is trained."""
    study = StudyConfig.model_validate(
        {
            "name": "audited",
            "cohort": {"reader": "upenn", "root": data, "modalities": MODALITIES},
            "recipe": {
                "window": [[0, n] for n in grid],
                "shape": [-(-n // 2) for n in grid],
                "rounds": 0,
            },
            "split": {"folds": 2},
            "networks": {"random": {"kind": "random", "depth": 10, "width": 4}},
        }
    )
    context = StudyContext(study, StudyFolder(out), Resources("in-process"))
    selected = select(context)
    prepare(context, selected)
    plan_study(context, selected)
    return open_audit(context, 0)


def _count_false_alarms(
    counts: Counts, audit: AuditContext, relabelled: int, random: np.random.Generator
) -> None:
    """Count alarms on the clean cohort, and with its labels permuted, which is clean too."""
    copies = check_duplicates(audit).outcome != "passed"
    counts.alarms["duplicate persons"].append(copies)
    for number in range(1 + relabelled):
        cohort = permute_labels(audit.cohort, random) if number else audit.cohort
        clean = replace(audit, cohort=cohort)
        voxels, properties = (
            check(clean).outcome != "passed" for check in (check_shortcuts, check_properties)
        )
        counts.alarms["shortcuts"].append(voxels)
        counts.alarms["plain properties"].append(properties)
        counts.alarms["any"].append(copies or voxels or properties)


def _changes(cohort: Cohort, random: np.random.Generator, agreement: float) -> Iterator[bool]:
    """Yield for each subject whether it gets what codes a methylated one."""
    for subject in cohort.subjects:
        yield bool(subject.label) == (random.random() < agreement)


def _coded_files(
    audit: AuditContext,
    change: FileChange,
    folder: Path,
    random: np.random.Generator,
    agreement: float,
) -> AuditContext:
    root = audit.study.cohort.root
    shutil.copytree(root, folder, copy_function=_link)
    subjects = []
    coded = _changes(audit.cohort, random, agreement)
    for subject, is_coded in zip(audit.cohort.subjects, coded, strict=True):
        scans = {m: folder / path.relative_to(root) for m, path in subject.scans.items()}
        mask = folder / subject.required_mask.relative_to(root)
        subjects.append(replace(subject, scans=scans, mask=mask))
        for path in (*scans.values(), mask) if is_coded else ():
            image = Image.read(path)
            change(image)
            image.write(path)
    return _of_other(audit, subjects, folder)


def _link(source: str, target: str) -> None:
    Path(target).hardlink_to(source)


def _of_other(audit: AuditContext, subjects: list[Subject], root: Path) -> AuditContext:
    """Return the audit of changed subjects, whose prepared volumes are the same."""
    study = audit.study
    cohort = study.cohort.model_copy(update={"root": root})
    context = replace(audit.context, study=study.model_copy(update={"cohort": cohort}))
    return replace(audit, context=context, cohort=Cohort(tuple(subjects)))


def _coded_table(
    audit: AuditContext,
    changes: tuple[SubjectChange, SubjectChange],
    random: np.random.Generator,
    agreement: float,
) -> AuditContext:
    coded = [*_changes(audit.cohort, random, agreement)]
    subjects = [changes[c](s) for s, c in zip(audit.cohort.subjects, coded, strict=True)]
    new = {s.id: t.id for s, t in zip(audit.cohort.subjects, subjects, strict=True)}
    changed = _of_other(audit, subjects, audit.study.cohort.root)
    return replace(changed, splits=tuple(_renamed(split, new) for split in audit.splits))


def _renamed(split: Split, new: Mapping[str, str]) -> Split:
    roles = {name: tuple(new[s] for s in getattr(split, name)) for name in ("test", "left_out")}
    folds = tuple(tuple(new[s] for s in fold) for fold in split.folds)
    return replace(split, folds=folds, **roles)


def _find_copies(
    audit: AuditContext, copy: CopyChange, folder: Path, random: np.random.Generator
) -> list[bool]:
    """Put copies of training subjects in the test set, and return which are found."""
    (split,) = audit.splits
    by_id = {s.id: s for s in audit.cohort.subjects}
    trained = [s for s in split.training if by_id[s].has_all(MODALITIES)]
    tested = [s for s in split.test if by_id[s].has_all(MODALITIES)]
    pairs = [
        (str(a), str(b))
        for a, b in zip(
            random.permutation(tested)[:PAIRS], random.permutation(trained)[:PAIRS], strict=True
        )
    ]
    subjects = dict(by_id)
    for test, training in pairs:
        subjects[test] = _copied(by_id[training], by_id[test], copy, folder / test, random)
    study = audit.study
    store = StudyFolder(folder / "out")
    shutil.copytree(audit.store, store.root / audit.pipeline)
    cohort = Cohort(tuple(subjects.values()))
    prepare_volumes(
        cohort,
        study.modalities,
        study.first_recipe,
        store.root / audit.pipeline,
        audit.context.resources,
        lambda done, total: None,
    )
    context = replace(audit.context, folder=store)
    check = check_duplicates(replace(audit, context=context, cohort=cohort))
    return [f"{test} (test) and {training} (training)" in check.found for test, training in pairs]


def _copied(
    source: Subject, target: Subject, copy: CopyChange, folder: Path, random: np.random.Generator
) -> Subject:
    folder.mkdir(parents=True)
    paths = {"mask": source.required_mask, **source.scans}
    images = {name: Image.read(path) for name, path in paths.items()}
    changed = copy({name: image.voxels for name, image in images.items()}, random)
    written = {}
    for name, image in images.items():
        image.voxels = changed[name].astype(image.voxels.dtype)
        written[name] = folder / f"{name}.nii.gz"
        written[name].touch()
        image.write(written[name])
    scans = {modality: written[modality] for modality in source.scans}
    return replace(target, scans=scans, mask=written["mask"])


if __name__ == "__main__":
    main(tyro.cli(Options))
