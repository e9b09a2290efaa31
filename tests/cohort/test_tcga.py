from __future__ import annotations

import shutil
from pathlib import Path
from statistics import median

import pytest

from mgmt_ray.base import MgmtError, parse
from mgmt_ray.cohort.reader import ReaderResult
from mgmt_ray.cohort.subject import STRUCTURAL, Subject
from mgmt_ray.cohort.tcga import TcgaConfig, find_tables, read_tcga, session_file
from tests.cohort.conftest import kinds, reasons, touch
from tests.layouts.tcga import IMAGES, write_tcga_copy

ANNA = "TCGA-02-0006"
DATE = "1996.08.23"
NAMES = {"flair": "FLAIR", "t1": "T1", "t1Gd": "T1GD", "t2": "T2"}


def add_session(
    root: Path,
    patient: str,
    date: str = DATE,
    scans: tuple[str, ...] = tuple(NAMES),
    masks: tuple[str, ...] = ("GlistrBoost",),
) -> Path:
    """Empty files under the public names: the reader does not open scans."""
    parts = (*scans, *masks)
    return touch(*(root / patient / session_file(patient, date, part) for part in parts)).parent


def write_betas(root: Path, betas: dict[str, float], name: str = "methylation.csv") -> Path:
    """Both probes have the same beta."""
    lines = ["sample,cg12434587,cg12981137", "TCGA-99-9999-01,0.5,0.5"]
    lines += [f"{patient}-01A,{beta},{beta}" for patient, beta in betas.items()]
    path = root / name
    path.write_text("\n".join(lines) + "\n")
    return path


def read_folder(root: Path, **more: object) -> ReaderResult:
    return read_tcga(parse(TcgaConfig, {"reader": "tcga", "root": root, **more}, "test"))


def test_a_copy_is_found_whole_with_what_real_copies_have(
    source: tuple[Subject, ...], tmp_path: Path
) -> None:
    names = write_tcga_copy(source, tmp_path, seed=3)
    result = read_folder(tmp_path)
    assert result.problems == ()
    folders = {path.name for path in (tmp_path / IMAGES).iterdir()}
    (unmeasured,) = folders - set(names.values())
    assert reasons(result) == {
        f"{names['S0']}_2009.01.31": "follow-up scan",
        unmeasured: "no methylation data",
    }
    kinds = [s.covariates["mask_kind"] for s in result.subjects]
    assert (kinds.count("corrected"), kinds.count("automatic")) == (5, 5)
    tables = {s.covariates["methylation_file"] for s in result.subjects}
    assert tables == {"HumanMethylation450.gz", "HumanMethylation27"}


def test_the_median_rule_gives_the_labels_of_a_balanced_source(
    source: tuple[Subject, ...], tmp_path: Path
) -> None:
    names = write_tcga_copy(source, tmp_path, seed=4)
    scores = {s.id: s.score or 0.0 for s in read_folder(tmp_path).subjects}
    middle = median(scores.values())
    assert {name: score > middle for name, score in scores.items()} == {
        names[s.id]: s.label == 1 for s in source
    }


def test_scans_are_found_by_their_public_names_levels_below(tmp_path: Path) -> None:
    folder = add_session(tmp_path / "tcia" / IMAGES, ANNA)
    touch(folder / f"{ANNA}_{DATE}_t1Gd_unstripped.nii.gz")
    touch(folder / f"._{ANNA}_{DATE}_t1.nii.gz")
    write_betas(tmp_path, {ANNA: 0.25})
    (subject,) = read_folder(tmp_path).subjects
    assert subject.scans == {
        modality: folder / f"{ANNA}_{DATE}_{name}.nii.gz" for name, modality in NAMES.items()
    }
    assert subject.mask == folder / f"{ANNA}_{DATE}_GlistrBoost.nii.gz"
    assert subject.covariates == {
        "mask_kind": "automatic",
        "beta_cg12434587": "0.25",
        "beta_cg12981137": "0.25",
        "methylation_file": "methylation.csv",
    }


