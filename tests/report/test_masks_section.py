from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from mgmt_ray.report.html_table import Table
from mgmt_ray.report.section import find_all
from mgmt_ray.report.sections.masks_section import effect_table, masks_sections
from mgmt_ray.report.sections.record_tables import provenance_table
from mgmt_ray.report.study_results import StudyResults, read_study_results
from mgmt_ray.statistics.mask_effect import MASK_EFFECT_COLUMNS

EFFECT = pd.DataFrame(
    [
        ("random", "Struct", 10, 57, 24, 0.71, 0.66, -0.05, -0.12, 0.02, 0.17, 0.0412, 0.83),
        ("random", "T1", 5, 3, 3, *[float("nan")] * 6, 0.02, 0.5),
    ],
    columns=list(MASK_EFFECT_COLUMNS),
)


@pytest.fixture
def results(small_study: Path) -> StudyResults:
    return read_study_results(small_study)


def with_source(results: StudyResults) -> StudyResults:
    config = {**results.config, "mask_source": {"study": "../slices"}}
    subjects = [
        replace(s, mask_kind="predicted", given_mask=Path("g") if i % 2 else None)
        for i, s in enumerate(results.cohort.subjects)
    ]
    cohort = replace(results.cohort, subjects=tuple(subjects))
    return replace(results, config=config, cohort=cohort, tables={"mask_effect": EFFECT})


def test_a_study_of_given_masks_has_no_section_of_predicted_ones(
    results: StudyResults, small_study: Path
) -> None:
    assert masks_sections(small_study, results) == []
    assert "mask source" not in {row[0] for row in provenance_table(results).rows}


def test_the_effect_has_its_interval_and_says_where_it_is_not_defined() -> None:
    table = effect_table(EFFECT)
    assert table.rows[0][2:] == (
        *("57 (24)", "0.710", "0.660", "-0.050\n[-0.120, 0.020]", "0.170", "0.0412", "0.830"),
    )
    assert table.rows[1][2:] == ("3 (3)", *["–"] * 4, "0.0200", "0.500")


def test_the_section_counts_masks_and_excluded_subjects(
    results: StudyResults, small_study: Path, tmp_path: Path
) -> None:
    out = tmp_path / "study"
    shutil.copytree(small_study, out)
    mask = {"file": "f", "tumour_voxels": 9}
    names = [f"n{number}" for number in range(13)]
    (split,) = with_source(results).splits
    tested, trained = split.test, split.training
    subjects = {
        trained[0]: {**mask, "networks": names[:4]},
        trained[1]: {**mask, "networks": names[3:]},
        tested[0]: {**mask, "networks": names},
    }
    trained_on = {
        tested[0]: ["n13"],
        tested[1]: ["n2"],
        tested[2]: ["n13", "n12"],
        trained[0]: ["n5"],
    }
    index = {"study": "/s", "network": "chen", "modality": "FLAIR", "subjects": subjects}
    index |= {"weights_sha256": dict.fromkeys(names, "w")}
    (out / "masks").mkdir()
    (out / "masks" / "masks.json").write_text(json.dumps(index))
    (out / "masks" / "trained.json").write_text(json.dumps(trained_on))
    (out / "mask_effect").mkdir()
    rows = ["subject,dice,left_out_because", "A,0.8,", "B,,no given mask", "C,,no given mask"]
    (out / "mask_effect" / "subjects.csv").write_text("\n".join(rows))
    (section,) = masks_sections(out, with_source(results))
    number = len(results.cohort.subjects)
    by_name = {table.name: table for table in find_all(Table, section.content)}
    assert by_name["mask_kinds"].rows[0][1:] == ("0", str(number), str(number // 2))
    assert by_name["mask_effect_left_out"].rows == (("no given mask", "2"),)
    assert "4 to 13 segmentations (network chen, FLAIR)" in section.content["source"]
    assert f"2 of {len(tested)} test subjects were used to train" in section.content["tested"]
    assert "with predicted masks applied" in section.content["trained_on"]
    named = dict(provenance_table(with_source(results)).rows)
    assert named["predicted masks"] == f"{number} of {number} subjects"
