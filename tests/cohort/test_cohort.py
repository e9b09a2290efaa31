from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mgmt_ray.base import MgmtError
from mgmt_ray.cohort.cohort import Cohort, Exclusion, exclusion_flow, read_cohort, write_cohort
from mgmt_ray.cohort.subject import Subject


def subject(name: str, label: int = 1, modalities: tuple[str, ...] = ("FLAIR",)) -> Subject:
    scans = {m: Path("scans") / f"{name}_{m}.nii.gz" for m in modalities}
    return Subject(name, label, scans, Path("masks") / name, {"age": "61.5", "sex": "F"})


def test_a_cohort_comes_back_as_it_was_written(tmp_path: Path) -> None:
    cohort = Cohort(
        (subject("b", 0, ("PH", "FLAIR")), subject("a")),
        (Exclusion("c", "cohort", "no tumour mask"), Exclusion("a", "DSC", "no DSC, alas")),
    )
    write_cohort(cohort, tmp_path)
    again = read_cohort(tmp_path)
    assert again == cohort
    assert [s.id for s in again.subjects] == ["a", "b"]
    assert again.hash == cohort.hash


def test_modalities_of_any_name_persons_and_scores_come_back(tmp_path: Path) -> None:
    scans = {"SWI": Path("swi.nii.gz"), "T1": Path("t1")}
    first = Subject("a", 1, scans, Path("m"), {"T2": "a covariate"}, "person 7", 0.1 + 0.2)
    cohort = Cohort((first, subject("b", 0, ("FLAIR",))))
    write_cohort(cohort, tmp_path)
    assert read_cohort(tmp_path) == cohort
    assert cohort.modalities == ("FLAIR", "T1", "SWI")


def test_a_label_that_follows_from_a_score_does_not_enter_the_hash() -> None:
    low, high = (Subject("a", label, {}, Path("m"), score=0.4) for label in (0, 1))
    assert Cohort((low,)).hash == Cohort((high,)).hash
    assert Cohort((low,)).hash != Cohort((Subject("a", 0, {}, Path("m"), score=0.5),)).hash


def test_the_hash_tells_labels_and_modalities_apart() -> None:
    cohort = Cohort((subject("a", 1),))
    assert cohort.hash != Cohort((subject("a", 0),)).hash
    assert cohort.hash != Cohort((subject("a", 1, ("FLAIR", "PH")),)).hash


def test_a_subject_that_appears_twice_is_rejected() -> None:
    with pytest.raises(MgmtError, match=r"a appear more than once.*cohort\.exclude"):
        Cohort((subject("a"), subject("b"), subject("a", 0)))


def test_a_cohort_that_was_not_written_says_how_to_write_it(tmp_path: Path) -> None:
    with pytest.raises(MgmtError, match="mgmt-ray cohort"):
        read_cohort(tmp_path)


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        (
            "cohort.csv",
            "subject,label,FLAIR,mask\na,1,f,m\n",
            "no column person, score, modalities",
        ),
        (
            "cohort.csv",
            "subject,label,person,score,modalities,mask\na,1,a,,T1,m\n",
            "KeyError: 'T1'",
        ),
        (
            "cohort.csv",
            "subject,label,person,score,modalities,mask\na,x,a,,,m\n",
            "invalid literal",
        ),
        ("exclusions.csv", "subject,why\na,b\n", "no column scope, reason"),
        ("exclusions.csv", None, "No such file"),
    ],
)
def test_tables_of_other_programs_are_rejected(
    tmp_path: Path, name: str, text: str | None, says: str
) -> None:
    write_cohort(Cohort((subject("a"),)), tmp_path)
    (tmp_path / name).unlink()
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(MgmtError, match=rf"{name}: is not as .* wrote it \(.*{says}"):
        read_cohort(tmp_path)


def test_the_flow_counts_everyone_once() -> None:
    cohort = Cohort(
        (subject("a"), subject("b", 0, ("PH", "FLAIR"))),
        (
            Exclusion("a", "DSC", "no DSC"),
            Exclusion("c", "cohort", "no tumour mask"),
            Exclusion("d", "cohort", "no tumour mask"),
        ),
    )
    assert exclusion_flow(cohort, ("PH", "FLAIR")) == [
        ("found", 4),
        ("excluded: no tumour mask", 2),
        ("in the cohort", 2),
        ("  methylated", 1),
        ("  unmethylated", 1),
        ("  with DSC", 1),
        ("  with Struct", 2),
    ]


def test_a_predicted_mask_is_recorded_in_the_table_and_the_hash(tmp_path: Path) -> None:
    given = Subject("a", 1, {"T1": Path("t")}, Path("m"))
    lacking = Subject("b", 0, {"T1": Path("t")}, None)
    predicted = replace(given, mask=Path("p"), mask_kind="predicted", given_mask=Path("m"))
    cohort = Cohort((predicted, lacking))
    write_cohort(cohort, tmp_path)
    assert read_cohort(tmp_path) == cohort
    assert cohort.hash != Cohort((given, lacking)).hash
    assert cohort.roster_hash == Cohort((given, lacking)).roster_hash
    assert ("  with a predicted mask", 1) in exclusion_flow(cohort, ("T1",))


def test_a_table_from_before_there_were_predicted_masks_is_read(tmp_path: Path) -> None:
    cohort = Cohort((Subject("a", 1, {"T1": Path("t")}, Path("m")),))
    write_cohort(cohort, tmp_path)
    rows = [line.split(",") for line in (tmp_path / "cohort.csv").read_text().splitlines()]
    old = [",".join(row[:6] + row[8:]) for row in rows]
    assert "mask" in old[0] and "given_mask" not in old[0]
    (tmp_path / "cohort.csv").write_text("\n".join(old) + "\n")
    assert read_cohort(tmp_path) == cohort
