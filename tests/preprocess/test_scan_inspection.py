from __future__ import annotations

import gzip
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK

from mgmt_ray.base import stream
from mgmt_ray.cohort.problem import Problem, ProblemKind
from mgmt_ray.cohort.scan import EMPTY_HASH
from mgmt_ray.cohort.subject import ScanConventions, Subject
from mgmt_ray.preprocess.recipe import RecipeConfig, SliceRecipe
from mgmt_ray.preprocess.scan_inspection import (
    Inspection,
    inspect_subject,
    inspection_artefact,
    inspection_key,
    is_final,
    read_inspection,
)
from mgmt_ray.preprocess.scan_preview import BINS, PICTURE, View
from tests.inspections import write_inspection

from .conftest import MakeSubject, ball, write_scan

SHAPE = (24, 32, 28)
LABELS = (1, 2, 4)
TUMOUR = ball(SHAPE, (11, 15, 11), 6)


def noise(name: str) -> np.ndarray:
    return stream(0, "inspection", name).integers(1, 2000, SHAPE).astype(np.int16)


def damage_scans(subject: Subject) -> dict[str, str]:
    """Damage one scan after the other; return the kind of problem to be found, by modality."""
    whole = {m: path.read_bytes() for m, path in subject.scans.items()}
    path = subject.scans
    path["no file"].unlink()
    path["empty"].write_bytes(b"")
    path["truncated"].write_bytes(whole["truncated"][:-2000])
    path["checksum"].write_bytes(whole["checksum"][:-8] + b"\1\2\3\4" + whole["checksum"][-4:])
    header = gzip.decompress(whole["header"])
    # a code for the numbers' type that NIfTI does not have
    path["header"].write_bytes(gzip.compress(header[:70] + b"\xff\x7f" + header[72:]))
    path["format"].write_bytes(gzip.compress(b"P5 what a picture"))
    series = SimpleITK.JoinSeries([SimpleITK.GetImageFromArray(noise(n)) for n in "ab"])
    SimpleITK.WriteImage(series, str(path["series"]))
    strange = noise("nan").astype(np.float32)
    strange[0, 0, :3] = (np.nan, np.inf, -np.inf)
    write_scan(path["nan"], strange)
    write_scan(path["zeros"], np.zeros(SHAPE, np.int16))
    write_scan(path["flat tumour"], np.where(TUMOUR, 7, noise("flat")).astype(np.int16))
    write_scan(path["grid"], noise("grid")[:-1])
    path["twin"].write_bytes(whole["sound"])
    return {
        "no file": "no_file",
        "empty": "empty_file",
        "truncated": "truncated",
        "checksum": "wrong_checksum",
        "header": "damaged",
        "format": "wrong_format",
        "series": "not_3d",
        "nan": "not_finite",
        "zeros": "constant",
        "flat tumour": "constant",
        "grid": "other_grid",
        "twin": "same_voxels",
    }


def test_every_fault_of_every_scan_is_found_at_once(
    make_subject: MakeSubject, recipe: RecipeConfig
) -> None:
    names = "sound,no file,empty,truncated,checksum,header,format,series,nan,zeros,flat tumour"
    subject = make_subject("S1", (*names.split(","), "grid", "twin"))
    wanted = damage_scans(subject)
    inspection = inspect_subject(subject, recipe, LABELS)
    assert {p.modality: p.kind for p in inspection.problems} == wanted
    assert len(inspection.problems) == len(wanted)
    for problem in inspection.problems:
        assert problem.subject == "S1"
        assert problem.where == str(subject.scans[problem.modality])
        assert problem.found
        # what a study can set is no help to a patient of a trained one
        assert problem.remedy and not re.search(r"(cohort|recipe|slices)\.", problem.remedy)
    messages = {p.modality: p.found for p in inspection.problems}
    assert "has 3 voxels of NaN or infinity" in messages["nan"]
    assert "the subject's sound" in messages["twin"]
    assert "size 23×32×28 against 24×32×28" in messages["grid"]
    assert "every tumour voxel is 7" in messages["flat tumour"]
    assert [view.modality for view in inspection.views] == ["sound"]
    # all readable scans that are not constant are hashed
    assert inspection.hashes.keys() == {"sound", "flat tumour", "grid", "twin"}
    assert inspection.hashes["sound"] == inspection.hashes["twin"] != EMPTY_HASH


