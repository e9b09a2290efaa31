from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from mgmt_ray.figures import style
from mgmt_ray.figures.contact_sheet import (
    BRIGHT,
    DARK,
    MISSING,
    WIDTH,
    ScanPreview,
    contact_sheet,
    draw_outline,
    short_names,
)
from mgmt_ray.figures.style import DPI
from mgmt_ray.preprocess.scan_preview import BINS, PICTURE, View


def view(grey: int) -> View:
    """A picture of one grey with a tumour of 20 x 20 pixels in its middle."""
    tumour = np.zeros((PICTURE, PICTURE), bool)
    tumour[38:58, 38:58] = True
    picture = np.full((PICTURE, PICTURE), grey, np.uint8)
    return View("T1", picture, tumour, 70, 0.0, 1.0, np.ones(BINS, np.int64))


def many(number: int, prefix: str = "UPENN-GBM-") -> list[ScanPreview]:
    return [ScanPreview(f"{prefix}{i:05d}_11", i % 2, view(i % 200 + 20)) for i in range(number)]


def drawn(figure: Figure) -> np.ndarray:
    """The pixels of a sheet, 0 to 255, by row, column and colour."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=DPI)
    file.seek(0)
    return np.round(255 * imread(file)[..., :3]).astype(int)


def said(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


def test_every_subject_of_the_public_cohort_is_on_one_legible_sheet() -> None:
    figure = contact_sheet("T1", many(262)[::-1])
    heading, *names = said(figure)
    assert names == [f"{i:05d}_11 {'UM'[i % 2]}" for i in range(262)]
    assert "262 subjects." in heading.replace("\n", " ")
    assert "“UPENN-GBM-”" in heading
    assert all(text.get_fontsize() >= 6 for text in figure.axes[0].texts)
    pixels = drawn(figure)
    assert pixels.shape[1] <= WIDTH
    # the sheet holds every picture pixel by pixel, at most 15 in a row, in the order of ids
    greys = []
    for text in figure.axes[0].texts[1:]:
        x, y = (int(place) for place in text.get_position())
        tile = pixels[y + 3 : y + 3 + PICTURE, x : x + PICTURE]
        np.testing.assert_array_equal(tile, draw_outline(*picture_of(tile[0, 0, 0])))
        greys.append(int(tile[0, 0, 0]))
    assert greys == [i % 200 + 20 for i in range(262)]


def picture_of(grey: int) -> tuple[np.ndarray, np.ndarray]:
    made = view(int(grey))
    return made.picture, made.tumour


def test_names_overlap_neither_each_other_nor_the_pictures() -> None:
    for ids in (
        many(40, ""),
        many(40),
        [ScanPreview("x" * 90 + str(i), 1, view(9)) for i in range(30)],
    ):
        figure = contact_sheet("T1", ids)
        figure.draw_without_rendering()
        boxes = [text.get_window_extent() for text in figure.axes[0].texts]
        for i, box in enumerate(boxes):
            assert not box.count_overlaps(boxes[:i] + boxes[i + 1 :])
            assert box.x0 >= 0
            assert box.x1 <= figure.bbox.x1


def test_a_scan_without_a_picture_is_a_grey_field_with_the_reason() -> None:
    figure = contact_sheet(
        "T1", [ScanPreview("A", 1, view(50)), ScanPreview("B", None, None, "unknown mask label")]
    )
    heading, *names = said(figure)
    assert names == ["A M", "B –", "unknown\nmask label"]
    assert "1 of them without a picture for the given reason" in heading.replace("\n", " ")
    assert "not in the cohort (1)" in heading.replace("\u00a0", " ").replace("\n", " ")
    x, y = (int(place) for place in figure.axes[0].texts[2].get_position())
    field = drawn(figure)[y + 3 : y + 3 + PICTURE, x : x + PICTURE]
    assert (field[:10] == MISSING).all()
    assert (field[40:60].min() < 100).any()


def test_a_label_that_each_split_fits_is_not_shown_before() -> None:
    heading, *names = said(contact_sheet("T1", [ScanPreview(n, "fitted", view(50)) for n in "AB"]))
    assert names == ["A S", "B S"]
    assert (
        heading.replace("\u00a0", " ")
        .replace("\n", " ")
        .endswith("of 2 subjects. S labelled by each split (2).")
    )
    heading, *_ = said(contact_sheet("T1", [*many(5, ""), ScanPreview("B", "fitted", view(50))]))
    assert (
        heading.replace("\u00a0", " ")
        .replace("\n", " ")
        .endswith("M methylated (2), U unmethylated (3), S labelled by each split (1).")
    )


def test_a_sheet_of_hidden_labels_is_the_same_whatever_they_are() -> None:
    scans = [*(ScanPreview(n, "hidden", view(50)) for n in "AB"), ScanPreview("C", None, view(50))]
    figure = contact_sheet("T1", scans)
    heading, *names = said(figure)
    assert names == ["A", "B", "C –"]
    words = heading.replace("\u00a0", " ").replace("\n", " ")
    assert "not in the cohort (1). Labels are hidden until the test set has been opened." in words
    assert "methylated" not in words and "label hidden" not in words
    colours = {text.get_color() for text in figure.axes[0].texts[1:3]}
    assert len(colours) == 1
    assert not colours & {style.LABEL_COLOURS[0], style.LABEL_COLOURS[1]}


def test_the_outline_lies_outside_the_tumour_and_shows_on_any_grey() -> None:
    tumour = np.zeros((12, 12), bool)
    tumour[4:8, 4:8] = True
    for grey in (0, 90, 128, 225, 255):
        picture = np.full((12, 12), grey, np.uint8)
        shown = draw_outline(picture, tumour)
        assert (shown[tumour] == grey).all()
        assert (shown[3, 4:8] == BRIGHT).all()
        assert (shown[2, 4:8] == DARK).all()
        assert (shown[0] == grey).all()
        # luminance of sRGB (ITU-R BT.601), as in a grey print
        printed = shown @ np.array([0.299, 0.587, 0.114])
        assert max(abs(printed[3, 5] - grey), abs(printed[2, 5] - grey)) > 90


def test_a_tumour_at_the_edge_and_none_are_outlined_as_far_as_can_be() -> None:
    edge = np.zeros((4, 4), bool)
    edge[0, 0] = True
    assert (draw_outline(np.zeros((4, 4), np.uint8), edge)[0, 1] == BRIGHT).all()
    picture = np.full((4, 4), 9, np.uint8)
    assert (draw_outline(picture, np.zeros((4, 4), bool)) == 9).all()


@pytest.mark.parametrize(
    ("ids", "prefix", "names"),
    [
        (["UPENN-GBM-00012_11", "UPENN-GBM-00013_11"], "UPENN-GBM-", ["00012_11", "00013_11"]),
        (["00012", "00017"], "", ["00012", "00017"]),
        (["TCGA-02-0001", "TCGA-06-0002"], "TCGA-", ["02-0001", "06-0002"]),
        (["one-subject"], "", ["one-subject"]),
        (["S" * 30, "T"], "", ["S" * 11 + "…" + "S" * 11, "T"]),
    ],
)
def test_ids_lose_what_they_share_but_no_digit(
    ids: Sequence[str], prefix: str, names: list[str]
) -> None:
    assert short_names(ids) == (prefix, names)
