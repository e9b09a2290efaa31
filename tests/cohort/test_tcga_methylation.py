from __future__ import annotations

import gzip
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mgmt_ray.base import MgmtError
from mgmt_ray.cohort.tcga_methylation import read_methylation, stp27_probability

ONE, OTHER = "cg12434587", "cg12981137"
ANNA, BERT = "TCGA-02-0001", "TCGA-06-0125"


def matrix(
    path: Path, samples: dict[str, tuple[object, object]], corner: str = "sample", by: str = "\t"
) -> Path:
    """A matrix with a probe per row, other probes around the two."""
    rows: list[list[object]] = [
        [corner, *samples],
        ["cg00000292", *[0.5] * len(samples)],
        [ONE, *(first for first, _ in samples.values())],
        ["cg12434588", *["NA"] * len(samples)],
        [OTHER, *(second for _, second in samples.values())],
    ]
    path.write_text("".join(by.join(map(str, row)) + "\n" for row in rows))
    return path


def betas(*files: Path) -> dict[str, tuple[float, float]]:
    measured, problems = read_methylation(files, {ANNA, BERT})
    assert not problems
    return {patient: methylation.betas for patient, methylation in measured.items()}


@pytest.mark.parametrize(
    ("first", "second", "logit"),
    [
        (0.5, 0.5, 4.3215),  # M = 0, 0
        (0.2, 0.2, 4.3215 - 2 * 0.5271 - 2 * 0.9265),  # M = log2(1/4) = -2
        (0.8, 0.2, 4.3215 + 2 * 0.5271 - 2 * 0.9265),  # M = 2, -2: the probes' weights differ
        (1 / 17, 1 / 33, 4.3215 - 4 * 0.5271 - 5 * 0.9265),  # M = -4, -5
    ],
)
def test_stp27_has_the_values_computed_by_hand(first: float, second: float, logit: float) -> None:
    expected = 1 / (1 + math.exp(-logit))
    assert stp27_probability(first, second) == pytest.approx(expected, abs=1e-12)


def test_stp27_is_a_probability_where_m_would_be_infinite() -> None:
    # clipped at 1e-6: M = ±19.93, logit 4.3215 ± 1.4536 * 19.93
    assert stp27_probability(1.0, 1.0) == pytest.approx(1)
    assert stp27_probability(0.0, 0.0) == pytest.approx(1.96e-11, rel=0.01)


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_stp27_never_falls_with_either_beta(low: float, high: float, other: float) -> None:
    low, high = sorted((low, high))
    # 1e-12: logarithm and exponential round, far below any difference that matters
    assert stp27_probability(low, other) <= stp27_probability(high, other) + 1e-12
    assert stp27_probability(other, low) <= stp27_probability(other, high) + 1e-12


def test_methylated_by_stp27_is_above_the_published_cut_off(tmp_path: Path) -> None:
    # equal betas reach logit(0.358) = -0.584 at M = -3.375, beta = 0.0879
    path = matrix(tmp_path / "m.tsv", {f"{ANNA}-01": (0.089, 0.089), f"{BERT}-01": (0.087, 0.087)})
    measured, _ = read_methylation([path], {ANNA, BERT})
    assert measured[ANNA].is_methylated_by_stp27
    assert not measured[BERT].is_methylated_by_stp27
    assert measured[ANNA].score == pytest.approx(0.089)


@pytest.mark.parametrize("by", ["\t", ",", ";"])
@pytest.mark.parametrize("end", ["", "A", "A-01D-A45W-05"])
def test_a_matrix_is_read_with_short_and_long_barcodes(tmp_path: Path, by: str, end: str) -> None:
    samples = {f"{ANNA}-01{end}": (0.1, 0.2), f"{BERT}-01{end}": (0.3, 0.4)}
    assert betas(matrix(tmp_path / "m", samples, by=by)) == {ANNA: (0.1, 0.2), BERT: (0.3, 0.4)}


def test_decimal_commas_are_read_between_other_delimiters(tmp_path: Path) -> None:
    samples: dict[str, tuple[object, object]] = {f"{ANNA}-01": ("0,1", "0,25")}
    assert betas(matrix(tmp_path / "m", samples, by=";")) == {ANNA: (0.1, 0.25)}


def test_a_compressed_matrix_is_recognised_by_its_content_not_its_name(tmp_path: Path) -> None:
    path = matrix(tmp_path / "m.txt", {f"{ANNA}-01": (0.1, 0.2)})
    path.write_bytes(gzip.compress(path.read_bytes()))
    assert betas(path) == {ANNA: (0.1, 0.2)}


def test_a_table_of_samples_is_read_whatever_its_columns_order(tmp_path: Path) -> None:
    path = tmp_path / "samples.csv"
    path.write_text(
        f'"","{OTHER}","id","{ONE}","age"\n'
        f'"1",0.2,"{ANNA}-01A",0.1,60\n"2",0.9,"{ANNA}-11A",0.9,60\n"3",0.4,"{BERT}-01",0.3,\n'
    )
    assert betas(path) == {ANNA: (0.1, 0.2), BERT: (0.3, 0.4)}


