from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mgmt_ray.base import MgmtError, parse
from mgmt_ray.cohort.cohort import Exclusion
from mgmt_ray.cohort.plain_table import TableConfig, read_table_cohort
from mgmt_ray.cohort.reader import ReaderResult
from mgmt_ray.cohort.scan import read_scan
from mgmt_ray.cohort.subject import Subject
from mgmt_ray.synthetic.table_layout import write_table_copy
from tests.cohort.conftest import kinds, reasons, touch


def write_table(root: Path, *lines: str) -> None:
    (root / "cohort.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def read_folder(root: Path, *modalities: str, **more: object) -> ReaderResult:
    content = {"reader": "table", "root": root, "modalities": modalities or ("FLAIR",), **more}
    return read_table_cohort(parse(TableConfig, content, "test"))


def one_row(root: Path, label: str = "1", scan: str = "f.nii.gz", mask: str = "m.nii.gz") -> None:
    touch(root / "f.nii.gz", root / "m.nii.gz")
    write_table(root, "subject,label,FLAIR,mask", f"P1,{label},{scan},{mask}")


def test_a_copy_has_everything_of_its_source(source: tuple[Subject, ...], tmp_path: Path) -> None:
    # every second without T1GD
    given = [
        replace(s, scans={m: s.scans[m] for m in ("FLAIR", "T1GD")[: 1 + number % 2]})
        for number, s in enumerate(source)
    ]
    names = write_table_copy(given, tmp_path, seed=1)
    result = read_folder(tmp_path, "FLAIR", "T1GD")
    assert [s.id for s in result.subjects] == sorted(names.values())
    subjects = {s.id: s for s in result.subjects}
    for old in given:
        new = subjects[names[old.id]]
        assert new.label == old.label
        assert new.scans.keys() == old.scans.keys()
        for before, after in (
            *((old.scans[m], new.scans[m]) for m in old.scans),
            (old.mask, new.mask),
        ):
            assert np.array_equal(read_scan(before).voxels, read_scan(after).voxels)
        assert {**new.covariates, "site": ""} == {**old.covariates, "site": ""}
    persons = [subjects[names[s.id]].person for s in given]
    assert len(set(persons)) == 9 and persons[8] == persons[9]
    assert result.problems == ()
    without = {names[s.id] for s in given if "T1GD" not in s.scans}
    assert {e.subject for e in result.exclusions if e.scope == "T1GD"} == without
    ((unknown, reason),) = reasons(result).items()
    assert reason == "MGMT unknown" and unknown not in names.values()


def test_the_same_seed_writes_the_same_table(source: tuple[Subject, ...], tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_table_copy(source, tmp_path / name, seed)
    first, same, different = ((tmp_path / n / "cohort.csv").read_bytes() for n in "abc")
    assert first == same != different


def test_paths_are_from_the_root_or_absolute_and_may_be_folders(tmp_path: Path) -> None:
    root = tmp_path / "data"
    touch(root / "sub/f.nii.gz", root / "series/1.dcm")
    mask = touch(tmp_path / "away/m.nii.gz")
    write_table(root, "subject,label,mask,FLAIR,T1", f"P1,1,{mask},sub/f.nii.gz,series")
    (subject,) = read_folder(root, "FLAIR", "T1").subjects
    assert subject.scans == {"FLAIR": root / "sub" / "f.nii.gz", "T1": root / "series"}
    assert subject.mask == mask


def test_other_delimiters_are_read(tmp_path: Path) -> None:
    touch(tmp_path / "f.nii.gz", tmp_path / "m.nii.gz")
    write_table(tmp_path, "\ufeffsubject;label;FLAIR;mask;age", "P1;1;f.nii.gz;m.nii.gz;61")
    (subject,) = read_folder(tmp_path).subjects
    assert (subject.label, subject.covariates) == (1, {"age": "61"})


@pytest.mark.parametrize(
    ("word", "label"),
    [("1", 1), ("Methylated", 1), ("POSITIVE", 1), ("0", 0), ("unmethylated", 0), ("Negative", 0)],
)
def test_labels_are_read_in_any_case(tmp_path: Path, word: str, label: int) -> None:
    one_row(tmp_path, word)
    assert read_folder(tmp_path).subjects[0].label == label


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("", "MGMT not given"),
        ("Unknown", "MGMT unknown"),
        ("indeterminate", "MGMT indeterminate"),
        ("Not Available", "MGMT not available"),
        ("NA", "MGMT na"),
    ],
)
def test_a_subject_without_label_is_excluded(tmp_path: Path, word: str, reason: str) -> None:
    one_row(tmp_path, word)
    assert read_folder(tmp_path) == ReaderResult((), (Exclusion("P1", "cohort", reason),))


