"""Problems that `mgmt-ray cohort` reports, on files and rows damaged on disk."""

from __future__ import annotations

import csv
import gzip
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
import yaml

from mgmt_ray.cli import main
from mgmt_ray.cohort.cohort import exclusion_flow, read_cohort
from mgmt_ray.synthetic.generate import SyntheticConfig, synthesize

MODALITIES = ("PH", "FLAIR", "T1GD")
CONFIG = SyntheticConfig(
    subjects=24,
    grid=(24, 28, 26),
    modalities=MODALITIES,
    without_dti=0,
    without_dsc=0,
    follow_ups=0.1,
    seed=3,
)
RECIPE = {"window": [[2, 22], [2, 26], [2, 24]], "shape": [10, 12, 12]}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cohorts") / "whole"
    synthesize(CONFIG, folder)
    return folder


class Study:
    """A cohort that a test may damage, and the command on it."""

    def __init__(self, whole: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.data = folder / "data"
        shutil.copytree(whole, self.data)
        self.images = self.data / "NIfTI-files"
        self.out = folder / "out"
        self.cohort: dict[str, object] = {"reader": "upenn", "modalities": list(MODALITIES)}
        self.recipe: dict[str, object] = dict(RECIPE)
        self._file = folder / "study.yaml"
        self._capsys = capsys
        masks = sorted((self.images / "automated_segm").iterdir())
        self.ids = [mask.name.partition("_automated")[0] for mask in masks]
        labelled = (
            (self.data / "UPENN-GBM_clinical_info_v2.1.csv")
            .read_text(encoding="utf-8")
            .splitlines()
        )
        known = {line.split(",")[0] for line in labelled if "ethylated" in line}
        self.ids = [name for name in self.ids if name in known]

    def scan(self, number: int, modality: str = "FLAIR") -> Path:
        (path,) = self.images.glob(f"images_*/{self.ids[number]}/*_{modality}.nii.gz")
        return path

    def mask(self, number: int) -> Path:
        """Return the mask that is used."""
        by_hand = self.images / "images_segm" / f"{self.ids[number]}_segm.nii.gz"
        automatic = f"{self.ids[number]}_automated_approx_segm.nii.gz"
        return by_hand if by_hand.exists() else self.images / "automated_segm" / automatic

    def run(self) -> tuple[int, str, str]:
        """Run `mgmt-ray cohort`; return its exit code, standard output and errors."""
        study = {
            "name": "bad",
            "cohort": self.cohort,
            "recipe": self.recipe,
            "networks": {"r": {"kind": "random", "depth": 10, "width": 4, "covariates": ["age"]}},
        }
        self._file.write_text(yaml.safe_dump(study))
        arguments = ["cohort", str(self._file), "--data", str(self.data), "--out", str(self.out)]
        try:
            main([*arguments, "--backend", "in-process"])
        except SystemExit as error:
            code = int(str(error.code))
        else:
            code = 0
        printed = self._capsys.readouterr()
        return code, printed.out, printed.err

    def problems(self) -> list[dict[str, str]]:
        with (self.out / "problems.csv").open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))