@pytest.mark.parametrize(
    ("mask", "kind"),
    [
        (np.zeros(SHAPE), "empty_mask"),
        (TUMOUR * 3, "unknown_mask_label"),
        (ball(SHAPE, (3, 15, 11), 6), "clipped"),
        (ball((12, 32, 28), (6, 15, 11), 3), "other_grid"),
        (None, "no_file"),
    ],
)
def test_a_faulty_mask_hides_no_fault_of_a_scan(
    make_subject: MakeSubject, recipe: RecipeConfig, mask: np.ndarray | None, kind: str
) -> None:
    subject = make_subject("S1", ("T1", "FLAIR"))
    subject.mask.unlink()
    if mask is not None:
        write_scan(subject.mask, mask.astype(np.uint8))
    subject.scans["FLAIR"].write_bytes(b"")
    inspection = inspect_subject(subject, recipe, LABELS)
    assert [(p.kind, p.modality, p.where) for p in inspection.problems] == [
        (kind, "", str(subject.mask)),
        ("empty_file", "FLAIR", str(subject.scans["FLAIR"])),
    ]
    assert inspection.hashes.keys() == {"T1"}
    assert inspection.views == ()


SLICES = SliceRecipe(shape=(16, 16), least_tumour_voxels=20, least_brain_voxels=100)


@pytest.mark.parametrize("volumes", [True, False])
def test_inspection_finds_scans_that_cannot_be_sliced(
    make_subject: MakeSubject, recipe: RecipeConfig, volumes: bool
) -> None:
    against = recipe if volumes else SLICES
    subject = make_subject("S1", ("T1", "FLAIR", "little"))
    scan = np.where(ball(SHAPE, (11, 15, 11), 7), noise("little"), 0).astype(np.int16)
    write_scan(subject.scans["little"], scan)
    assert inspect_subject(subject, recipe, LABELS).problems == ()
    (problem,) = inspect_subject(subject, against, LABELS, SLICES).problems
    assert (problem.kind, problem.modality) == ("constant", "little")
    assert "no slice of subject S1 has 100 voxels of brain" in problem.found
    write_scan(subject.required_mask, ball(SHAPE, (11, 15, 11), 3).astype(np.uint8))
    problems = inspect_subject(subject, against, LABELS, SLICES).problems
    assert [(p.kind, p.modality, p.where) for p in problems] == [
        ("small_tumour", "", str(subject.mask)),
        ("constant", "little", str(subject.scans["little"])),
    ]
    predicted = replace(subject, mask_kind="predicted")
    problems = inspect_subject(predicted, against, LABELS, SLICES).problems
    assert [p.modality for p in problems] == ["little"]
    narrow = SLICES.model_copy(update={"shape": (8, 16)})
    bare = inspect_subject(replace(subject, mask=None), against, LABELS, narrow).problems
    assert {(p.kind, p.modality) for p in bare} >= {("clipped", "T1"), ("clipped", "FLAIR")}


def test_labels_of_the_study_are_not_a_problem(
    make_subject: MakeSubject, recipe: RecipeConfig
) -> None:
    subject = make_subject("S1", mask=TUMOUR * 3)
    assert inspect_subject(subject, recipe, (1, 3)).problems == ()