@pytest.mark.parametrize("word", ["2", "meth", "0.7"])
def test_another_label_is_a_problem(tmp_path: Path, word: str) -> None:
    one_row(tmp_path, word)
    (problem,) = read_folder(tmp_path).problems
    assert (problem.subject, problem.kind) == ("P1", "unknown_label")
    assert repr(word) in problem.found


@pytest.mark.parametrize(
    ("labels", "kind"),
    [
        (("1", "1"), "duplicated_subject"),
        (("1", "methylated"), "duplicated_subject"),
        (("1", "0"), "two_labels"),
        (("1", "unknown"), "two_labels"),
        (("1", "0", "1"), "two_labels"),
    ],
)
def test_a_subject_in_several_rows_is_a_problem(
    tmp_path: Path, labels: tuple[str, ...], kind: str
) -> None:
    touch(tmp_path / "f.nii.gz", tmp_path / "m.nii.gz")
    write_table(
        tmp_path, "subject,label,FLAIR,mask", *(f"P1,{w},f.nii.gz,m.nii.gz" for w in labels)
    )
    result = read_folder(tmp_path)
    assert result.subjects == result.exclusions == ()
    assert kinds(result) == {"P1": kind}


def test_ids_that_differ_in_case_alone_are_problems(tmp_path: Path) -> None:
    touch(tmp_path / "f.nii.gz", tmp_path / "m.nii.gz")
    rows = (f"{name},1,f.nii.gz,m.nii.gz" for name in ("case_1", "Case_1", "case_2"))
    write_table(tmp_path, "subject,label,FLAIR,mask", *rows)
    result = read_folder(tmp_path)
    assert kinds(result) == {"case_1": "duplicated_subject", "Case_1": "duplicated_subject"}
    assert [s.id for s in result.subjects] == ["case_2"]


def test_a_table_of_another_system_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    touch(tmp_path / "scans" / "f.nii.gz", tmp_path / "m.nii.gz")
    write_table(
        tmp_path, "sep=;", "Subject;LABEL;flair;Mask;Age", r"P1;1.0;scans\f.nii.gz;~/m.nii.gz;45,5"
    )
    (subject,) = read_folder(tmp_path).subjects
    assert subject.scans == {"FLAIR": tmp_path / "scans" / "f.nii.gz"}
    assert (subject.mask, subject.label) == (tmp_path / "m.nii.gz", 1)
    assert subject.covariates == {"age": "45,5"}


def test_a_users_own_table_is_not_to_be_downloaded_again(tmp_path: Path) -> None:
    write_table(tmp_path, "id,label", "P1,1")
    with pytest.raises(MgmtError, match=r"no column subject, mask, FLAIR.*Give these names"):
        read_folder(tmp_path)


def test_a_named_file_that_is_not_there_is_one_problem_of_its_modality(tmp_path: Path) -> None:
    touch(tmp_path / "f.nii.gz", tmp_path / "m.nii.gz")
    write_table(tmp_path, "subject,label,FLAIR,T1,ADC,mask", "P1,1,f.nii.gz,t.nii.gz,a,m.nii.gz")
    result = read_folder(tmp_path, "FLAIR", "T1", "ADC")
    assert [(p.kind, p.where, p.modality) for p in result.problems] == [
        ("no_file", str(tmp_path / "t.nii.gz"), "T1"),
        ("no_file", str(tmp_path / "a"), "ADC"),
    ]
    assert [set(s.scans) for s in result.subjects] == [{"FLAIR"}]
    assert result.exclusions == ()