@pytest.fixture
def study(whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Study:
    return Study(whole, tmp_path, capsys)


def change(path: Path, edit: Callable[[np.ndarray], np.ndarray]) -> None:
    image = SimpleITK.ReadImage(str(path))
    changed = SimpleITK.GetImageFromArray(edit(SimpleITK.GetArrayFromImage(image)))
    if changed.GetDimension() == 3 and changed.GetSize() == image.GetSize():
        changed.CopyInformation(image)
    SimpleITK.WriteImage(changed, str(path))


def with_nan(voxels: np.ndarray) -> np.ndarray:
    changed = voxels.astype(np.float32)
    changed[3, 4, 5] = np.nan
    return changed


def with_label_9(voxels: np.ndarray) -> np.ndarray:
    changed = voxels.copy()
    changed[tuple(np.argwhere(voxels > 0)[0])] = 9
    return changed


def up_to_the_border(voxels: np.ndarray) -> np.ndarray:
    changed = voxels.copy()
    changed[10, 10, :3] = 2
    return changed


def damage_all(study: Study) -> dict[str, int]:
    """Damage one file or row of each kind, each of another subject; return its number by kind."""
    numbers = {}

    def next_number(kind: str) -> int:
        numbers[kind] = len(numbers)
        return numbers[kind]

    path = study.scan(next_number("truncated"))
    path.write_bytes(path.read_bytes()[:-3000])
    path = study.scan(next_number("wrong_checksum"))
    content = bytearray(path.read_bytes())
    content[-8] ^= 0xFF
    path.write_bytes(content)
    study.scan(next_number("empty_file")).write_bytes(b"")
    study.scan(next_number("wrong_format")).write_bytes(gzip.compress(b"<html>404</html>" * 40))
    change(study.scan(next_number("not_3d")), lambda v: np.stack([v, v]))
    change(study.scan(next_number("not_finite")), with_nan)
    change(study.scan(next_number("constant")), np.zeros_like)
    change(study.scan(next_number("other_grid")), lambda v: v[:, :-1])
    change(study.mask(next_number("empty_mask")), np.zeros_like)
    change(study.mask(next_number("unknown_mask_label")), with_label_9)
    change(study.mask(next_number("clipped")), up_to_the_border)
    study.scan(next_number("missing_modality"), "T1GD").unlink()
    number = next_number("same_voxels")
    shutil.copy(study.scan(number), study.scan(number, "T1GD"))
    number = next_number("no_mask")
    for mask in study.images.glob(f"*segm/{study.ids[number]}_*"):
        mask.unlink()
    numbers["same_person"] = len(study.ids) - 1  # the later of two is reported
    shutil.copy(study.scan(len(study.ids) - 2, "PH"), study.scan(len(study.ids) - 1, "PH"))
    table = study.data / "UPENN-GBM_clinical_info_v2.1.csv"
    lines = table.read_text(encoding="utf-8").splitlines()
    row = {line.split(",")[0]: i for i, line in enumerate(lines)}
    words = {"duplicated_subject": "as it is", "two_labels": "the other", "unknown_label": "meth"}
    for number, (kind, word) in enumerate(words.items(), start=len(numbers)):
        numbers[kind] = number
        i = row[study.ids[number]]
        cells = lines[i].split(",")
        other = "Unmethylated" if cells[7] == "Methylated" else "Methylated"
        cells[7] = {"as it is": cells[7], "the other": other}.get(word, word)
        if kind == "unknown_label":
            lines[i] = ",".join(cells)
        else:
            lines.append(",".join(cells))
    i = row[study.ids[next_number("unknown_covariate")]]
    lines[i] = lines[i].replace(lines[i].split(",")[2], "sixty", 1)
    table.write_text("\n".join(lines) + "\n")
    return numbers


def test_all_problems_are_listed_at_once_with_what_to_do(study: Study) -> None:
    numbers = damage_all(study)
    code, _, errors = study.run()
    assert code == 2
    assert "Traceback" not in errors
    for kind, number in numbers.items():
        rows = [r for r in study.problems() if r["kind"] == kind]
        assert study.ids[number] in [r["subject"] for r in rows], kind
        for row in rows:
            setting = f", or {row['setting']}" if row["setting"] else ""
            line = f"{row['subject']}: {row['where']}: {row['found']} ({kind}). {row['remedy']}"
            line += f"{setting}."
            assert line in errors.splitlines()
    assert f"{len(study.problems())} problems not covered by the study" in errors
    assert not (study.out / "cohort.csv").exists()


def test_with_rules_everything_is_counted_and_the_numbers_add_up(study: Study) -> None:
    numbers = damage_all(study)
    study.run()
    study.cohort["rules"] = dict.fromkeys(numbers, "exclude_subject")
    code, printed, errors = study.run()
    assert (code, errors) == (0, "")
    cohort = read_cohort(study.out)
    lines = dict(exclusion_flow(cohort, MODALITIES))
    assert f"found {lines['found']}" in " ".join(printed.split())
    num_rows = len({*study.ids}) + CONFIG.indeterminate + CONFIG.not_available
    assert lines["found"] == num_rows + CONFIG.without_scans + round(0.1 * CONFIG.subjects)
    out = {e.subject: e.reason for e in cohort.exclusions if e.scope == "cohort"}
    for kind, number in numbers.items():
        assert out[study.ids[number]] == kind.replace("_", " ")
    assert {r["covered_by"] for r in study.problems()} == {
        f"cohort.rules: {kind}: exclude_subject" for kind in numbers
    }


def test_a_subject_left_out_by_name_causes_no_problem(study: Study) -> None:
    study.scan(0).write_bytes(b"")
    study.cohort["exclude"] = [study.ids[0]]
    code, printed, _ = study.run()
    assert code == 0
    assert "excluded: left out by cohort.exclude" in printed


def test_only_the_groups_of_bad_scans_may_be_left_out(study: Study) -> None:
    study.scan(0).write_bytes(b"")
    study.cohort["rules"] = {"empty_file": "exclude_scans"}
    assert study.run()[0] == 0
    by_id = {s.id: s for s in read_cohort(study.out).subjects}
    assert set(by_id[study.ids[0]].scans) == {"PH"}
    assert set(by_id[study.ids[1]].scans) == set(MODALITIES)


def test_files_are_checked_once_and_again_when_they_change(study: Study) -> None:
    study.run()
    made = {*(study.out / "inspections" / "given").iterdir()}
    assert len(made) == CONFIG.subjects
    change(study.scan(0), lambda voxels: voxels + 1)
    study.run()
    again = {*(study.out / "inspections" / "given").iterdir()}
    assert [p.name.rpartition("-")[0] for p in again - made] == [study.ids[0]]
    assert len(again) == len(made)


def test_a_problem_leaves_the_earlier_cohort_unchanged(study: Study) -> None:
    study.run()
    before = (study.out / "cohort.csv").read_bytes()
    study.scan(0).write_bytes(b"")
    assert study.run()[0] == 2
    assert (study.out / "cohort.csv").read_bytes() == before
    assert [r["kind"] for r in study.problems()] == ["empty_file"]