def test_a_clipped_tumour_and_another_grid_are_accepted_if_the_recipe_says_so(
    make_subject: MakeSubject, recipe: RecipeConfig
) -> None:
    clipped = make_subject("S1", mask=ball(SHAPE, (3, 15, 11), 6))
    allowing = recipe.model_copy(update={"allow_clipping": True})
    assert inspect_subject(clipped, allowing, LABELS).problems == ()
    other = make_subject("S2")
    write_scan(other.scans["T1"], noise("T1")[:-1])
    resampling = recipe.model_copy(update={"resample": True})
    inspection = inspect_subject(other, resampling, LABELS)
    assert inspection.problems == ()
    assert len(inspection.views) == 1
    write_scan(other.scans["T1"], noise("T1")[:15])
    (problem,) = inspect_subject(other, resampling, LABELS).problems
    assert problem.kind == "other_grid"
    num_beyond = int(np.count_nonzero(TUMOUR[15:]))
    assert problem.found.startswith(f"does not reach {num_beyond} tumour voxels of its mask mask")


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    view = View(
        "T1",
        np.arange(PICTURE**2, dtype=np.uint64).astype(np.uint8).reshape(PICTURE, PICTURE),
        np.eye(PICTURE, dtype=bool),
        71,
        -0.1,
        1e9,
        np.arange(BINS),
    )
    problem = Problem("S1", "truncated", "a/b.nii.gz", "größer <b>", "Copy again", "T2")
    written = Inspection("S1", (problem,), {"T1": "ab"}, (view, replace(view, low=0.0)))
    write_inspection(written, tmp_path / "new")
    read = read_inspection(tmp_path / "new", "S1")
    assert read is not None
    for name in ("subject", "problems", "hashes"):
        assert getattr(read, name) == getattr(written, name)
    assert len(read.views) == 2
    for mine, theirs in zip(written.views, read.views, strict=True):
        for name in ("modality", "slice_number", "low", "high"):
            assert getattr(mine, name) == getattr(theirs, name)
        for name in ("picture", "tumour", "counts"):
            np.testing.assert_array_equal(getattr(mine, name), getattr(theirs, name))
            assert getattr(mine, name).dtype == getattr(theirs, name).dtype


@pytest.mark.parametrize("fault", ["gone", "empty", "cut", "text", "flipped"])
def test_an_inspection_that_cannot_be_read_is_as_good_as_none(
    make_subject: MakeSubject, recipe: RecipeConfig, tmp_path: Path, fault: str
) -> None:
    path = write_inspection(inspect_subject(make_subject("S1"), recipe, LABELS), tmp_path)
    assert read_inspection(tmp_path, "S1") is not None
    whole = path.read_bytes()
    middle = len(whole) // 2
    match fault:
        case "gone":
            path.unlink()
        case "empty":
            path.write_bytes(b"")
        case "cut":
            path.write_bytes(whole[:middle])
        case "text":
            path.write_bytes(b"subject,kind\n")
        case "flipped":
            path.write_bytes(whole[:middle] + bytes(64) + whole[middle + 64 :])
    assert read_inspection(tmp_path, "S1") is None


def test_the_key_follows_the_files_and_what_they_are_compared_with(
    make_subject: MakeSubject, recipe: RecipeConfig
) -> None:
    subject = make_subject("S1", ("T1", "FLAIR"))
    key = inspection_key(subject, recipe, LABELS)
    assert key == inspection_key(subject, recipe, LABELS)
    unrelated = {"deform_sigma_voxels": 3.0, "noise_std": 0.5, "seed": 7, "rounds": 2}
    assert key == inspection_key(subject, recipe.model_copy(update=unrelated), LABELS)
    others = [
        inspection_key(subject, recipe.model_copy(update=change), LABELS)
        for change in (
            {"window": ((0, 20), (4, 28), (2, 26))},
            {"allow_clipping": True},
            {"resample": True},
        )
    ]
    others.append(inspection_key(subject, recipe, (1, 2)))
    others.append(inspection_key(subject, recipe, LABELS, SLICES))
    larger = SLICES.model_copy(update={"least_tumour_voxels": 21})
    others.append(inspection_key(subject, recipe, LABELS, larger))
    others.append(inspection_key(replace(subject, scans={"T1": subject.mask}), recipe, LABELS))
    write_scan(subject.scans["FLAIR"], noise("changed"))
    others.append(inspection_key(subject, recipe, LABELS))
    subject.mask.unlink()
    others.append(inspection_key(subject, recipe, LABELS))
    for conventions in (ScanConventions("sform"), ScanConventions(background=-1.0)):
        others.append(inspection_key(replace(subject, conventions=conventions), recipe, LABELS))
    assert len({key, *others}) == 12