@pytest.mark.parametrize("cell", ["", "NA", "n/a", "NaN", "-"])
def test_an_empty_or_unknown_cell_is_a_missing_modality(tmp_path: Path, cell: str) -> None:
    touch(tmp_path / "f.nii.gz", tmp_path / "m.nii.gz")
    row = f"P1,1,f.nii.gz,{cell},{cell},m.nii.gz"
    write_table(tmp_path, "subject,label,FLAIR,T1,ADC,mask", row)
    result = read_folder(tmp_path, "FLAIR", "T1", "ADC")
    assert result.problems == ()
    assert result.exclusions == (Exclusion("P1", "T1", "no T1"), Exclusion("P1", "ADC", "no ADC"))
    assert [set(s.scans) for s in result.subjects] == [{"FLAIR"}]


def test_a_subject_without_scans_is_excluded(tmp_path: Path) -> None:
    one_row(tmp_path, scan="")
    out = Exclusion("P1", "cohort", "none of the study's modalities")
    assert read_folder(tmp_path) == ReaderResult((), (out,))


def test_problems_of_scans_and_mask_come_together(tmp_path: Path) -> None:
    one_row(tmp_path, scan="none.nii.gz", mask="NA")
    result = read_folder(tmp_path)
    assert (result.subjects, result.exclusions) == ((), ())
    assert [p.kind for p in result.problems] == ["no_file", "no_mask"]
    one_row(tmp_path, mask="none.nii.gz")
    (problem,) = read_folder(tmp_path).problems
    assert (problem.kind, problem.where) == ("no_file", str(tmp_path / "none.nii.gz"))


def test_other_columns_are_covariates_but_no_scans_or_nameless_ones(tmp_path: Path) -> None:
    touch(tmp_path / "f.nii.gz", tmp_path / "m.nii.gz")
    write_table(
        tmp_path,
        ",subject,label,FLAIR,T1,mask,person,age,site,",
        "0,P1,1,f.nii.gz,t.nii.gz,m.nii.gz,Anna,61, ,x",
        "1,P2,0,f.nii.gz,,m.nii.gz,,,Basel,",
    )
    first, second = read_folder(tmp_path).subjects
    assert (first.person, first.covariates) == ("Anna", {"age": "61"})
    assert (second.person, second.covariates) == ("P2", {"site": "Basel"})


@pytest.mark.parametrize(
    ("columns", "modality", "message"),
    [
        ("subject,label,mask", "FLAIR", "no column FLAIR"),
        ("subject,FLAIR", "FLAIR", "no column label, mask"),
        ("subject,label,mask,FLAIR,FLAIR", "FLAIR", "column FLAIR more than once"),
        ("subject,label,mask,FLAIR,age,age", "FLAIR", "column age more than once"),
        ("subject,label,mask,FLAIR,score", "FLAIR", "column score cannot be a covariate"),
        ("subject,label,mask,FLAIR,modalities", "FLAIR", "column modalities cannot be a covariate"),
    ],
)
def test_columns_that_cannot_be_used_are_rejected(
    tmp_path: Path, columns: str, modality: str, message: str
) -> None:
    write_table(tmp_path, columns)
    with pytest.raises(MgmtError, match=rf"cohort\.csv: .*{message}"):
        read_folder(tmp_path, modality)


@pytest.mark.parametrize("name", ["cohort", "Struct", "DTI", "DSC", "mask", "score", "modalities"])
def test_a_modality_cannot_have_a_name_that_means_something_else(tmp_path: Path, name: str) -> None:
    with pytest.raises(MgmtError, match=f"{name}: reserved name"):
        read_folder(tmp_path, "FLAIR", name)


