from __future__ import annotations

import csv
import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mgmt_ray.report.html_table import (
    DASH,
    LONGTABLE_ROWS,
    Table,
    beside_paper,
    latex,
    number,
    p_value,
    slug,
    table_csv,
    table_latex,
    with_interval,
)

NASTY = Table("nasty", "50 % of A_1 & B", ("Name", "AUC\npaper's"), (("[x]\\", "0.5\n[0.4, 0.6]"),))


def test_a_csv_holds_the_cells_in_one_line_each() -> None:
    rows = list(csv.reader(io.StringIO(table_csv(NASTY))))
    assert rows == [["Name", "AUC paper's"], ["[x]\\", "0.5 [0.4, 0.6]"]]


def test_latex_has_booktabs_rules_and_escaped_text() -> None:
    text = table_latex(NASTY)
    assert [line for line in text.splitlines() if line.endswith("rule")] == [
        r"\toprule",
        r"\midrule",
        r"\bottomrule",
    ]
    assert r"\caption{50 \% of A\_1 \& B}" in text and r"\label{tab:nasty}" in text
    # a bracket after the end of a row would be that row's argument
    assert r"{[}x{]}\textbackslash{} & 0.5 {[}0.4, 0.6{]} \\" in text
    assert r"\begin{tabular}{ll}" in text


def test_a_long_table_may_break_over_pages() -> None:
    long = Table("long", "many", ("a", "b"), (("x", "y"),) * LONGTABLE_ROWS)
    assert r"\begin{longtable}{ll}" in table_latex(long)
    assert table_latex(long).count(r"x & y \\") == LONGTABLE_ROWS


@given(st.text(alphabet=st.characters(max_codepoint=126, min_codepoint=32)))
def test_no_letter_is_a_command_that_was_not_meant(text: str) -> None:
    shown = latex(text)
    for command in ("textbackslash", "textasciitilde", "textasciicircum", "textless"):
        shown = shown.replace(f"\\{command}{{}}", "")
    for command in ("textgreater", "textbar", "textquotedbl"):
        shown = shown.replace(f"\\{command}{{}}", "")
    shown = re.sub(r"\\[{}&%$#_]", "", shown).replace("{[}", "").replace("{]}", "")
    assert not set(shown.replace("{*}", "")) & set("\\{}&%$#_^~<>|[]*")


def test_what_is_not_defined_is_a_dash() -> None:
    nan = float("nan")
    assert (p_value(None), p_value(nan), number(nan)) == (DASH,) * 3
    assert with_interval({"ppv": nan, "ppv_low": nan, "ppv_high": nan}, "ppv") == DASH
    assert with_interval({"slope": 1.5, "slope_low": nan, "slope_high": nan}, "slope") == "1.500"
    assert with_interval({"auc": 0.5, "auc_low": 0.4, "auc_high": 0.6}, "auc") == (
        "0.500\n[0.400, 0.600]"
    )
    assert (p_value(0.00001), p_value(0.0321), p_value(0.5)) == ("< 0.0001", "0.0321", "0.500")


def test_a_row_of_another_length_is_refused() -> None:
    with pytest.raises(AssertionError, match="ragged"):
        Table("t", "c", ("a", "b"), (("1",),))


def test_a_slug_is_a_file_name_whatever_a_network_is_called() -> None:
    assert slug("DSC+Struct") == "dsc_struct"
    assert slug("../Ä b") == "b"
    assert slug("transfer-2") == "transfer-2"


def test_a_papers_column_goes_where_nothing_is_printed_in_it_and_no_other() -> None:
    header = ("Model", "AUC", "paper's\nAUC", "SEN", "paper's\nSEN")
    rows = (("a", "–", "–", "0.5", "0.6"), ("b", "–", "–", "0.5", "–"))
    table = Table("name", "caption", header, rows)
    kept = beside_paper(table, True, "table 2")
    assert kept.header == ("Model", "AUC", "SEN", "paper's\nSEN")
    assert kept.rows == (("a", "–", "0.5", "0.6"), ("b", "–", "0.5", "–"))
    assert kept.caption == "caption, next to table 2 of the paper"
    # of other patients none of them is shown
    others = beside_paper(table, False, "table 2")
    assert (others.header, others.caption) == (("Model", "AUC", "SEN"), "caption")


def test_a_plus_minus_sign_is_mathematics_in_latex() -> None:
    assert latex("0.8 ± 0.1") == r"0.8 $\pm$ 0.1"