def test_the_mask_corrected_by_hand_is_preferred(tmp_path: Path) -> None:
    masks = ("GlistrBoost", "GlistrBoost_ManuallyCorrected")
    folder = add_session(tmp_path, ANNA, masks=masks)
    write_betas(tmp_path, {ANNA: 0.5})
    (subject,) = read_folder(tmp_path).subjects
    assert subject.mask == folder / f"{ANNA}_{DATE}_GlistrBoost_ManuallyCorrected.nii.gz"
    assert subject.covariates["mask_kind"] == "corrected"
    (subject,) = read_folder(tmp_path, corrected_masks=False).subjects
    assert subject.mask == folder / f"{ANNA}_{DATE}_GlistrBoost.nii.gz"


def test_everyone_found_is_a_subject_or_out_with_one_reason_or_a_problem(tmp_path: Path) -> None:
    ids = [f"TCGA-06-000{n}" for n in range(8)]
    add_session(tmp_path, ids[0])
    add_session(tmp_path, ids[1])
    add_session(tmp_path, ids[1], "1997.01.02")
    add_session(tmp_path, ids[1], "1999.01.02")
    add_session(tmp_path, ids[2])  # not in the table
    add_session(tmp_path, ids[3], masks=())
    add_session(tmp_path, ids[4], scans=("t1", "t2"))
    add_session(tmp_path, ids[5], scans=())
    again = add_session(tmp_path, ids[6])
    shutil.copytree(again, tmp_path / "copy" / ids[6])
    add_session(tmp_path, ids[7])
    betas = {name: 0.5 for name in ids if name != ids[2]} | {ids[7]: 1.5}
    write_betas(tmp_path, betas)
    result = read_folder(tmp_path)
    assert {s.id: set(s.scans) for s in result.subjects} == {
        ids[0]: set(STRUCTURAL),
        ids[1]: set(STRUCTURAL),
        ids[4]: {"T1", "T2"},
    }
    assert reasons(result) == {
        f"{ids[1]}_1997.01.02": "follow-up scan",
        f"{ids[1]}_1999.01.02": "follow-up scan",
        ids[2]: "no methylation data",
        ids[5]: "no baseline scans",
    }
    assert len(result.exclusions) == 4
    assert kinds(result) == {
        ids[3]: "no_mask",
        ids[4]: "missing_modality",
        ids[6]: "duplicated_subject",
        ids[7]: "unknown_label",
    }


def test_the_first_date_is_taken_wherever_it_lies(tmp_path: Path) -> None:
    add_session(tmp_path / "a", ANNA, "2001.10.01")
    folder = add_session(tmp_path / "b", ANNA, "2001.09.30")
    write_betas(tmp_path, {ANNA: 0.5})
    (subject,) = read_folder(tmp_path).subjects
    assert subject.scans["T1"] == folder / f"{ANNA}_2001.09.30_t1.nii.gz"


def test_only_wanted_modalities_are_offered(tmp_path: Path) -> None:
    add_session(tmp_path, ANNA, scans=("t1Gd", "t2"))
    write_betas(tmp_path, {ANNA: 0.5})
    result = read_folder(tmp_path, modalities=("T1GD",))
    assert set(result.subjects[0].scans) == {"T1GD"}
    assert result.problems == ()
    out = reasons(read_folder(tmp_path, modalities=("T1",)))
    assert out == {ANNA: "none of the study's modalities"}


def test_a_score_gives_no_label_yet_and_stp27_ignores_the_cohort(tmp_path: Path) -> None:
    betas = {f"TCGA-06-000{n}": beta for n, beta in enumerate((0.05, 0.2, 0.3, 0.4))}
    for patient in betas:
        add_session(tmp_path, patient)
    write_betas(tmp_path, betas)
    by_median = read_folder(tmp_path).subjects
    assert [s.score for s in by_median] == pytest.approx([0.05, 0.2, 0.3, 0.4])
    assert [s.label for s in by_median] == [0, 0, 0, 0]
    assert [s.label for s in read_folder(tmp_path, rule="stp27").subjects] == [0, 1, 1, 1]