@pytest.mark.parametrize("word", ["nan", "NA", "Unknown", "none", "-"])
def test_unknown_persons_are_not_one_person(tmp_path: Path, word: str) -> None:
    touch(tmp_path / "f.nii.gz", tmp_path / "m.nii.gz")
    rows = [f"P{number},1,f.nii.gz,m.nii.gz,{word}" for number in (1, 2)]
    write_table(tmp_path, "subject,label,FLAIR,mask,person", *rows)
    assert [s.person for s in read_folder(tmp_path).subjects] == ["P1", "P2"]


def test_a_cell_with_a_line_break_stays_in_one_line(tmp_path: Path) -> None:
    one_row(tmp_path, scan='"f\n.nii.gz"', label='"1\n2"')
    (problem,) = read_folder(tmp_path).problems
    assert str(problem).isprintable()
    one_row(tmp_path, scan='"f\n.nii.gz"')
    (problem,) = read_folder(tmp_path).problems
    assert problem.kind == "no_file" and str(problem).isprintable()


@pytest.mark.parametrize("name", ["a b", "../x", "..", "é", "-x", "a/b", "", "a" * 101])
def test_ids_that_cannot_be_used_in_file_names_are_rejected(tmp_path: Path, name: str) -> None:
    write_table(tmp_path, "subject,label,FLAIR,mask", "P1,1,f,m", f"{name},1,f,m")
    with pytest.raises(MgmtError, match="cannot be used in file names"):
        read_folder(tmp_path)


def test_the_table_may_have_another_name_and_must_be_there(tmp_path: Path) -> None:
    one_row(tmp_path)
    (tmp_path / "cohort.csv").rename(tmp_path / "ours.csv")
    assert len(read_folder(tmp_path, table="ours.csv").subjects) == 1
    with pytest.raises(MgmtError, match=r"cohort\.csv: cannot be read"):
        read_folder(tmp_path)


def test_a_table_without_rows_is_an_error(tmp_path: Path) -> None:
    write_table(tmp_path, "subject,label,FLAIR,mask")
    with pytest.raises(MgmtError, match=r"cohort\.csv: has no rows below its header"):
        read_folder(tmp_path)


def test_the_study_names_the_modalities(tmp_path: Path) -> None:
    with pytest.raises(MgmtError, match="no modality given"):
        parse(TableConfig, {"reader": "table", "root": tmp_path}, "test")
    content = {"reader": "table", "root": tmp_path, "modalities": ["ADC"]}
    assert parse(TableConfig, content, "test").mask_labels == (1, 2, 3, 4)


@pytest.mark.parametrize(
    ("labels", "known", "parts"),
    [
        (None, (1, 2, 3, 4), None),
        ("brats2021", (1, 2, 4), (1, 2, 4)),
        ("brats2023", (1, 2, 3), (1, 2, 3)),
        ([1], (1,), None),
        ([4, 1, 2], (4, 1, 2), (1, 2, 4)),
        ({"necrosis": 3, "edema": 1, "enhancing": 2, "other": [7]}, (3, 1, 2, 7), (3, 1, 2)),
    ],
)
def test_labels_of_masks_are_known_by_number_and_perhaps_by_part(
    tmp_path: Path, labels: object, known: tuple[int, ...], parts: tuple[int, ...] | None
) -> None:
    content = {"reader": "table", "root": tmp_path, "modalities": ["ADC"]}
    config = parse(TableConfig, content | ({"mask_labels": labels} if labels else {}), "test")
    assert config.known_labels == known
    given = config.label_map and tuple(config.label_map.parts.values())
    assert given == parts


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        ("brats2022", "mask_labels: no such preset; write brats2021 or brats2023, a mapping"),
        ({"necrosis": 1, "edema": 1, "enhancing": 4}, "a label is named twice"),
        ({"necrosis": 1, "edema": 2}, "enhancing: Field required"),
    ],
)
def test_unclear_labels_of_masks_are_refused(tmp_path: Path, labels: object, says: str) -> None:
    content = {"reader": "table", "root": tmp_path, "modalities": ["ADC"], "mask_labels": labels}
    with pytest.raises(MgmtError, match=says):
        parse(TableConfig, content, "test")