@pytest.mark.parametrize("kind", ["unreadable", "no_file", "truncated"])
def test_an_inspection_is_final_unless_a_file_could_not_be_read(kind: ProblemKind) -> None:
    inspection = Inspection("S1", (Problem("S1", kind, "a", "b", "c"),), {}, ())
    assert is_final(inspection_artefact(inspection).description) == (kind == "truncated")


def test_scans_without_a_mask_are_inspected_alone(
    make_subject: MakeSubject, recipe: RecipeConfig
) -> None:
    subject = make_subject("S1", ("T1", "truncated"))
    subject.scans["truncated"].write_bytes(subject.scans["truncated"].read_bytes()[:-2000])
    bare = inspect_subject(replace(subject, mask=None), recipe, LABELS)
    whole = inspect_subject(subject, recipe, LABELS)
    assert bare.hashes == whole.hashes
    assert [p.kind for p in bare.problems] == ["truncated"]
    assert (bare.views, bare.mask_hash) == ((), "")
    key = inspection_key(replace(subject, mask=None), recipe, LABELS)
    assert key != inspection_key(subject, recipe, LABELS)
    subject.mask.unlink()
    assert key == inspection_key(replace(subject, mask=None), recipe, LABELS)


def test_a_mask_on_a_smaller_grid_is_named_as_such(
    make_subject: MakeSubject, recipe: RecipeConfig
) -> None:
    subject = make_subject("S1", ("T1", "FLAIR"))
    write_scan(subject.required_mask, ball((12, 32, 28), (6, 15, 11), 3).astype(np.uint8))
    for resampled in (recipe, recipe.model_copy(update={"resample": True})):
        (problem,) = inspect_subject(subject, resampled, LABELS).problems
        assert (problem.kind, problem.where) == ("other_grid", str(subject.mask))
        assert "smaller grid than T1.nii.gz: size 12×32×28 against 24×32×28" in problem.found


def test_labels_and_box_of_a_mask_are_kept_though_the_window_clips_it(
    make_subject: MakeSubject, recipe: RecipeConfig, tmp_path: Path
) -> None:
    mask = ball(SHAPE, (3, 15, 11), 3) * 2
    mask[3, 15, 11] = 4
    inspection = inspect_subject(make_subject("S1", mask=mask), recipe, LABELS)
    assert [p.kind for p in inspection.problems] == ["clipped"]
    assert inspection.labels == (2, 4)
    assert inspection.mask_shape == SHAPE
    assert inspection.tumour_box == ((0, 7), (12, 19), (8, 15))
    write_inspection(inspection, tmp_path)
    read = read_inspection(tmp_path, "S1")
    assert read is not None and read.tumour_box == inspection.tumour_box
    assert (read.labels, read.mask_shape) == ((2, 4), SHAPE)


def test_labels_by_the_other_preset_are_a_problem_that_names_it(
    make_subject: MakeSubject, recipe: RecipeConfig
) -> None:
    for labels, present, preset in (((1, 2, 4), 3, "brats2023"), ((1, 2, 3), 4, "brats2021")):
        (problem,) = inspect_subject(
            make_subject("S1", mask=TUMOUR * present), recipe, labels
        ).problems
        assert problem.kind == "unknown_mask_label"
        assert f"cohort.mask_labels: {preset} if {present} is" in problem.setting