def test_firehose_gives_the_beta_of_four_columns(tmp_path: Path) -> None:
    barcodes = [f"{ANNA}-01A-01D-0218-05"] * 4 + [f"{BERT}-01A-01D-0218-05"] * 4
    rows = [
        ["Hybridization REF", *barcodes],
        [
            "Composite Element REF",
            *["Beta_value", "Gene_Symbol", "Chromosome", "Genomic_Coordinate"] * 2,
        ],
        [ONE, "0.1", "MGMT", "10", "131265209", "0.3", "MGMT", "10", "131265209"],
        [OTHER, "0.2", "MGMT", "10", "131265575", "0.4", "MGMT", "10", "131265575"],
    ]
    path = tmp_path / "data.txt"
    path.write_text("".join("\t".join(row) + "\n" for row in rows))
    assert betas(path) == {ANNA: (0.1, 0.2), BERT: (0.3, 0.4)}


def test_what_r_writes_is_read(tmp_path: Path) -> None:
    """Dots for hyphens, quotes, and no name above the first column."""
    path = tmp_path / "r.txt"
    dotted = ANNA.replace("-", ".")
    path.write_text(f'"{dotted}.11A"\t"{dotted}.01A"\n"{ONE}"\t0.9\t0.1\n"{OTHER}"\t0.9\t0.2\n')
    assert betas(path) == {ANNA: (0.1, 0.2)}


def test_only_primary_tumours_count(tmp_path: Path) -> None:
    samples = {
        f"{ANNA}-11A": (0.9, 0.9),
        f"{ANNA}-01A": (0.1, 0.2),
        f"{ANNA}-02A": (0.8, 0.8),
        f"{BERT}-02A": (0.8, 0.8),
        f"{BERT}-11": (0.8, 0.8),
    }
    assert betas(matrix(tmp_path / "m", samples)) == {ANNA: (0.1, 0.2)}


def test_several_primary_samples_are_averaged_where_they_have_both_probes(tmp_path: Path) -> None:
    samples = {f"{ANNA}-01A": (0.25, 0.5), f"{ANNA}-01B": (0.75, 1.0), f"{ANNA}-01C": (0.99, "NA")}
    assert betas(matrix(tmp_path / "m", samples)) == {ANNA: (0.5, 0.75)}


@pytest.mark.parametrize("word", ["NA", "", "NaN", "null"])
def test_the_first_file_with_both_probes_wins(tmp_path: Path, word: str) -> None:
    first = matrix(tmp_path / "1", {f"{ANNA}-01": (0.1, word), f"{BERT}-01": (0.3, 0.4)})
    second = matrix(tmp_path / "2", {f"{ANNA}-01": (0.5, 0.6), f"{BERT}-01": (0.7, 0.8)})
    assert betas(first, second) == {ANNA: (0.5, 0.6), BERT: (0.3, 0.4)}
    assert betas(second, first) == {ANNA: (0.5, 0.6), BERT: (0.7, 0.8)}


@pytest.mark.parametrize("value", ["1.2", "-0.01", "inf", "high"])
def test_a_value_that_is_no_beta_is_a_problem_of_its_patient(tmp_path: Path, value: str) -> None:
    samples = {
        f"{ANNA}-01A": (0.1, 0.2),
        f"{ANNA}-01B": (0.1, value),
        f"{BERT}-01": (0.3, 0.4),
        "TCGA-99-9999-01": (value, value),
        f"{BERT}-11": (value, value),
    }
    path = matrix(tmp_path / "m", samples)
    measured, (problem,) = read_methylation([path, path], {ANNA, BERT})
    assert measured.keys() == {BERT}
    assert (problem.subject, problem.kind, problem.where) == (ANNA, "unknown_label", str(path))
    assert repr(value) in problem.found


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not a methylation table"),
        ("gene\tvalue\nMGMT\t0.5\n", "not a methylation table"),
        (f"sample\t{ANNA}-01\n{ONE}\t0.5\n", f"no probe {OTHER}"),
        (f"sample\t{ANNA}-01\n{ONE}\t0.5\n{ONE}\t0.6\n{OTHER}\t0.5\n", f"{ONE} twice"),
        (f"sample\t{ANNA}-01\t{BERT}-01\n{ONE}\t0.5\n{OTHER}\t0.5\t0.6\n", "2 cells.*truncated"),
        (f"id,{ONE},{OTHER}\n{ANNA},0.5,0.5\n", "no samples with barcodes"),
    ],
)
def test_another_kind_of_table_is_rejected(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "m.txt"
    path.write_text(text)
    with pytest.raises(MgmtError, match=rf"m\.txt: .*{message}"):
        read_methylation([path], {ANNA})


def test_a_truncated_or_absent_file_is_rejected(tmp_path: Path) -> None:
    path = matrix(tmp_path / "m.gz", {f"{ANNA}-01": (0.1, 0.2)})
    path.write_bytes(gzip.compress(path.read_bytes())[:-4])
    for file in (path, tmp_path / "nowhere"):
        with pytest.raises(MgmtError, match=r"cannot be read.*cohort\.methylation"):
            read_methylation([file], {ANNA})