def test_unpacked_files_are_read_and_packed_ones_go_before_them(tmp_path: Path) -> None:
    folder = add_session(tmp_path, ANNA)
    packed = folder / session_file(ANNA, DATE, "t1")
    packed.rename(packed.with_suffix(""))
    touch(folder / session_file(ANNA, DATE, "t2").removesuffix(".gz"))
    write_betas(tmp_path, {ANNA: 0.5})
    result = read_folder(tmp_path)
    assert result.problems == ()
    assert result.subjects[0].scans["T1"] == packed.with_suffix("")
    assert result.subjects[0].scans["T2"] == folder / session_file(ANNA, DATE, "t2")


def test_files_five_levels_below_are_found_and_hidden_folders_are_not_looked_into(
    tmp_path: Path,
) -> None:
    folder = add_session(tmp_path / "a" / "b" / "c" / "d", ANNA)
    add_session(tmp_path / ".cache", ANNA)
    write_betas(tmp_path, {ANNA: 0.5})
    (subject,) = read_folder(tmp_path).subjects
    assert subject.scans["T1"].parent == folder


def test_a_link_that_points_nowhere_is_a_problem(tmp_path: Path) -> None:
    folder = add_session(tmp_path, ANNA)
    link = folder / session_file(ANNA, DATE, "t1")
    link.unlink()
    link.symlink_to("nowhere")
    write_betas(tmp_path, {ANNA: 0.5})
    (problem,) = read_folder(tmp_path).problems
    assert (problem.kind, problem.modality, problem.where) == ("no_file", "T1", str(link))


def test_named_tables_are_read_in_their_order_and_others_are_not(tmp_path: Path) -> None:
    add_session(tmp_path, ANNA)
    write_betas(tmp_path, {ANNA: 0.1})
    first, second = (write_betas(tmp_path, {ANNA: b}, f"{b}.csv") for b in (0.2, 0.3))
    (subject,) = read_folder(tmp_path, methylation=(second, first)).subjects
    assert subject.score == pytest.approx(0.3)


def test_tables_are_found_by_name_the_newer_array_first(tmp_path: Path) -> None:
    names = (
        "HumanMethylation27",
        "HumanMethylation27.gz",
        "TCGA.GBM.sampleMap_HumanMethylation450.gz",
        "GBM.methylation__humanmethylation450__Level_3__data.data.txt",
        "methylation.csv",
        "Methylation.tsv.gz",
    )
    others = ("methylation.pdf", ".methylation.csv", "clinical.csv", "methylation.json")
    tables = find_tables(tmp_path, [tmp_path / name for name in (*others, *names)])
    assert {path.name for path in tables} == set(names)
    assert ["450" in path.name for path in tables] == [True, True, False, False, False, False]


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(MgmtError, match=r"nowhere: no such folder.*cohort\.root"):
        read_folder(tmp_path / "nowhere")
    write_betas(tmp_path, {})
    with pytest.raises(MgmtError, match=r"no TCGA scans; looked for.*flair\.nii\.gz"):
        read_folder(tmp_path)
    (tmp_path / "methylation.csv").unlink()
    add_session(tmp_path, ANNA)
    with pytest.raises(MgmtError, match=r"no methylation table.*cohort\.methylation"):
        read_folder(tmp_path)


def test_without_whole_groups_a_patient_has_the_scans_that_there_are(tmp_path: Path) -> None:
    add_session(tmp_path, ANNA, scans=("flair",))
    write_betas(tmp_path, {ANNA: 0.5})
    asked = {"modalities": ["FLAIR", "T1GD"]}
    (subject,) = read_folder(tmp_path, **asked, whole_groups=False).subjects
    assert [*subject.scans] == ["FLAIR"]
    (problem,) = read_folder(tmp_path, **asked).problems
    assert problem.kind == "missing_modality"
